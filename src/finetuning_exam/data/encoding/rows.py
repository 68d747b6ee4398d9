"""Encode examples as rows that fit a limit; whatever is cut or left out has a finding."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from finetuning_exam.data.encoding.chat import separate_answers
from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import TurnsRefusedError
from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.labels import LossOn
from finetuning_exam.data.encoding.system_text import has_system
from finetuning_exam.data.encoding.tools import uses_tools
from finetuning_exam.data.encoding.truncate import (
    MIN_PROMPT_TOKENS,
    fewest_left_out,
    middle,
    without_oldest,
)
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import listed
from finetuning_exam.data.reading.read import refuse_errors
from finetuning_exam.data.records import Example

Row = TypeVar("Row")
"""One encoded example."""
_CHUNK = 2048
"""The number of examples that are encoded together."""


@dataclass(frozen=True, slots=True)
class EncodedRows(Generic[Row]):
    """The rows of the examples that were kept, in order, and a finding for each cut or left out.

    An example with several rows is there once for each.
    """

    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]


def encode_all(
    encoder: Encoder, examples: Sequence[Example], max_length: int
) -> EncodedRows[Encoded]:
    """Encode every example in at most `max_length` tokens.

    An example with a special token that the chat template would interpret, or with turns that the
    template refuses, is left out, and is an error. A row that is too long loses the oldest
    exchanges of its conversation, then the middle of its prompt, but never any of its answer; if
    too little of the prompt would remain it is left out, and so is a plain text that is too long.
    Each such example has a finding.

    Raises:
        ModelError: the chat template takes too long or renders too much.
    """
    rows: list[Encoded] = []
    kept: list[Example] = []
    findings = list(special_token_findings(encoder, examples))
    refused = {(it.path, it.line, it.column) for it in errors(findings)}
    sound = [it for it in examples if (it.path, it.line, it.column) not in refused]
    for start in range(0, len(sound), _CHUNK):
        chunk = sound[start : start + _CHUNK]
        parts = [(at, part) for at, it in enumerate(chunk) for part in _parts(encoder, it)]
        encoded = _encode_chunk(encoder, [part for _, part in parts])
        fitted = [
            (at, *_fit(encoder, part, row, max_length))
            for (at, _), (part, row) in zip(parts, encoded, strict=True)
        ]
        # An example that is refused for one of its answers is left out with the others.
        broken = {at for at, _, it in fitted if it and it.kind.severity == "error"}
        findings += dict.fromkeys(finding for _, _, finding in fitted if finding)
        for at, row, _ in fitted:
            if row and at not in broken:
                rows.append(row)
                kept.append(chunk[at])
    return EncodedRows(tuple(rows), tuple(kept), tuple(findings))


def _parts(encoder: Encoder, example: Example) -> tuple[Example, ...]:
    """Return an example once for each row that it is trained in."""
    if encoder.loss_on != "answers":
        return (example,)
    return separate_answers(example, encoder.shape)


def encode_whole(encoder: Encoder, examples: Sequence[Example]) -> tuple[Encoded, ...]:
    """Encode every example, however long it is.

    Raises:
        DataError: the chat template refuses some, or would interpret a special token in them; all
            of these are named.
    """
    refuse_errors(special_token_findings(encoder, examples))
    rows = [row for _, row in _encode_chunk(encoder, examples)] if examples else []
    refuse_errors([row for row in rows if isinstance(row, Finding)])
    return tuple(row for row in rows if isinstance(row, Encoded))


def template_findings(encoder: Encoder, model_name: str) -> tuple[Finding, ...]:
    """Report what the chat template of a model does that its user should know."""
    shape = encoder.shape
    if shape is None:
        return ()
    found: list[Finding] = []
    if shape.missing_marks:
        marks = listed(shape.missing_marks)
        detail = f"the chat template writes {marks} as ordinary text, in several tokens each"
        found.append(Finding(Kind.TEMPLATE_MARKS, detail, model_name))
    if encoder.date:
        detail = f"the chat template writes the date, here {encoder.date:%Y-%m-%d}"
        found.append(Finding(Kind.TEMPLATE_DATE, detail, model_name))
    return tuple(found)


def form_findings(
    encoder: Encoder, examples: Sequence[Example], loss_on: LossOn
) -> tuple[Finding, ...]:
    """Report in what form conversations are trained that the template cannot show as they are.

    Each finding is at the first example that it concerns.
    """
    found: list[Finding] = []
    shape = encoder.shape
    trained = replace(encoder, loss_on=loss_on)
    several = [it for it in examples if len(_parts(trained, it)) > 1]
    if several:
        detail = f"{len(several):,} of {len(examples):,} records have several answers"
        found.append(_finding(Kind.TEMPLATE_HISTORY, detail, several[0]))
    greeted = [it for it in examples if it.has_greeting]
    if greeted and (shape is None or shape.takes_greeting):
        is_read = loss_on != "everything" and shape is not None and shape.rewrites_history
        how = "only read, since each answer has a row of its own" if is_read else "trained"
        detail = f"{len(greeted):,} of {len(examples):,} records have one; it is {how}"
        found.append(_finding(Kind.GREETING, detail, greeted[0]))
    if encoder.folds_system and examples:
        found.append(_folded(examples, shape))
    users = [it for it in examples if uses_tools(it)]
    if users and not (shape and shape.takes_tools):
        detail = f"{len(users):,} of {len(examples):,} records use tools"
        found.append(_finding(Kind.TOOLS_SPELLED_OUT, detail, users[0]))
    return tuple(found)


def _folded(examples: Sequence[Example], shape: ChatShape | None) -> Finding:
    """Return the note of how many system texts are put before a question, and if need be."""
    systems = [it for it in examples if has_system(it)]
    detail = f"{len(systems):,} of {len(examples):,} records have a system text"
    if not systems:
        detail = f"none of the {len(examples):,} records has a system text, so nothing changes"
    elif shape is None:
        detail += "; the plain template would have a place for it"
    elif shape.takes_system:
        detail += "; the chat template would take it as a turn of its own"
    return _finding(Kind.SYSTEM_FOLDED, detail, (systems or examples)[0])


def _encode_chunk(
    encoder: Encoder, chunk: Sequence[Example]
) -> Iterator[tuple[Example, Encoded | Finding]]:
    """Yield each example with its row, or with the reason why the chat template refuses it.

    A chunk with such an example is encoded by halves, so that all others stay together.
    """
    try:
        rows = encoder.encode_batch(chunk)
    except TurnsRefusedError as refusal:
        if len(chunk) == 1:
            yield chunk[0], refused(refusal, chunk[0])
            return
        middle_of_chunk = len(chunk) // 2
        yield from _encode_chunk(encoder, chunk[:middle_of_chunk])
        yield from _encode_chunk(encoder, chunk[middle_of_chunk:])
    else:
        yield from zip(chunk, rows, strict=True)


def refused(refusal: TurnsRefusedError, example: Example) -> Finding:
    """Return the finding that an example has turns which the chat template refuses."""
    detail = refusal.what[0].lower() + refusal.what[1:].rstrip(".")
    return _finding(refusal.kind, detail, example)


def special_token_findings(encoder: Encoder, examples: Sequence[Example]) -> tuple[Finding, ...]:
    """Report each example with a special token: an error if the template would interpret it."""
    if encoder.special_pattern is None:
        return ()
    kind = Kind.SPECIAL_TOKEN_TEXT if encoder.template == "plain" else Kind.SPECIAL_TOKEN
    search = encoder.special_text_in
    return tuple(
        Finding(kind, f"the text contains the special token {found}", it.path, it.line, it.column)
        for it in examples
        if (found := next(filter(None, map(search, _texts(it))), None))
    )


def _texts(example: Example) -> tuple[str, ...]:
    earlier = (turn.text for turn in example.earlier)
    return (*earlier, example.instruction, example.input, example.answer, example.tools)


def _fit(
    encoder: Encoder, example: Example, row: Encoded | Finding, max_length: int
) -> tuple[Encoded | None, Finding | None]:
    """Return a row that fits, if there is one, and a finding if anything was done for it."""
    if isinstance(row, Finding):
        return None, row
    if len(row.ids) <= max_length:
        return row, None
    try:
        return _shorten(encoder, example, row, max_length)
    except TurnsRefusedError as refusal:  # of a conversation without its oldest exchanges
        return None, refused(refusal, example)


def _shorten(
    encoder: Encoder, example: Example, row: Encoded, max_length: int
) -> tuple[Encoded | None, Finding]:
    """Shorten a row that is too long; None if it cannot fit. The finding says what was done."""
    if example.is_plain_text:
        n_added = len(encoder.start_ids) + 1
        return None, _finding(
            Kind.ANSWER_TOO_LONG,
            f"the text has {len(row.ids)} tokens, over the limit of {max_length}; left out "
            f"(split it into pieces of at most {max_length - n_added} tokens)",
            example,
        )
    n_left_out = fewest_left_out(example, lambda it: len(encoder.encode(it).ids) <= max_length)
    rest = encoder.encode(without_oldest(example, n_left_out))
    n_answer = len(rest.ids) - rest.prompt_length
    room = max_length - n_answer
    if room < min(MIN_PROMPT_TOKENS, rest.prompt_length):
        return None, _finding(
            Kind.ANSWER_TOO_LONG,
            f"the answer alone has {n_answer} tokens, more than fit in {max_length}; left out",
            example,
        )
    done = []
    if n_left_out:
        oldest = "oldest exchange is" if n_left_out == 1 else f"{n_left_out} oldest exchanges are"
        done.append(f"the {oldest} left out")
    if rest.prompt_length > room:
        done.append(f"the prompt is cut from {rest.prompt_length} to {room} tokens")
        rest = rest.without(*middle(rest.ids[: rest.prompt_length], room, encoder.special_ids))
    detail = f"{' and '.join(done)} to fit the limit of {max_length}"
    return rest, _finding(Kind.PROMPT_CUT, detail, example)


def _finding(kind: Kind, detail: str, example: Example) -> Finding:
    return Finding(kind, detail, example.path, example.line, example.column)


def hash_of_sequences(sequences: Iterable[Encoded]) -> str:
    """Return the SHA-256 of ids, labels and weights.

    It changes whenever the tokenizer, the template, the data or a length limit changes.
    """
    digest = hashlib.sha256()
    for it in sequences:
        digest.update(array("q", (len(it.ids), *it.ids, *it.labels)).tobytes())
        if it.weights:
            digest.update(array("d", it.weights).tobytes())
    return digest.hexdigest()
