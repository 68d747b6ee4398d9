"""Check data the way training reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from finetuning_exam.api.output_file import check_can_write
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.encoding.cut import cut_by_tokens
from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import training_loss_on
from finetuning_exam.data.encoding.lengths import row_lengths
from finetuning_exam.data.encoding.rows import encode_all, form_findings, template_findings
from finetuning_exam.data.encoding.stops import what_stops, without_left_out
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.fix import CleanCopy, clean_copy, left_out_lines
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.thoughts import choose_thinking
from finetuning_exam.durable import write_text
from finetuning_exam.errors import UsageError
from finetuning_exam.evaluation.outlook import exam_outlook
from finetuning_exam.machine import now
from finetuning_exam.model.causal import check_is_causal
from finetuning_exam.model.fit import check_weights_fit
from finetuning_exam.model.folder import (
    canonical_name,
    check_local_model,
    check_model_folder,
    find_model_folder,
)
from finetuning_exam.report.data_check import Outlook
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import BUILTIN_MODEL, CheckSettings
from finetuning_exam.training.plan import rows_in_step, steps_per_epoch

_OTHER_EXTENSIONS = (".csv", ".tsv", ".parquet", ".gz", ".zst", ".zstd")
"""File extensions that would imply, or be read as, something other than JSON lines."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """The result of a check: the records, every finding, and the outlook of a training.

    `encoder` and `limit` show an example as the model will see it. `outlook` is None where no row
    is left to train on; `copy` is the clean copy that `fix` asked for.
    """

    check: Check
    findings: tuple[Finding, ...]
    outlook: Outlook | None
    encoder: Encoder
    limit: int
    copy: CleanCopy | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep a record from being used."""
        return errors(self.findings)


def check(settings: CheckSettings | None = None) -> DataReport:
    """Read data the way training does and report every fault, without loading a model or torch.

    `settings.fix` writes a copy without broken records; `show` and `json` only concern the
    terminal.

    >>> from finetuning_exam import CheckSettings, check
    >>> report = check(CheckSettings(data=("train.jsonl",)))
    >>> report.errors
    ()

    Raises:
        UsageError, DataError, ModelError: a file, a setting or the tokenizer cannot be used.
    """
    settings = validated(settings or CheckSettings())
    fix = None if settings.fix is None else Path(settings.fix)
    if fix is not None:
        _check_fix(fix)
    check_local_model(settings.model_name_or_path)
    checked = check_files(settings)
    if fix is not None:
        _check_one_layout(checked)
    report = _encode(settings, checked)
    if fix is None:
        return report
    of_records = [it for it in report.findings if it.kind is not Kind.NOTHING_LEFT]
    copy = clean_copy(checked.train, of_records)
    _write_copy(fix, copy)
    return replace(report, copy=copy)


def _encode(settings: CheckSettings, check: Check) -> DataReport:
    """Encode every example of both files with the model's tokenizer, without torch."""
    from finetuning_exam.model.embeddings import load_checked_tokenizer
    from finetuning_exam.model.tokenizer import context_length

    name = settings.model_name_or_path
    folder = find_model_folder(name)
    files = check_model_folder(folder, name)
    if name != BUILTIN_MODEL:
        check_is_causal(folder, name)
        check_weights_fit(folder, files, name)
    tokenizer = load_checked_tokenizer(folder, name)
    template = choose_template(settings.template, tokenizer)
    loss_on = training_loss_on(completion_only=settings.completion_only_loss)
    train, exam = check.train.examples, check.exam.examples if check.exam else ()
    thinking = choose_thinking(settings.enable_thinking, (*train, *exam))
    encoder = make_encoder(tokenizer, template, loss_on=loss_on, date=now(), is_thinking=thinking)
    encoder = replace(encoder, folds_system=settings.system_turns == "fold")
    limit = min(settings.max_length, context_length(folder))
    rows = encode_all(encoder, train, limit)
    exam_rows = encode_all(encoder, exam, limit)
    split = split_checked(check, settings.eval_fraction, settings.seed)
    left = without_left_out(split, {*rows.examples, *exam_rows.examples})
    about = (
        *template_findings(encoder, name),
        *form_findings(encoder, train, loss_on),
        *cut_by_tokens(encoder, left, (rows, exam_rows)),
    )
    found = (*check.findings, *about, *rows.findings, *exam_rows.findings)
    stops = what_stops(split, left, found)
    findings = (*found, *(it for it in stops if it.kind is Kind.NOTHING_LEFT))
    outlook = None
    if left.train:
        trained = frozenset(left.train)
        n_rows = sum(it in trained for it in rows.examples)
        outlook = Outlook(
            canonical_name(name),
            template,
            row_lengths(rows.rows, limit),
            left,
            exam_outlook(check, left, settings.eval_fraction, settings.seed),
            steps_per_epoch(settings, n_rows),
            rows_in_step(settings, n_rows),
        )
    return DataReport(check, findings, outlook, encoder, limit)


def left_out_path(path: Path | str) -> Path:
    """Return the path of the file next to a cleaned copy that lists what was left out."""
    return Path(f"{path}.left-out.jsonl")


def _check_fix(path: Path) -> None:
    """Refuse, before the work, a copy that exists, cannot be written or would be misread."""
    for file in (path, left_out_path(path)):
        if os.path.lexists(file):
            raise UsageError(
                f"--fix {path}: {file} already exists.", "Give the path of a new file."
            )
    check_can_write("--fix", path)
    if path.suffix.lower() in _OTHER_EXTENSIONS:
        raise UsageError(
            f"--fix {path}: the copy is written as JSON lines.", "Use a name that ends in .jsonl."
        )


def _check_one_layout(check: Check) -> None:
    """Refuse a cleaned copy of files with different layouts: it could not be read again."""
    layouts = dict.fromkeys(source.layout for source in check.train.sources)
    if len(layouts) > 1:
        raise UsageError(
            f"--fix: the files have records in different formats: {', '.join(layouts)}.",
            "Write a copy of each file separately.",
        )


def _write_copy(path: Path, copy: CleanCopy) -> None:
    write_text(path, "".join(f"{line}\n" for line in copy.lines))
    if copy.left_out:
        lines = left_out_lines(copy.left_out)
        write_text(left_out_path(path), "".join(f"{line}\n" for line in lines))
