"""Examine an adapter against its base on held-out examples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.answer_limit import WITHOUT_TIME, AnswerLimit
from finetuning_exam.api.events import ExamStage, Notice, OnEvent, SessionLoaded, ignore
from finetuning_exam.api.load_adapter import load_session
from finetuning_exam.api.output_file import check_can_write, check_overwrites
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import read_records, read_sound_records, refuse_errors
from finetuning_exam.data.reading.stdin import STDIN
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import leave_out_taught
from finetuning_exam.errors import DataError, UserError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.skills import chosen_skills
from finetuning_exam.model.folder import Origin, adapter_origin
from finetuning_exam.report.text import answers_words, counted
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import ExamSettings

if TYPE_CHECKING:
    from finetuning_exam.data.encoding.encoder import Encoded
    from finetuning_exam.data.encoding.rows import EncodedRows
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.model.session import Session


def exam(settings: ExamSettings | None = None, *, on_event: OnEvent = ignore) -> Exam:
    """Take the exam of an adapter, and write it to `settings.output_file` if that is given.

    Questions that the adapter was also trained on are left out. `fail_if_worse` only concerns the
    exit code of the command.

    Raises:
        UsageError, DataError, ModelError, AdapterError: a file or setting cannot be used.
    """
    settings = validated(settings or ExamSettings())
    records = read_sound_records([settings.data], settings)
    output = Path(settings.output_file) if settings.output_file else None
    if output:
        check_can_write("--output_file", output)
        check_overwrites("--output_file", output, '"verdict"', "an exam")
    read_general_text(settings.general_file)  # errors are reported before the work
    chosen_skills(settings.skills)
    on_event(Notice(f"{records.path}: {counted(len(records.examples), 'record')}"))
    session = load_session(settings)
    on_event(SessionLoaded(session))
    from finetuning_exam.evaluation.exam import take_exam
    from finetuning_exam.evaluation.exam_plan import ExamPlan

    origin = adapter_origin(Path(settings.adapter_name_or_path))
    trained = _trained(origin, on_event)
    new, taught = leave_out_taught(records.examples, trained)
    if taught:
        left = "left out" if new else "all there is, so this exam cannot tell anything"
        n_taught = counted(len(taught), "exam question")
        on_event(Notice(f"Warning: {n_taught} also in the training file: {left}."))
    questions = _encode(session, new or records.examples, origin.max_length, on_event)
    plan = ExamPlan.from_settings(
        settings,
        session.base.context,
        is_held_out=bool(new),
        known=trained,
        answers=_answers_of(origin),
    )
    if words := answers_words(plan.answers, sum(not it.is_plain_text for it in questions.examples)):
        on_event(Notice(words))
    taken = take_exam(
        session.with_fast_path(), questions, plan, lambda stage: on_event(ExamStage(stage))
    )
    if output:
        from finetuning_exam.evaluation import exam_file

        exam_file.write(output, taken)
    return taken


def _trained(origin: Origin, on_event: OnEvent) -> tuple[Example, ...]:
    """Return the examples of the adapter's training files, if those can still be read."""
    with suppress(UserError):
        # The standard input of the training is not that of this command.
        paths = () if STDIN in origin.data_paths else origin.data_paths
        records = read_records(paths, origin.fields)
        if records.sha256 != origin.data_sha256:
            on_event(Notice(f"Warning: {records.path} has changed since the training."))
        if records.examples:
            return records.examples
    on_event(Notice("The training file cannot be read here, so overlap with it is unknown."))
    return ()


def _answers_of(origin: Origin) -> AnswerLimit:
    """Return the limit of answers that the adapter's run chose, or a default."""
    chosen = origin.answers
    return WITHOUT_TIME if chosen is None or chosen.reason == "requested" else chosen


def _encode(
    session: Session, examples: Sequence[Example], max_length: int | None, on_event: OnEvent
) -> EncodedRows[Encoded]:
    """Encode the examples as the training did, and report those that were cut or left out.

    Raises:
        DataError: a record has an error, or none is left.
    """
    from finetuning_exam.data.encoding.rows import encode_all
    from finetuning_exam.data.encoding.tools import each_answer

    context = session.base.context
    encoded = encode_all(
        session.encoder, each_answer(examples), min(max_length or context, context)
    )
    refuse_errors(encoded.findings)
    for finding in encoded.findings:
        on_event(Notice(str(finding)))
    if not encoded.rows:
        raise DataError(["No row is left to examine."], Kind.ANSWER_TOO_LONG.hint)
    return encoded
