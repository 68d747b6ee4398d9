"""`fte check`: read data the way training does, and report every fault with its file and line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    make_console,
    print_context_limit,
    print_line,
    print_sources,
    print_unused_keys,
)
from finetuning_exam.cli.output_file import check_can_write
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.encoding.encode import (
    Encoder,
    LossOn,
    encode_all,
    make_encoder,
)
from finetuning_exam.data.encoding.lengths import row_lengths
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.fix import CleanCopy, clean_copy, left_out_lines
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.durable import write_text
from finetuning_exam.errors import UsageError, UserError
from finetuning_exam.model.folder import canonical_name, check_local_model, find_model_folder
from finetuning_exam.report.data_check import (
    Outlook,
    findings_report,
    outlook_report,
    summary,
    to_json,
)
from finetuning_exam.report.show import render_example
from finetuning_exam.report.text import counted
from finetuning_exam.settings import CheckSettings
from finetuning_exam.training.plan import steps_per_epoch

FOUND_ERRORS = 2
_OTHER_EXTENSIONS = (".csv", ".tsv", ".parquet", ".gz", ".zst", ".zstd")
"""File extensions that would imply, or be read as, something other than JSON lines."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The results of encoding the data: findings, the outlook, and the encoder with its limit."""

    findings: tuple[Finding, ...]
    outlook: Outlook | None
    encoder: Encoder
    limit: int


def run(parsed: Parsed[CheckSettings]) -> int:
    """Run the command; return 0, or 2 if a record has an error.

    Raises:
        UserError: a file or a flag cannot be used.
    """
    settings = parsed.settings
    try:
        return _run(parsed)
    except UserError as error:
        if settings.json:
            print_json({"error": {"what": error.what, "hint": error.hint}})
        raise


def _run(parsed: Parsed[CheckSettings]) -> int:
    settings = parsed.settings
    console = make_console()
    console.quiet = settings.json  # standard output is for the JSON only
    fix = None if settings.fix is None else Path(settings.fix)
    if fix is not None:
        _check_fix(fix)
    if settings.json and settings.show:
        raise UsageError("--show has no effect with --json.", "Remove one of the two.")
    check_local_model(settings.model_name_or_path)
    with console.status("reading the data"):
        check = check_files(settings)
        if fix is not None:
            _check_one_layout(check)
        encoding = _encode(settings, check)
    findings = (*check.findings, *encoding.findings)
    if settings.json:
        print_json(to_json(check, findings, encoding.outlook))
    print_unused_keys(console, settings.config, parsed.unused_keys, "check")
    print_context_limit(console, settings.max_length, encoding.limit)
    _print_report(console, check, findings, encoding.outlook)
    for example in check.train.examples[: settings.show]:
        console.print()
        console.print(render_example(example, encoding.encoder, encoding.limit), soft_wrap=True)
    if fix is not None:
        _write_fix(console, fix, clean_copy(check.train, findings))
    return FOUND_ERRORS if errors(findings) else 0


def _encode(settings: CheckSettings, check: Check) -> Encoding:
    """Encode every example of both files with the model's tokenizer, without torch."""
    from finetuning_exam.model.tokenizer import context_length, load_tokenizer

    folder = find_model_folder(settings.model_name_or_path)
    tokenizer = load_tokenizer(folder)
    template = choose_template(settings.template, tokenizer)
    loss_on: LossOn = "answers" if settings.completion_only_loss else "everything"
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
            steps_per_epoch(settings, len(split.train)),
            settings.per_device_train_batch_size * settings.gradient_accumulation_steps,
        )
    return Encoding((*rows.findings, *exam_rows.findings), outlook, encoder, limit)


def _without_left_out(split: Split, kept: Set[Example]) -> Split:
    """Return a split without the examples that do not fit the model."""
    train, validation, exam = (
        tuple(example for example in part if example in kept)
        for part in (split.train, split.validation, split.exam)
    )
    return replace(split, train=train, validation=validation, exam=exam)


def _print_report(
    console: Console, check: Check, findings: Sequence[Finding], outlook: Outlook | None
) -> None:
    print_sources(console, check)
    console.print()
    if findings:
        console.print(findings_report(findings), soft_wrap=True)
    if outlook:
        console.print(outlook_report(check, outlook), soft_wrap=True)
        console.print()
    print_line(console, summary(findings))


def print_json(value: object) -> None:
    """Print JSON on standard output, for programs; in ASCII, which every terminal can show."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _left_out_path(path: Path) -> Path:
    """Return the path of the file next to a cleaned copy that lists what was left out."""
    return Path(f"{path}.left-out.jsonl")


def _check_fix(path: Path) -> None:
    """Refuse, before the work, a copy that exists, cannot be written or would be misread."""
    for file in (path, _left_out_path(path)):
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


def _write_fix(console: Console, path: Path, copy: CleanCopy) -> None:
    left_out_path = _left_out_path(path)
    write_text(path, "".join(f"{line}\n" for line in copy.lines))
    result = f"{path}: {counted(len(copy.lines), 'record')} written"
    if copy.left_out:
        write_text(left_out_path, "".join(f"{line}\n" for line in left_out_lines(copy.left_out)))
        result += f"; {len(copy.left_out):,} left out, listed in {left_out_path}"
    print_line(console, f"{result}.")
