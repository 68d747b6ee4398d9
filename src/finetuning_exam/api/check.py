"""Check data the way training reads it."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path

from finetuning_exam.api.output_file import check_can_write
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import training_loss_on
from finetuning_exam.data.encoding.lengths import row_lengths
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.fix import CleanCopy, clean_copy, left_out_lines
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.durable import write_text
from finetuning_exam.errors import UsageError
from finetuning_exam.evaluation.outlook import exam_outlook
from finetuning_exam.model.folder import canonical_name, check_local_model, find_model_folder
from finetuning_exam.report.data_check import Outlook
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import CheckSettings
from finetuning_exam.training.plan import rows_per_step, steps_per_epoch

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
    copy = clean_copy(checked.train, report.findings)
    _write_copy(fix, copy)
    return replace(report, copy=copy)


def _encode(settings: CheckSettings, check: Check) -> DataReport:
    """Encode every example of both files with the model's tokenizer, without torch."""
    from finetuning_exam.model.tokenizer import context_length, load_tokenizer

    folder = find_model_folder(settings.model_name_or_path)
    tokenizer = load_tokenizer(folder)
    template = choose_template(settings.template, tokenizer)
    loss_on = training_loss_on(completion_only=settings.completion_only_loss)
    encoder = make_encoder(tokenizer, template, loss_on=loss_on)
    limit = min(settings.max_length, context_length(folder))
    train, exam = check.train.examples, check.exam.examples if check.exam else ()
    rows = encode_all(encoder, train, limit)
    exam_rows = encode_all(encoder, exam, limit)
    outlook = None
    if rows.rows:
        split = _without_left_out(
            split_checked(check, settings.eval_fraction, settings.seed),
            {*rows.examples, *exam_rows.examples},
        )
        outlook = Outlook(
            canonical_name(settings.model_name_or_path),
            template,
            row_lengths(rows.rows, limit),
            split,
            exam_outlook(check, split, settings.eval_fraction, settings.seed),
            steps_per_epoch(settings, len(split.train)),
            rows_per_step(settings),
        )
    findings = (*check.findings, *rows.findings, *exam_rows.findings)
    return DataReport(check, findings, outlook, encoder, limit)


def _without_left_out(split: Split, kept: Set[Example]) -> Split:
    """Return a split without the examples that do not fit the model."""
    train, validation, exam = (
        tuple(example for example in part if example in kept)
        for part in (split.train, split.validation, split.exam)
    )
    return replace(split, train=train, validation=validation, exam=exam)


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
