"""Encode an example as ids and labels: the prompt is masked, the end token is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetuning_exam.data.encoding.chat import ChatShape, chat_shape
from finetuning_exam.data.encoding.labels import IGNORED, LossOn, labels_of
from finetuning_exam.data.encoding.template import Rendered, render
from finetuning_exam.data.encoding.tokens import Tokenizer, encode_texts, fast_backend
from finetuning_exam.data.encoding.truncate import fewest_left_out, middle, without_oldest
from finetuning_exam.data.records import Example
from finetuning_exam.errors import ModelError
from finetuning_exam.settings import Template

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row. `ids` and `labels` have equal length; `labels[0]` is always ignored.

    `prompt_length` is the index of the last answer (0 in a plain text); `answer_bytes` is the
    number of UTF-8 bytes of the answers that are scored.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_length: int
    answer_bytes: int

    @property
    def n_supervised(self) -> int:
        """The number of positions with a label."""
        return len(self.labels) - self.labels.count(IGNORED)

    def first(self, length: int) -> Encoded:
        """Return the first `length` positions; only for plain text, an answer is never cut."""
        return replace(self, ids=self.ids[:length], labels=self.labels[:length])

    def last(self, length: int) -> Encoded:
        """The last `length` positions of the row, as a sample of what it costs to compute."""
        return replace(self, ids=self.ids[-length:], labels=self.labels[-length:])

    def without(self, start: int, end: int) -> Encoded:
        """Return the row without a part of its prompt; the token after the gap has no label."""
        return Encoded(
            self.ids[:start] + self.ids[end:],
            (*self.labels[:start], IGNORED, *self.labels[end + 1 :]),
            self.prompt_length - (end - start),
            self.answer_bytes,
        )


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns examples into rows for one tokenizer and one template; made by `make_encoder`."""

    tokenizer: Tokenizer
    backend: Backend | None
    template: Template
    loss_on: LossOn
    start_ids: tuple[int, ...]
    """The ids that this tokenizer puts before a text: a beginning-of-text token, or none."""
    eos_token_id: int
    base_stop_ids: tuple[int, ...]
    special_ids: frozenset[int]
    special_texts: tuple[str, ...]
    special_pattern: re.Pattern[str] | None
    shape: ChatShape | None
    """The properties of the chat template; None for the plain template."""

    def special_text_in(self, text: str) -> str | None:
        """Return the first special token in a text, the longest if several begin there."""
        found = self.special_pattern.search(text) if self.special_pattern else None
        return found.group() if found else None

    def prompt_ids(self, example: Example) -> tuple[int, ...]:
        """Return the ids of the prompt, the same as those before the answer in training."""
        row = self.encode(example)
        return row.ids[: row.prompt_length]

    def fit_prompt(self, example: Example, room: int) -> tuple[tuple[int, ...], int]:
        """Return the ids of the prompt, at most `room` of them, and how many were cut.

        It is cut like a row: the oldest exchanges first, then the middle.
        """
        prompt = self.prompt_ids(example)
        if len(prompt) <= room:
            return prompt, 0
        n_left_out = fewest_left_out(example, lambda it: len(self.prompt_ids(it)) <= room)
        rest = self.prompt_ids(without_oldest(example, n_left_out))
        if len(rest) > room:
            start, end = middle(rest, room, self.special_ids)
            rest = rest[:start] + rest[end:]
        return rest, len(prompt) - len(rest)

    def encode(self, example: Example) -> Encoded:
        """Return a whole row; its last label is a token that ends the answer.

        Prompt and answer are tokenized separately, so no token spans their boundary.
        """
        return self.encode_batch([example])[0]

    def encode_batch(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the rows of some examples, tokenized together; the same as one by one."""
        rendered = [render(it, self.template, self.tokenizer, self.shape) for it in examples]
        pieces = iter(self._ids([segment.text for row in rendered for segment in row]))
        shared: dict[int, int] = {}  # one int object per id, not one per occurrence
        return [
            self._row(example, segments, pieces, shared)
            for example, segments in zip(examples, rendered, strict=True)
        ]

    def encode_text(self, text: str) -> Encoded:
        """Return a plain text with every token but the first supervised, without an end token."""
        ids = (*self.start_ids, *self._ids([text])[0])
        return Encoded(ids, (IGNORED, *ids[1:]), 0, len(text.encode("utf-8")))

    def stop_ids(self) -> tuple[int, ...]:
        """Return the ids that end an answer: the last token of a trained row and the base's own."""
        probe = Example(instruction="a", answer="b", line=0, path="")
        return tuple(sorted({self.eos_token_id, self.encode(probe).ids[-1], *self.base_stop_ids}))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # The plain template has no special tokens: what looks like one is the user's own text.
        split = self.template == "plain"
        return encode_texts(self.tokenizer, self.backend, texts, split_special_tokens=split)

    def _row(
        self,
        example: Example,
        rendered: Rendered,
        pieces: Iterator[list[int]],
        shared: dict[int, int],
    ) -> Encoded:
        # A chat template writes its own beginning-of-text token; a plain text has no template.
        is_bare = self.template == "plain" or example.is_plain_text
        ids = list(self.start_ids) if is_bare else []
        answers: list[tuple[int, int]] = []
        for place, segment in enumerate(rendered, start=1):
            piece = next(pieces)
            if segment.is_answer:
                n = self._end_answer(piece, is_bare=is_bare, is_last=place == len(rendered))
                answers.append((len(ids), len(ids) + n))
            ids += piece
        whole = tuple(map(shared.setdefault, ids, ids))
        prompt_length = 0 if example.is_plain_text else answers[-1][0]
        labels = labels_of(whole, answers, self.loss_on)
        return Encoded(whole, labels, prompt_length, self._answer_bytes(example))

    def _answer_bytes(self, example: Example) -> int:
        n = len(example.answer.encode("utf-8"))
        if self.loss_on == "last_answer":
            return n
        earlier = (turn.text for turn in example.earlier if turn.role == "assistant")
        return n + sum(len(text.encode("utf-8")) for text in earlier)

    def _end_answer(self, piece: list[int], *, is_bare: bool, is_last: bool) -> int:
        """End the ids of an answer; return how many of them are the answer and its end.

        In a chat template an answer ends with the special token after it in its segment;
        whitespace after that is part of the next prompt, and dropped after the last answer. If
        there is none the row ends with the end-of-text token, like all answers of the plain
        template.
        """
        if not is_bare:
            for place in range(len(piece) - 1, -1, -1):
                if piece[place] in self.special_ids:
                    if is_last:
                        del piece[place + 1 :]
                    return place + 1
        if is_bare or is_last:
            piece.append(self.eos_token_id)
        return len(piece)


def make_encoder(
    tokenizer: Tokenizer,
    template: Template,
    *,
    loss_on: LossOn = "last_answer",
    base_stop_ids: tuple[int, ...] = (),
) -> Encoder:
    """Make an encoder for a template returned by `choose_template`.

    `base_stop_ids` are the ids at which the base ends a text besides the end-of-text token. A chat
    template is tried here once, so that an unusable one is reported before the data is read.

    Raises:
        ModelError: the tokenizer has no end-of-text token, so answers could not end, or the chat
            template cannot be used.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError(
            "The tokenizer has no end-of-text token, so answers could not end.",
            "Set eos_token in its tokenizer_config.json.",
        )
    bos = tokenizer.bos_token_id
    probe = tokenizer.encode("a", add_special_tokens=True)
    start = (bos,) if bos is not None and probe[:1] == [bos] else ()
    special = {
        token_id: token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    longest_first = sorted(filter(None, special.values()), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
    return Encoder(
        tokenizer,
        fast_backend(tokenizer),
        template,
        loss_on,
        start,
        eos,
        base_stop_ids,
        frozenset(special),
        tuple(special.values()),
        pattern,
        chat_shape(tokenizer, pattern) if template == "chat" else None,
    )
