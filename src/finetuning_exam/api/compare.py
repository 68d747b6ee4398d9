"""Answers of base and tuned model to the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.api.events import Notice, OnEvent, SessionLoaded, ignore
from finetuning_exam.api.load_adapter import load_session
from finetuning_exam.api.output_file import check_can_write, check_overwrites
from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.encoding.rows import encode_whole
from finetuning_exam.data.question import make_question
from finetuning_exam.data.reading.files import (
    CHUNK_BYTES,
    MAX_LINE_BYTES,
    Stream,
    undecodable,
)
from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.data.records import Example
from finetuning_exam.durable import write_text
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import CompareSettings

if TYPE_CHECKING:
    from finetuning_exam.data.encoding.encoder import Encoded
    from finetuning_exam.model.generation.decoding import Decoding
    from finetuning_exam.model.session import Prompt, Session
    from finetuning_exam.report.comparison import Comparison


def compare(
    settings: CompareSettings, *, on_event: OnEvent = ignore, command: str = "compare()"
) -> tuple[Comparison, ...]:
    """Ask both models the questions of `settings.prompt`, then those of the file `prompts`.

    Where the file has references, answers come with the likelihood of theirs. `settings.html`
    writes a page, which names the `command` that made it.

    Raises:
        UsageError, DataError, ModelError, AdapterError: a file or setting cannot be used, or
            there is no question.
    """
    settings = validated(settings)
    examples = questions_of(settings)
    if not examples:
        raise UsageError("No question was given.", "Give a prompt, or a file of prompts.")
    if settings.html is not None:
        check_can_write("--html", Path(settings.html))
        check_overwrites("--html", Path(settings.html), "<html", "a page")
    session = load_session(settings)
    on_event(SessionLoaded(session))
    comparisons = compare_examples(session, examples, settings, on_event)
    if settings.html is not None:
        from finetuning_exam.report.comparison import render_comparison

        adapter, base = settings.adapter_name_or_path, session.base.name
        write_text(Path(settings.html), render_comparison(comparisons, adapter, base, command))
    return comparisons


def questions_of(settings: CompareSettings) -> tuple[Example, ...]:
    """Return the questions of the arguments, then those of the file."""
    typed = tuple(
        make_question(text, "argument", number) for number, text in enumerate(settings.prompt, 1)
    )
    if settings.prompts is None:
        return typed
    if _is_plain_text(settings.prompts):
        return typed + _lines_of(settings.prompts)
    records = read_sound_records([settings.prompts], settings, answer_required=False)
    return typed + records.examples


def _is_plain_text(path: str) -> bool:
    """Return whether a file holds a question per line: a .txt that does not start like JSON."""
    if Path(path).suffix.lower() != ".txt":
        return False
    with Stream(path) as stream:
        return not stream.peek(CHUNK_BYTES).lstrip().startswith((b"{", b"["))


def _lines_of(path: str) -> tuple[Example, ...]:
    """Return the lines of a text file that are not empty, as questions without references.

    Raises:
        DataError: there are none, or some are not UTF-8 text.
    """
    questions: list[Example] = []
    faults: list[str] = []
    with Stream(path) as stream:
        for number, line in stream.lines():
            try:
                text = "" if line is None else line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                byte = undecodable(error.object[error.start], error.start + 1)
                faults.append(f"{path}:{number}: {byte}.")
                continue
            if line is None:
                faults.append(f"{path}:{number}: the line is longer than {MAX_LINE_BYTES:,} bytes.")
            elif text:
                questions.append(make_question(text, path, number))
        if stream.damage:
            faults.append(f"{path}:{stream.line}: {stream.damage}.")
    if faults or not questions:
        raise DataError(
            faults or [f"{path}: no questions found."],
            "Write one question per line, as UTF-8 text.",
        )
    return tuple(questions)


def decoding_of(session: Session, settings: CompareSettings) -> Decoding:
    """Return the decoding that the settings ask for."""
    return session.decoding(
        settings.max_new_tokens,
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
    )


def fitted_prompts(
    session: Session, examples: Sequence[Example], max_new_tokens: int, on_event: OnEvent
) -> list[Prompt]:
    """Return the prompts of the questions, and report those cut to leave room for an answer.

    Raises:
        DataError: a record asks nothing, holds a special token that the template would obey, or
            has turns that it refuses.
    """
    prompts = session.prompts(examples, max_new_tokens)
    for example, prompt in zip(examples, prompts, strict=True):
        if prompt.n_cut:
            n_kept = len(prompt.ids)
            text = (
                f"{example.where}: the prompt is cut from {n_kept + prompt.n_cut} to {n_kept} "
                "tokens, so that the model has room for an answer."
            )
            on_event(Notice(text))
    return prompts


def compare_examples(
    session: Session,
    examples: Sequence[Example],
    settings: CompareSettings,
    on_event: OnEvent = ignore,
) -> tuple[Comparison, ...]:
    """Return both models' answers to the same prompts with the same seed."""
    from finetuning_exam.report.comparison import Answered, Comparison

    prompts = fitted_prompts(session, examples, settings.max_new_tokens, on_event)
    decoding, batch_size = decoding_of(session, settings), settings.eval_batch_size
    references = _references(session, examples)  # a refused one is reported before the work
    base, tuned = session.answer_both(prompts, decoding, batch_size)
    nlls = _score_references(session, references, len(examples), batch_size)
    return tuple(
        Comparison(
            question(example),
            Answered(old.text, old.stopped, old_nll, old.repeats),
            Answered(new.text, new.stopped, new_nll, new.repeats),
            example.answer,
        )
        for example, old, new, (old_nll, new_nll) in zip(examples, base, tuned, nlls, strict=True)
    )


def _references(session: Session, examples: Sequence[Example]) -> dict[int, Encoded]:
    """Return the rows of questions with a reference, by index; not where they do not fit together.

    Raises:
        DataError: the chat template refuses some; all of these are named.
    """
    answered = {index: example for index, example in enumerate(examples) if example.answer}
    rows = encode_whole(session.encoder, tuple(answered.values()))
    return {
        index: row
        for index, row in zip(answered, rows, strict=True)
        if len(row.ids) <= session.base.context
    }


def _score_references(
    session: Session, rows: Mapping[int, Encoded], n: int, batch_size: int
) -> list[tuple[float | None, float | None]]:
    """Return the NLL per token of the reference of each of `n` questions by base and by tuned.

    None where there is no row.
    """
    base, tuned = session.score(tuple(rows.values()), batch_size)
    found: dict[int, tuple[float, float]] = {
        index: (old.nll_per_token, new.nll_per_token)
        for index, old, new in zip(rows, base, tuned, strict=True)
    }
    return [found.get(index, (None, None)) for index in range(n)]
