"""A record becomes ids and labels: the prompt masked, the end token trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from finetuning_exam.data.records import Example
from finetuning_exam.data.template import ChatTokenizer, render
from finetuning_exam.errors import DataError, ModelError
from finetuning_exam.settings import Template

IGNORED = -100
"""The label of a position without loss, as PyTorch's cross-entropy has it."""


class AddedToken(Protocol):
    """A token that a tokenizer knows besides its vocabulary."""

    content: str
    special: bool


class Tokenizer(ChatTokenizer, Protocol):
    """The part of a Transformers tokenizer that is used here."""

    bos_token_id: int | None
    eos_token_id: int | None
    added_tokens_decoder: Mapping[int, AddedToken]

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        """Ids of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row. `ids` and `labels` have equal length; `labels[0]` is always ignored."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_length: int
    answer_bytes: int

    @property
    def n_supervised(self) -> int:
        """How many positions have a label."""
        return sum(label != IGNORED for label in self.labels)

    def first(self, length: int) -> Encoded:
        """The first `length` positions of the row; for text only, an answer is never cut."""
        return replace(self, ids=self.ids[:length], labels=self.labels[:length])


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns examples into rows for one tokenizer and one template; made by `make_encoder`."""

    tokenizer: Tokenizer
    template: Template
    completion_only_loss: bool
    start_ids: tuple[int, ...]
    """What this tokenizer puts before a text: a beginning-of-text token, or nothing."""
    eos_token_id: int
    base_stop_ids: tuple[int, ...]
    special_ids: frozenset[int]
    special_texts: tuple[str, ...]

    def special_text_in(self, example: Example) -> str | None:
        """A special token that a chat template would obey although it stands in the data."""
        if self.template == "plain":
            return None
        texts = (example.instruction, example.input, example.answer)
        return next((it for it in self.special_texts if any(it in text for text in texts)), None)

    def prompt_ids(self, example: Example) -> tuple[int, ...]:
        """Ids of the prompt, the same at inference as the masked prefix in training."""
        return self._prompt_ids(render(example, self.template, self.tokenizer).prompt)

    def encode(self, example: Example) -> Encoded:
        """Ids and labels of a whole row; the last label is a token that ends the answer.

        Prompt and answer are tokenized apart, so no token spans their border.
        """
        rendered = render(example, self.template, self.tokenizer)
        prompt = self._prompt_ids(rendered.prompt)
        answer = self._answer_ids(rendered.answer)
        masked = (IGNORED,) * len(prompt)
        labels = masked if self.completion_only_loss else (IGNORED, *prompt[1:])
        return Encoded(
            prompt + answer, labels + answer, len(prompt), len(example.answer.encode("utf-8"))
        )

    def encode_text(self, text: str) -> Encoded:
        """A plain text of which every token but the first is supervised, without an end token."""
        ids = self.start_ids + self._ids(text)
        return Encoded(ids, (IGNORED, *ids[1:]), 0, len(text.encode("utf-8")))

    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: the last token of a trained row, and the base's own."""
        probe = Example(instruction="a", answer="b", line=0, path="")
        return tuple(sorted({self.eos_token_id, self.encode(probe).ids[-1], *self.base_stop_ids}))

    def _ids(self, text: str) -> tuple[int, ...]:
        # The plain template holds no special tokens: what looks like one is the user's own text.
        return _tokenize(self.tokenizer, text, split_special_tokens=self.template == "plain")

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Ids of a rendered prompt; a chat template writes its own beginning-of-text token."""
        return self._ids(prompt) if self.template == "chat" else self.start_ids + self._ids(prompt)

    def _answer_ids(self, answer: str) -> tuple[int, ...]:
        """Ids up to and with the end of the turn, or the end-of-text token where there is none."""
        ids = self._ids(answer)
        if self.template == "chat":
            ends = [index for index, token in enumerate(ids) if token in self.special_ids]
            if ends:
                return ids[: ends[-1] + 1]
        return (*ids, self.eos_token_id)


def make_encoder(
    tokenizer: Tokenizer,
    template: Template,
    *,
    completion_only_loss: bool = True,
    base_stop_ids: tuple[int, ...] = (),
) -> Encoder:
    """An encoder for a template that `choose_template` has settled.

    `base_stop_ids` are the ids at which the base ends a text besides the end-of-text token.

    Raises:
        ModelError: the tokenizer has no end-of-text token, so answers could not end.
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
    return Encoder(
        tokenizer,
        template,
        completion_only_loss,
        start,
        eos,
        base_stop_ids,
        frozenset(special),
        tuple(special.values()),
    )


def _tokenize(tokenizer: Tokenizer, text: str, *, split_special_tokens: bool) -> tuple[int, ...]:
    return tuple(
        tokenizer.encode(text, add_special_tokens=False, split_special_tokens=split_special_tokens)
    )


def encode_all(
    encoder: Encoder, examples: Sequence[Example], max_length: int
) -> tuple[Encoded, ...]:
    """Encode every example.

    Raises:
        DataError: rows longer than `max_length` tokens, none of which is cut, or rows that hold a
            special token which the chat template would obey; each is named.
    """
    refuse_special_tokens(encoder, examples)
    rows = tuple(encoder.encode(example) for example in examples)
    too_long = [
        f"{example.where}: {len(row.ids)} tokens, more than {max_length}."
        for example, row in zip(examples, rows, strict=True)
        if len(row.ids) > max_length
    ]
    if too_long:
        raise DataError(too_long, "Shorten them; training takes as many as --max_length says.")
    return rows


def refuse_special_tokens(encoder: Encoder, examples: Sequence[Example]) -> None:
    """See that no text holds a special token which the chat template would obey.

    Raises:
        DataError: some do; each is named.
    """
    obeyed = [
        f"{example.where}: the text holds the special token {found}."
        for example in examples
        if (found := encoder.special_text_in(example))
    ]
    if obeyed:
        raise DataError(obeyed, "Take it out, or use --template plain, where it is only text.")
