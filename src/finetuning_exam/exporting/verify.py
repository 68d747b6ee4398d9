"""Compare an exported model with the trained one, on the exam's questions, in its own program."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.evidence import pieces_of_evidence
from finetuning_exam.evaluation.results import chrf, compare_scores
from finetuning_exam.evaluation.verdict import Verdict, verdict
from finetuning_exam.exporting.diagnose import where_it_differs
from finetuning_exam.exporting.limits import Limits, limits_of
from finetuning_exam.exporting.measure import TokenNlls, margin, token_nlls
from finetuning_exam.exporting.questions import Question
from finetuning_exam.exporting.reference import greedy_ids
from finetuning_exam.exporting.report import Check, Figures, Verification
from finetuning_exam.exporting.runtime import Runtime, Written
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.text_checks import text_checks
from finetuning_exam.model.mode import on_side
from finetuning_exam.model.score import Score
from finetuning_exam.model.session import Session

OnStage = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """The trained model: base and adapter in float32, not merged."""

    session: Session
    base: list[TokenNlls]
    tuned: list[TokenNlls]
    written: list[Written]


@dataclass(frozen=True, slots=True)
class Terms:
    """What an export is held to: the limits of its number format, and `checks` made before."""

    number_format: str
    max_new_tokens: int
    seed: int
    checks: tuple[Check, ...] = ()


def measure_reference(
    session: Session, questions: Sequence[Question], max_new_tokens: int, on_stage: OnStage
) -> Reference:
    """Score and answer the questions with the base and its adapter."""
    rows = [it.row for it in questions]
    on_stage("scoring with the trained model")
    with on_side(session.model, "base"):
        base = token_nlls(session.model, rows)
    tuned = token_nlls(session.model, rows)
    on_stage("answering with the trained model")
    written = greedy_ids(session, _prompts(questions), max_new_tokens)
    return Reference(session, base, tuned, written)


def verify(
    source: Source,
    questions: Sequence[Question],
    reference: Reference,
    runtime: Runtime,
    terms: Terms,
    on_stage: OnStage,
) -> Verification:
    """Compare an export with the trained model; the checks name everything that differs."""
    start = time.monotonic()
    limits = limits_of(terms.number_format)
    rows = [it.row for it in questions]
    on_stage(f"comparing texts in {runtime.name}")
    checks = [*terms.checks, *text_checks(source, questions, runtime)]
    on_stage(f"scoring in {runtime.name}")
    exported = runtime.score(rows)
    checks.append(_likelihood(reference, exported, runtime, rows, limits))
    on_stage(f"answering in {runtime.name}")
    written = runtime.answer(_prompts(questions), terms.max_new_tokens)
    checks.append(_greedy(source, questions, reference, written, limits))
    checks.append(_stops(reference.written, written, limits))
    verdicts = _verdicts(questions, reference, exported, terms.seed)
    same = verdicts[0] == verdicts[1]
    checks.append(
        Check(
            "verdict",
            verdicts[1],
            "" if same else f"the exam's verdict is {verdicts[1]!r}, and was {verdicts[0]!r}",
        )
    )
    return Verification(
        runtime.name,
        len(questions),
        sum(map(len, exported)),
        *verdicts,
        _figures(source, reference, exported, written),
        tuple(checks),
        time.monotonic() - start,
    )


def not_loaded(
    questions: Sequence[Question], reference: Reference, terms: Terms, reason: str
) -> Verification:
    """Return the verification of an export that its program does not even load."""
    verdicts = _verdicts(questions, reference, reference.tuned, terms.seed)
    nothing = [math.nan] * 7
    return Verification(
        "no program",
        len(questions),
        sum(map(len, reference.tuned)),
        verdicts[0],
        None,
        Figures(_mean(reference.base), _mean(reference.tuned), *nothing),
        (*terms.checks, Check("loads", "no", reason)),
        0.0,
    )


def _prompts(questions: Sequence[Question]) -> list[tuple[int, ...]]:
    """Return the prompts of the questions; a plain text asks nothing and has none."""
    rows = (it.row for it in questions if not it.example.is_plain_text)
    return [row.ids[: row.prompt_length] for row in rows]


def _changes(tuned: Sequence[TokenNlls], exported: Sequence[TokenNlls]) -> Iterator[float]:
    for before, after in zip(tuned, exported, strict=True):
        for old, new in zip(before, after, strict=True):
            yield new - old


def _likelihood(
    reference: Reference,
    exported: Sequence[TokenNlls],
    runtime: Runtime,
    rows: Sequence[Encoded],
    limits: Limits,
) -> Check:
    changes = list(_changes(reference.tuned, exported))
    change = math.fsum(changes) / len(changes)
    apart = math.fsum(map(abs, changes)) / len(changes)
    found = f"{change:+.5f} nats per token, {apart:.5f} apart on average"
    fault = ""
    # A NaN is within no limit.
    spread = math.fsum((it - change) ** 2 for it in changes) / len(changes)
    by_chance = 3 * math.sqrt(spread / len(changes))
    if not (abs(change) <= limits.nll + by_chance and apart <= limits.token):
        where = where_it_differs(reference.session.model, runtime, rows, limits.token)
        fault = f"the likelihood of the answers differs by {change:+.4f} nats per token{where}"
    return Check("likelihood", found, fault)


def _greedy(
    source: Source,
    questions: Sequence[Question],
    reference: Reference,
    written: Sequence[Written],
    limits: Limits,
) -> Check:
    """Compare greedy answers; one that leaves at a tie of the trained model counts as the same."""
    prompts = _prompts(questions)
    n_same = n_ties = 0
    first = ""
    for prompt, (old, _), (new, _) in zip(prompts, reference.written, written, strict=True):
        place = next(
            (at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
            min(len(old), len(new)),
        )
        if old == new:
            n_same += 1
            continue
        token = new[place] if place < len(new) else source.end_id
        ids = (*prompt, *old[:place])
        if margin(reference.session.model, ids, token) <= limits.tie:
            n_ties += 1
        elif not first:
            first = repr(source.tokenizer.decode(list(new[:20])))
    n = len(prompts)
    ties = f", {n_ties} more but for a tie" if n_ties else ""
    share = (n_same + n_ties) / n if n else 1.0
    fault = ""
    if share < limits.same_answers:
        fault = f"{n - n_same - n_ties} of {n} greedy answers differ, the first of them is {first}"
    return Check("greedy answers", f"{n_same} of {n} the same{ties}", fault)


def _stops(old: Sequence[Written], new: Sequence[Written], limits: Limits) -> Check:
    before, after = _share_ended(old), _share_ended(new)
    fault = ""
    if abs(before - after) > limits.stopped:
        fault = f"{after:.0%} of the answers end on their own, and {before:.0%} did before"
    return Check("ends on its own", f"{after:.0%}, before {before:.0%}", fault)


def _share_ended(written: Sequence[Written]) -> float:
    return sum(ended for _, ended in written) / len(written) if written else 1.0


def _verdicts(
    questions: Sequence[Question],
    reference: Reference,
    exported: Sequence[TokenNlls],
    seed: int,
) -> tuple[Verdict, Verdict]:
    """Return the exam's verdict on these questions for the tuned and for the exported model."""
    names = pieces_of_evidence([it.example for it in questions])
    base = _scores(reference.base, questions)
    found = [
        verdict(compare_scores(base, _scores(nlls, questions), seed, names), len(set(names)))
        for nlls in (reference.tuned, exported)
    ]
    return found[0], found[1]


def _scores(nlls: Sequence[TokenNlls], questions: Sequence[Question]) -> list[Score]:
    return [
        Score(math.fsum(it), len(it), question.row.answer_bytes)
        for it, question in zip(nlls, questions, strict=True)
    ]


def _figures(
    source: Source,
    reference: Reference,
    exported: Sequence[TokenNlls],
    written: Sequence[Written],
) -> Figures:
    changes = [abs(it) for it in _changes(reference.tuned, exported)]
    texts = [
        (_text(source, old), _text(source, new))
        for old, new in zip(reference.written, written, strict=True)
    ]
    n = len(texts)
    return Figures(
        nll_base=_mean(reference.base),
        nll_tuned=_mean(reference.tuned),
        nll_exported=_mean(exported),
        token_change=math.fsum(changes) / len(changes),
        largest_change=max(changes),
        same_answers=sum(old == new for old, new in texts) / n if n else math.nan,
        chrf=math.fsum(chrf(new, old) for old, new in texts) / n if n else math.nan,
        stopped_tuned=_share_ended(reference.written),
        stopped_exported=_share_ended(written),
    )


def _text(source: Source, written: Written) -> str:
    return str(source.tokenizer.decode(list(written[0]), skip_special_tokens=True)).strip()


def _mean(nlls: Sequence[TokenNlls]) -> float:
    return math.fsum(map(math.fsum, nlls)) / sum(map(len, nlls))
