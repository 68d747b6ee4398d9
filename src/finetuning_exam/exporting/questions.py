"""The questions that an export is verified with: those of the adapter's exam, or of a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from finetuning_exam import run_file
from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.encoding.tools import each_answer, uses_tools
from finetuning_exam.data.reading.read import read_records, read_sound_records
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import UsageError, UserError
from finetuning_exam.evaluation.exam_file import ExaminedExample, read_exam_file
from finetuning_exam.exporting.source import Source
from finetuning_exam.settings import ExportSettings

_EXAM = "exam.json"


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its reference answer as a row.

    `turns` are what a chat template renders as the row's prompt; None where a saved template cannot
    (tools, inputs, plain texts, prompts that were cut).
    """

    example: Example
    row: Encoded
    turns: tuple[Turn, ...] | None


def exam_questions(settings: ExportSettings, source: Source) -> tuple[Question, ...]:
    """Return the questions to verify with, spread over the file, at most `verify_examples`.

    Raises:
        UsageError: there are none.
        DataError: the file of `--eval_file` has faults.
    """
    if settings.eval_file:
        examples = read_sound_records([settings.eval_file], source.origin.fields).examples
    else:
        examples = _examined(source)
    limit = min(source.origin.max_length or source.context, source.context)
    encoded = encode_all(source.encoder, each_answer(examples), limit)
    pairs = list(zip(encoded.examples, encoded.rows, strict=True))
    if not pairs:
        raise UsageError(
            f"{source.adapter}: no exam questions to verify the export with.",
            "Give some with --eval_file FILE, or export with --no_verify.",
        )
    n = min(settings.verify_examples, len(pairs))
    chosen = [pairs[index * len(pairs) // n] for index in range(n)]
    return tuple(Question(it, row, _turns(source, it, row)) for it, row in chosen)


def _examined(source: Source) -> tuple[Example, ...]:
    """Return the examples of the adapter's exam: from its data if that is unchanged, and otherwise
    as exam.json has them, without earlier turns.
    """
    with suppress(UsageError):
        listed = read_exam_file(source.adapter / _EXAM).examples
        return _from_data(source, listed) or tuple(
            Example(it.prompt, it.reference, it.line, _EXAM, tag=it.tag or "") for it in listed
        )
    return ()


def _from_data(source: Source, listed: Sequence[ExaminedExample]) -> tuple[Example, ...]:
    run = run_file.read(source.adapter)
    record = run.record() if run else None
    if record is None:
        return ()
    data = record.data
    paths, sha256 = (
        ((data.exam_path,), data.exam_sha256) if data.exam_path else (data.paths, data.sha256)
    )
    with suppress(UserError):
        records = read_records(paths, source.origin.fields)
        if records.sha256 != sha256:
            return ()
        known = {(it.line, question(it), it.answer): it for it in each_answer(records.examples)}
        found = [known.get((it.line, it.prompt, it.reference)) for it in listed]
        if all(found):
            return tuple(it for it in found if it is not None)
    return ()


def _turns(source: Source, example: Example, row: Encoded) -> tuple[Turn, ...] | None:
    """Return the turns of a prompt, if the saved chat template renders the row's prompt of them."""
    is_plain = source.encoder.template == "plain"
    if example.is_plain_text or uses_tools(example) or (is_plain and example.input):
        return None
    if source.chat_template is None or source.encoder.date is not None:
        return None
    if source.encoder.prompt_ids(example) != row.ids[: row.prompt_length]:
        return None
    return (*example.earlier, Turn("user", question(example)))


def shared_system(questions: Sequence[Question]) -> str:
    """Return the system turn that all questions share; "" if they do not."""
    first = {
        it.example.earlier[0].text
        if it.example.earlier and it.example.earlier[0].role == "system"
        else ""
        for it in questions
    }
    return first.pop() if len(first) == 1 else ""
