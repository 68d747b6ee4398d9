"""`fte exam`: the exam alone, for any base, adapter and held-out file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    load_session_for_command,
    make_console,
    print_line,
    print_unused_keys,
)
from finetuning_exam.data.findings import Kind
from finetuning_exam.data.reading.read import read_records, read_sound_records, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import leave_out_taught
from finetuning_exam.errors import DataError, UsageError, UserError, WorseError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.model.folder import Origin, adapter_origin
from finetuning_exam.report.text import counted
from finetuning_exam.settings import ExamCommandSettings

if TYPE_CHECKING:
    from rich.console import Console

    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.model.tuned import Tuned


def run(parsed: Parsed[ExamCommandSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: anything the user can hint.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "exam")
    records = read_sound_records([settings.data], settings)
    output = Path(settings.output_file) if settings.output_file else None
    if output:
        _check_output(output)
    read_general_text(settings.general_file)  # an error there is told before the work
    print_line(console, f"{records.path}: {counted(len(records.examples), 'record')}")
    tuned = load_session_for_command(
        console, settings, settings.adapter_name_or_path, settings.model_name_or_path
    )
    origin = adapter_origin(Path(settings.adapter_name_or_path))
    new, taught = leave_out_taught(records.examples, _trained(origin, console))
    if taught:
        left = "left out" if new else "all there is, so this exam cannot tell anything"
        print_line(
            console,
            f"Warning: {counted(len(taught), 'exam question')} also in the training file: {left}.",
        )
    with console.status("exam"):
        exam = _take(
            console, settings, new or records.examples, tuned, origin, is_held_out=bool(new)
        )
    if output:
        from finetuning_exam.evaluation import exam_file

        exam_file.write(output, exam)
    from finetuning_exam.report.terminal import exam_summary

    console.print(exam_summary(exam))
    if settings.fail_if_worse and exam.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    return 0


def _check_output(path: Path) -> None:
    """Refuse, before the work, a file that could not be written or that is no exam's."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--output_file {path}: is a folder or in none.", "Give a file's path.")
    if path.exists() and '"verdict"' not in path.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(
            f"--output_file {path}: is there and holds no exam.", "Give another path, or remove it."
        )


def _trained(origin: Origin, console: Console) -> tuple[Example, ...]:
    """The examples of the adapter's training files, where those can be read."""
    with suppress(UserError):
        records = read_records(origin.data_paths, origin.fields)
        if records.sha256 != origin.data_sha256:
            print_line(console, f"Warning: {records.path} has changed since the training.")
        if records.examples:
            return records.examples
    print_line(console, "The training file cannot be read here: overlap with it is not known.")
    return ()


def _take(
    console: Console,
    settings: ExamCommandSettings,
    examples: Sequence[Example],
    tuned: Tuned,
    origin: Origin,
    *,
    is_held_out: bool,
) -> Exam:
    """The exam of all rows that fit; those that had to be cut or left out are named.

    Raises:
        DataError: none is left.
    """
    from finetuning_exam.data.encoding.encode import encode_all
    from finetuning_exam.evaluation.exam import ExamPlan, pad_token_id, take_exam
    from finetuning_exam.model.fast.path import choose_fast_path, wanted_pieces

    longest = min(origin.max_length or tuned.base.context, tuned.base.context)
    encoded = encode_all(tuned.encoder, examples, longest)
    refuse_errors(encoded.findings)
    for finding in encoded.findings:
        print_line(console, str(finding))
    if not encoded.rows:
        raise DataError(["No row is left to examine."], Kind.ANSWER_TOO_LONG.hint)
    plan = ExamPlan(
        seed=settings.seed,
        batch_size=settings.eval_batch_size,
        answered_examples=settings.answered_examples,
        max_new_tokens=settings.max_new_tokens,
        context=tuned.base.context,
        is_held_out=is_held_out,
        general=read_general_text(settings.general_file),
    )
    pad_id = pad_token_id(tuned.base.tokenizer, tuned.encoder)
    fast = choose_fast_path(tuned.model, pad_id, wanted_pieces(("all",)))
    return take_exam(
        tuned.model, tuned.base.tokenizer, tuned.encoder, encoded, plan, row_nll=fast.row_nll
    )
