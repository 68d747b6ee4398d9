"""Many records become rows: none longer than it may be, and nothing cut without a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from finetuning_exam.data.encoding.encoder import IGNORED, Encoded, Encoder, LossOn, make_encoder
from finetuning_exam.data.encoding.truncate import (
    MIN_PROMPT_TOKENS,
    fewest_left_out,
    middle,
    without_oldest,
)
from finetuning_exam.data.findings import Finding, Kind, errors
from finetuning_exam.data.records import Example

__all__ = [
    "IGNORED",
    "Encoded",
    "EncodedRows",
    "Encoder",
    "LossOn",
    "encode_all",
    "make_encoder",
    "special_token_findings",
]

Row = TypeVar("Row")
"""One record as it is trained on or examined."""
_CHUNK = 2048
"""Examples that are encoded together."""


@dataclass(frozen=True, slots=True)
class EncodedRows(Generic[Row]):
    """The rows of the examples that were kept, in their order, and what was cut or left out."""

    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]


def encode_all(
    encoder: Encoder, examples: Sequence[Example], max_length: int
) -> EncodedRows[Encoded]:
    """Encode every example in at most `max_length` tokens.

    A row that holds a special token which the chat template would obey is left out: an error. A
    longer row loses the oldest exchanges of its conversation, then the middle of its prompt, but
    never anything of its answer; where not enough of the prompt would stay it is left out, and so
    is a longer plain text. Each such row has a finding.

    Raises:
        ModelError: the chat template cannot be used.
    """
    rows: list[Encoded] = []
    kept: list[Example] = []
    findings = list(special_token_findings(encoder, examples))
    obeyed = {(it.path, it.line, it.column) for it in errors(findings)}
    sound = [it for it in examples if (it.path, it.line, it.column) not in obeyed]
    for start in range(0, len(sound), _CHUNK):
        chunk = sound[start : start + _CHUNK]
        for example, row in zip(chunk, encoder.encode_batch(chunk), strict=True):
            fitted: Encoded | None = row
            if len(row.ids) > max_length:
                fitted, finding = _fit(encoder, example, row, max_length)
                findings.append(finding)
            if fitted:
                rows.append(fitted)
                kept.append(example)
    return EncodedRows(tuple(rows), tuple(kept), tuple(findings))


def special_token_findings(encoder: Encoder, examples: Sequence[Example]) -> tuple[Finding, ...]:
    """A finding for each example that holds a special token: an error where it would be obeyed."""
    if encoder.special_pattern is None:
        return ()
    kind = Kind.SPECIAL_TOKEN_TEXT if encoder.template == "plain" else Kind.SPECIAL_TOKEN
    search = encoder.special_text_in
    return tuple(
        Finding(kind, f"the text holds the special token {found}", it.path, it.line, it.column)
        for it in examples
        if (found := next(filter(None, map(search, _texts(it))), None))
    )


def _texts(example: Example) -> tuple[str, ...]:
    earlier = (turn.text for turn in example.earlier)
    return (*earlier, example.instruction, example.input, example.answer)


def _fit(
    encoder: Encoder, example: Example, row: Encoded, max_length: int
) -> tuple[Encoded | None, Finding]:
    """A row that is too long made to fit, or None where it cannot, and what to say of it."""
    if example.is_plain_text:
        n_added = len(encoder.start_ids) + 1
        return None, _finding(
            Kind.ANSWER_TOO_LONG,
            f"the text takes {len(row.ids)} tokens, more than {max_length}; left out: "
            f"cut it into pieces of at most {max_length - n_added} tokens",
            example,
        )
    n_left_out = fewest_left_out(example, lambda it: len(encoder.encode(it).ids) <= max_length)
    rest = encoder.encode(without_oldest(example, n_left_out))
    n_answer = len(rest.ids) - rest.prompt_length
    room = max_length - n_answer
    if room < min(MIN_PROMPT_TOKENS, rest.prompt_length):
        return None, _finding(
            Kind.ANSWER_TOO_LONG,
            f"the answer alone takes {n_answer} tokens, more than {max_length} leaves; left out",
            example,
        )
    done = []
    if n_left_out:
        oldest = "oldest exchange is" if n_left_out == 1 else f"{n_left_out} oldest exchanges are"
        done.append(f"the {oldest} left out")
    if rest.prompt_length > room:
        done.append(f"the prompt is cut from {rest.prompt_length} to {room} tokens")
        rest = rest.without(*middle(rest.ids[: rest.prompt_length], room, encoder.special_ids))
    detail = f"{' and '.join(done)} so that the answer fits in {max_length}"
    return rest, _finding(Kind.PROMPT_CUT, detail, example)


def _finding(kind: Kind, detail: str, example: Example) -> Finding:
    return Finding(kind, detail, example.path, example.line, example.column)
