"""Encode an example as ids and labels: the prompt is masked, the end token is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import ChatTemplate, TurnsRefusedError
from finetuning_exam.data.encoding.inspect_template import inspect_template
from finetuning_exam.data.encoding.labels import IGNORED, LossOn, Span, labels_of, weights_of
from finetuning_exam.data.encoding.sections import Ids, Section, section_ids
from finetuning_exam.data.encoding.template import render
from finetuning_exam.data.encoding.tokens import Tokenizer, encode_texts, fast_backend
from finetuning_exam.data.encoding.truncate import fewest_left_out, middle, without_oldest
from finetuning_exam.data.records import Example
from finetuning_exam.errors import ModelError
from finetuning_exam.settings import Template

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SHORT = Example(instruction="a", answer="b", line=0, path="")
"""A record whose answer is one token, to see how a row ends."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row. `ids` and `labels` have equal length; `labels[0]` is always ignored.

    `prompt_length` is the index of the last answer (0 in a plain text); `answer_bytes` is the
    number of UTF-8 bytes of the answers that are scored. `weights` has a factor of the loss for
    each position, if some are not 1; what has the weight 0 has no label.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_length: int
    answer_bytes: int
    weights: tuple[float, ...] | None = None

    @property
    def n_supervised(self) -> int:
        """The number of positions with a label."""
        return len(self.labels) - self.labels.count(IGNORED)

    def first(self, length: int) -> Encoded:
        """Return the first `length` positions; only for plain text, an answer is never cut."""
        weights = self.weights and self.weights[:length]
        return replace(self, ids=self.ids[:length], labels=self.labels[:length], weights=weights)

    def last(self, length: int) -> Encoded:
        """The last `length` positions of the row, as a sample of what it costs to compute."""
        weights = self.weights and self.weights[-length:]
        return replace(self, ids=self.ids[-length:], labels=self.labels[-length:], weights=weights)

    def without(self, start: int, end: int) -> Encoded:
        """Return the row without a part of its prompt; the token after the gap has no label."""
        return Encoded(
            self.ids[:start] + self.ids[end:],
            (*self.labels[:start], IGNORED, *self.labels[end + 1 :]),
            self.prompt_length - (end - start),
            self.answer_bytes,
            self.weights and self.weights[:start] + self.weights[end:],
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
    start_text: str
    """The text that the tokenizer reads as `start_ids`, or an empty one."""
    eos_token_id: int
    end_text: str
    """The text that the tokenizer reads as the end token, or an empty one."""
    stop_ids: tuple[int, ...]
    """The ids that end an answer: the last token of a trained row and the base's own."""
    special_ids: frozenset[int]
    """The ids of special tokens, and of the tokens with which the chat template marks turns."""
    special_pattern: re.Pattern[str] | None
    """The texts of these tokens."""
    shape: ChatShape | None
    """The properties of the chat template; None for the plain template."""
    folds_system: bool = False
    """True if a system text is put before the first question, and not into a turn of its own."""

    @property
    def stop_text(self) -> str:
        """The text that ends an answer, where the template ends it with text and not a token."""
        return self.shape.stop_text if self.shape else ""

    @property
    def date(self) -> datetime | None:
        """The date that the chat template writes; None where it writes none, or today's."""
        return self.shape.template.date if self.shape and self.shape.writes_date else None

    @property
    def is_thinking(self) -> bool:
        """Whether answers in the chat template begin with a thought."""
        return self.shape is not None and self.shape.is_thinking

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

        Its ids are those of the whole text, and no token spans a prompt and its answer (see
        `sections`).
        """
        return self.encode_batch([example])[0]

    def encode_batch(self, examples: Sequence[Example]) -> list[Encoded]:
        """Return the rows of some examples, tokenized together; the same as one by one."""
        sections = [self._sections(it) for it in examples]
        # The plain template has no special tokens: what looks like one is the user's own text.
        is_plain = self.template == "plain"
        ids = Ids(self.tokenizer, self.backend, self.special_pattern if is_plain else None)
        ids.learn(section for row in sections for section in row)
        shared: dict[int, int] = {}  # one int object per id, not one per occurrence
        return [
            self._row(example, [section_ids(section, ids) for section in row], shared)
            for example, row in zip(examples, sections, strict=True)
        ]

    def encode_text(self, text: str) -> Encoded:
        """Return a plain text with every token but the first supervised, without an end token."""
        is_plain = self.template == "plain"
        (found,) = encode_texts(self.tokenizer, self.backend, [text], split_special_tokens=is_plain)
        ids = (*self.start_ids, *found)
        return Encoded(ids, (IGNORED, *ids[1:]), 0, len(text.encode("utf-8")))

    def _sections(self, example: Example) -> list[Section]:
        """Return the text of an example, a section for each stretch between two end tokens."""
        rendered = render(example, self.shape, folds_system=self.folds_system)
        parts = [segment.text for segment in rendered]
        if example.is_plain_text:
            return [Section(self.start_text, ("", *parts))]
        if self.shape is not None:
            return [Section("", self.shape.ended(parts))]
        start, end = self.start_text, self.end_text
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return [Section(end if number else start, pair) for number, pair in enumerate(pairs)]

    def _row(
        self, example: Example, sections: list[list[tuple[int, ...]]], shared: dict[int, int]
    ) -> Encoded:
        # A chat template writes its own beginning-of-text token; a plain text has no template.
        is_bare = self.shape is None or example.is_plain_text
        ids = list(self.start_ids) if is_bare else []
        answers: list[Span] = []
        for number, parts in enumerate(sections, start=1):
            for place, part in enumerate(parts):
                if place % 2:
                    answers.append((len(ids), len(ids) + len(part)))
                ids += part
            is_last = number == len(sections)
            if is_bare or (is_last and self.shape is not None and not self.shape.ends_with_token):
                ids.append(self.eos_token_id)
                answers[-1] = (answers[-1][0], len(ids))
        whole = tuple(map(shared.setdefault, ids, ids))
        prompt_length = 0 if example.is_plain_text else answers[-1][0]
        labels = labels_of(whole, answers, self.loss_on)
        is_short = len(answers) < len(example.weights)  # earlier answers are part of the prompt
        if self.loss_on == "everything" and is_short and set(example.weights) != {1.0}:
            raise TurnsRefusedError(
                "The chat template changes earlier answers, so their weights cannot be kept with "
                "--completion_only_loss false."
            )
        weights = weights_of(len(whole), answers, example.weights[-len(answers) :], self.loss_on)
        if weights:
            labels = tuple(
                label if weight else IGNORED for label, weight in zip(labels, weights, strict=True)
            )
        return Encoded(whole, labels, prompt_length, self._answer_bytes(example), weights)

    def _answer_bytes(self, example: Example) -> int:
        n = len(example.answer.encode("utf-8"))
        if self.loss_on == "last_answer":
            return n
        earlier = (turn.text for turn in example.earlier if turn.role == "assistant")
        return n + sum(len(text.encode("utf-8")) for text in earlier)


def make_encoder(
    tokenizer: Tokenizer,
    template: Template,
    *,
    loss_on: LossOn = "last_answer",
    base_stop_ids: tuple[int, ...] = (),
    date: datetime | None = None,
    is_thinking: bool = False,
) -> Encoder:
    """Make an encoder for a template returned by `choose_template`.

    `base_stop_ids` are the ids at which the base ends a text besides the end-of-text token. `date`
    is the one that a chat template writes as today's; without it the template reads the clock. If
    it `is_thinking`, answers begin with a thought. A
    chat template is tried here once, so that an unusable one is reported before the data is read.

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
    added = tokenizer.added_tokens_decoder
    special = {token_id: token.content for token_id, token in added.items() if token.special}
    shape = None
    if template == "chat":
        # Some tokenizers add runs of blanks, which mark nothing.
        tokens = _any_of(token.content for token in added.values() if token.content.strip())
        shape = inspect_template(ChatTemplate(tokenizer, date), tokens, is_thinking=is_thinking)
        special |= {
            it: token.content for it, token in added.items() if token.content in shape.marks
        }
    encoder = Encoder(
        tokenizer,
        fast_backend(tokenizer),
        template,
        loss_on,
        start,
        "".join(added[it].content for it in start if it in added),
        eos,
        added[eos].content if eos in added else "",
        (),
        frozenset(special),
        _any_of(special.values()),
        shape,
    )
    last = encoder.encode(SHORT).ids[-1]
    return replace(encoder, stop_ids=tuple(sorted({eos, last, *base_stop_ids})))


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that matches any of the texts, the longest if several begin in a place."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
