"""The results of `fte check`: rich renderables for a terminal, JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from finetuning_exam.data.check import Check, answer_classes, tag_counts
from finetuning_exam.data.encoding.lengths import Lengths
from finetuning_exam.data.findings import Finding, by_kind, grouped
from finetuning_exam.data.kinds import SEVERITIES, Severity
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.split import MIN_ROWS_FOR_HOLDOUT, Split, prompt_key
from finetuning_exam.durable import Json
from finetuning_exam.evaluation.outlook import ExamOutlook
from finetuning_exam.report.text import counted, on_one_line, pieces_words, visible

MAX_SHOWN = 20
"""The number of findings of one kind that are shown; the rest are counted."""
MAX_BARS = 12
_NAME_WIDTH, _BAR_WIDTH = 30, 24
_COLOURS: Mapping[Severity, str] = {"error": "red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True, slots=True)
class Outlook:
    """A prediction of a training on the checked data.

    `lengths` covers all usable training examples, `steps_per_epoch` those of the training part.
    """

    model: str
    template: str
    lengths: Lengths
    split: Split
    exam: ExamOutlook
    steps_per_epoch: int
    rows_per_step: int


def findings_report(findings: Sequence[Finding]) -> RenderableType:
    """Render findings by kind, the most serious first, at most `MAX_SHOWN` of a kind.

    A finding is one line however long, so that its place can be copied.
    """
    parts: list[RenderableType] = []
    for kind, found in by_kind(findings):
        heading = Text(f"{kind.severity}: ", style=f"bold {_COLOURS[kind.severity]}")
        heading.append(f"{kind.title} ({len(found):,})", style="bold")
        parts.append(heading)
        lines = grouped(found)
        parts += [_indented(line) for line, _ in lines[:MAX_SHOWN]]
        if n_more := sum(size for _, size in lines[MAX_SHOWN:]):
            parts.append(_indented(f"… and {n_more:,} more."))
        parts += [_indented(f"→ {kind.hint}"), Text()]
    return Group(*parts)


def summary(findings: Sequence[Finding]) -> str:
    """Return the number of errors, warnings and notes as one sentence."""
    counts = _counts(findings)
    totals = [counted(counts[severity], severity) for severity in SEVERITIES if counts[severity]]
    return f"{', '.join(totals) or 'No findings'}."


def kinds_lines(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the number and first place of each kind, e.g. `exact duplicate: 3 (a.jsonl:7 …)`."""
    return tuple(
        f"{kind.title}: {len(found):,} ({found[0].where}{' …' if len(found) > 1 else ''})"
        for kind, found in by_kind(findings)
    )


def outlook_report(check: Check, outlook: Outlook) -> RenderableType:
    """Render the lengths, tags, answer classes, the split, and the steps of an epoch."""
    parts: list[RenderableType] = [
        Text(visible(f"Tokens ({outlook.model}, {outlook.template} template): {_lengths(outlook)}"))
    ]
    for name, counts in _balances(check).items():
        parts += [Text(f"{name}:"), _bars(counts)]
    parts.append(Text(visible(split_line(outlook.split, check.exam))))
    parts.append(Text(f"Exam: {pieces_words(outlook.exam.n_examples, outlook.exam.n_clusters)}."))
    if warning := exam_warning(outlook.exam, outlook.split, check.exam):
        parts.append(Text(f"Warning: {warning}", style="yellow"))
    steps = counted(outlook.steps_per_epoch, "step")
    parts.append(Text(f"One epoch: {steps} of {counted(outlook.rows_per_step, 'row')}."))
    return Group(*parts)


def split_line(split: Split, exam: Records | None) -> str:
    """Return the size of each part of the split, and where the exam is from, as one sentence."""
    if exam:
        source = exam.path + (", all in the training data" if split.exam_is_training else "")
    else:
        itself = "the training examples themselves"
        if len(split.train) < MIN_ROWS_FOR_HOLDOUT:
            itself += f", because fewer than {MIN_ROWS_FOR_HOLDOUT} are not divided"
        source = itself if split.exam_is_training else "held out from the same data"
    return (
        f"Split: {counted(len(split.train), 'example')} to train on, "
        f"{len(split.validation):,} to choose the best step, "
        f"{len(split.exam):,} for the exam ({source})."
    )


def folds_line(folds: Sequence[Split], n_examples: int) -> str:
    """Return the sizes of the folds of a cross-validation as one sentence."""
    sizes, rests = (
        _range([len(examples) for examples in parts])
        for parts in (
            [split.exam for split in folds],
            [(*split.train, *split.validation) for split in folds],
        )
    )
    noun = "example" if sizes == "1" else "examples"
    return (
        f"Cross-validation: {len(folds)} folds of {sizes} {noun}, each examined by an adapter "
        f"trained on the other {rests}; then the saved adapter is trained on all {n_examples:,}."
    )


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def folds_warning(outlook: ExamOutlook) -> str:
    """Say why a cross-validation can only find `too few examples to tell`; else empty."""
    if outlook.can_tell:
        return ""
    size = pieces_words(outlook.n_examples, outlook.n_clusters)
    return (
        f'even all folds together have only {size}, so the verdict can only be "too few examples '
        'to tell". To change that, add rows with other questions.'
    )


def exam_warning(outlook: ExamOutlook, split: Split, exam: Records | None) -> str:
    """Say why the verdict can only be `too few examples to tell`, and what to do; else empty."""
    if outlook.can_tell:
        return ""
    verdict = 'the verdict can only be "too few examples to tell"'
    file = "give an exam file of other questions with --eval_file"
    if split.exam_is_training:
        reason = "the exam uses the training rows, so it says nothing about new questions"
        if exam:
            return f"{reason}, and {verdict}. To change that, {file}."
        different = f"use at least {MIN_ROWS_FOR_HOLDOUT} different questions"
        remedies = _remedies(outlook, different, file)
        return (
            f"nothing is held out ({_questions(split)}): {reason}, and {verdict}. To change that, "
            f"{remedies}."
        )
    size = pieces_words(outlook.n_examples, outlook.n_clusters)
    if exam:
        return f"the exam has only {size}, so {verdict}. To change that, add questions to the exam."
    remedies = _remedies(outlook, "use more examples", file)
    return f"the exam has only {size}, so {verdict}. To change that, {remedies}."


def _questions(split: Split) -> str:
    different = len({prompt_key(example) for example in split.train})
    rows = counted(len(split.train), "row")
    return f"{counted(different, 'different question')} in {rows}"


def _remedies(outlook: ExamOutlook, more_rows: str, file: str) -> str:
    """List what would help; `more_rows` only where no larger share does."""
    share = outlook.fraction
    found = [f"hold out more with --eval_fraction {share:g}" if share else more_rows]
    if outlook.folds:
        found.append(f"examine every row by cross-validation with --folds {outlook.folds}")
    return f"{', '.join(found)}, or {file}"


def to_json(check: Check, findings: Sequence[Finding], outlook: Outlook | None) -> Json:
    """Return everything as JSON; the outlook is null if no record is usable."""
    files: list[Json] = [
        {"use": use, **asdict(source)}
        for use, records in (("training", check.train), ("exam", check.exam))
        if records
        for source in records.sources
    ]
    counts = _counts(findings)
    return {
        "files": files,
        "n_records": len(check.train.examples),
        "kinds": {
            kind.name.lower(): {
                "severity": kind.severity,
                "title": kind.title,
                "hint": kind.hint,
                "count": len(found),
            }
            for kind, found in by_kind(findings)
        },
        "counts": {f"{it}s": counts[it] for it in SEVERITIES},
        "findings": [finding_to_json(finding) for finding in findings],
        "tags": dict(tag_counts(check.train.examples)),
        "answer_classes": dict(answer_classes(check.train.examples)),
        "outlook": outlook_to_json(outlook) if outlook else None,
    }


def finding_to_json(finding: Finding) -> Json:
    """Return a finding as JSON; `line` and `column` are null for a whole file or line."""
    return {
        "kind": finding.kind.name.lower(),
        "severity": finding.kind.severity,
        "path": finding.path,
        "line": finding.line or None,
        "column": finding.column or None,
        "detail": finding.detail,
    }


def outlook_to_json(outlook: Outlook) -> Json:
    """Return the prediction for a training on this data as JSON."""
    split = outlook.split
    return {
        "model": outlook.model,
        "template": outlook.template,
        "tokens": dict(asdict(outlook.lengths)),
        "rows": {
            "train": len(split.train),
            "validation": len(split.validation),
            "exam": len(split.exam),
        },
        "exam_is_training": split.exam_is_training,
        "exam_pieces_of_evidence": outlook.exam.n_clusters,
        "exam_can_tell": outlook.exam.can_tell,
        "rows_per_step": outlook.rows_per_step,
        "steps_per_epoch": outlook.steps_per_epoch,
    }


def _lengths(outlook: Outlook) -> str:
    lengths = outlook.lengths
    share = lengths.n_supervised / lengths.n_tokens
    return (
        f"{lengths.shortest:,} to {lengths.longest:,} per row, median {lengths.median:,}, "
        f"95th percentile {lengths.percentile_95:,}, limit {lengths.limit:,}; "
        f"{lengths.n_tokens:,} in total, {share:.0%} of them trained."
    )


def _balances(check: Check) -> dict[str, dict[str, int]]:
    """Return the counts that are shown as bars: tags, and answers that are a few classes."""
    examples = check.train.examples
    tags, classes = tag_counts(examples), answer_classes(examples)
    return {name: found for name, found in (("Tags", tags), ("Answers", classes)) if found}


def _bars(counts: Mapping[str, int]) -> RenderableType:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ordered[:MAX_BARS]
    names = [Text(on_one_line(name)) for name, _ in shown]
    for name in names:
        name.truncate(_NAME_WIDTH, overflow="ellipsis")
    width, most = max(name.cell_len for name in names), ordered[0][1]
    lines: list[Text] = []
    for name, (_, count) in zip(names, shown, strict=True):
        line = Text("  ").append_text(name)
        line.append(f"{' ' * (width - name.cell_len)}  {count:>{len(f'{most:,}')},}  ")
        lines.append(line.append("█" * max(1, round(_BAR_WIDTH * count / most)), style="cyan"))
    if len(ordered) > MAX_BARS:
        rest = sum(count for _, count in ordered[MAX_BARS:])
        lines.append(Text(f"  … and {len(ordered) - MAX_BARS:,} more, {rest:,} in total"))
    return Group(*lines)


def _indented(text: str) -> Text:
    return Text(f"  {on_one_line(text)}")


def _counts(findings: Sequence[Finding]) -> Counter[Severity]:
    return Counter(finding.kind.severity for finding in findings)
