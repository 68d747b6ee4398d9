"""`fte exam`: the exam alone, for any base, adapter and held-out file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import make_console, print_line, print_unused_keys
from finetuning_exam.cli.load_adapter import load_session
from finetuning_exam.cli.output_file import check_can_write, check_overwrites
from finetuning_exam.data.findings import Kind
from finetuning_exam.data.reading.read import read_records, read_sound_records, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import leave_out_taught
from finetuning_exam.durable import write_json
from finetuning_exam.errors import DataError, UserError, WorseError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.model.folder import Origin, adapter_origin
from finetuning_exam.report.text import counted
from finetuning_exam.settings import ExamCommandSettings

if TYPE_CHECKING:
    from rich.console import Console

    from finetuning_exam.data.encoding.encode import Encoded, EncodedRows
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.model.session import Session


def run(parsed: Parsed[ExamCommandSettings]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: a mistake that the user can fix.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "exam")
    records = read_sound_records([settings.data], settings)
    output = Path(settings.output_file) if settings.output_file else None
    if output:
        check_can_write("--output_file", output)
        check_overwrites("--output_file", output, '"verdict"', "an exam")
    read_general_text(settings.general_file)  # an error is reported before the work
    print_line(console, f"{records.path}: {counted(len(records.examples), 'record')}")
    session = load_session(console, settings)
    origin = adapter_origin(Path(settings.adapter_name_or_path))
    new, taught = leave_out_taught(records.examples, _trained(origin, console))
    if taught:
        left = "left out" if new else "all there is, so this exam cannot tell anything"
        print_line(
            console,
            f"Warning: {counted(len(taught), 'exam question')} also in the training file: {left}.",
        )
    with console.status("exam"):
        questions = _encode(console, session, new or records.examples, origin.max_length)
        exam = _take(settings, session, questions, is_held_out=bool(new))
    if output:
        from finetuning_exam.report.exam_json import exam_to_json

        write_json(output, exam_to_json(exam))
    from finetuning_exam.report.terminal import exam_summary

    console.print(exam_summary(exam))
    if settings.fail_if_worse and exam.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    return 0


def _trained(origin: Origin, console: Console) -> tuple[Example, ...]:
    """Return the examples of the adapter's training files, if those can still be read."""
    with suppress(UserError):
        records = read_records(origin.data_paths, origin.fields)
        if records.sha256 != origin.data_sha256:
            print_line(console, f"Warning: {records.path} has changed since the training.")
        if records.examples:
            return records.examples
    print_line(console, "The training file cannot be read here, so overlap with it is unknown.")
    return ()


def _encode(
    console: Console, session: Session, examples: Sequence[Example], max_length: int | None
) -> EncodedRows[Encoded]:
    """Encode the examples as the training did, and print which were cut or left out.

    Raises:
        DataError: a record has an error, or none is left.
    """
    from finetuning_exam.data.encoding.encode import encode_all

    context = session.base.context
    encoded = encode_all(session.encoder, examples, min(max_length or context, context))
    refuse_errors(encoded.findings)
    for finding in encoded.findings:
        print_line(console, str(finding))
    if not encoded.rows:
        raise DataError(["No row is left to examine."], Kind.ANSWER_TOO_LONG.hint)
    return encoded


def _take(
    settings: ExamCommandSettings,
    session: Session,
    questions: EncodedRows[Encoded],
    *,
    is_held_out: bool,
) -> Exam:
    from finetuning_exam.evaluation.exam import ExamPlan, take_exam

    plan = ExamPlan.from_settings(settings, session.base.context, is_held_out=is_held_out)
    return take_exam(session.with_fast_path(), questions, plan)
