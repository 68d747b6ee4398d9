"""One answer as an iterator over the pieces of its text.

An answer is written by the loop that writes batches, one token each time the iterator is asked for
more. So nothing runs while the consumer holds a piece: to stop the model, stop asking. Errors and
Ctrl-C arrive where they would in a plain call. Only a model that cannot be batched runs
in a thread, since Transformers' `generate` cannot be left after a token and entered again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Thread

import torch
from peft import PeftModel
from torch import Tensor
from transformers import TextStreamer
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.model.generation.batch import Row, can_batch, write_steps
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, to_answer, write_alone
from finetuning_exam.model.mode import Side, evaluating, on_side

THREAD_NAME = "answer"


def stream_answer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: tuple[int, ...],
    decoding: Decoding,
    side: Side,
) -> Generator[str, None, Answer]:
    """Yield the text of one side's answer, whole words at a time; the return value is the answer.

    It is the answer of a batch. From the first piece until the iterator ends, fails or is closed,
    the model is that side, in evaluation mode.
    """
    row = Row(prompt, 0)
    tokens = _tokens_step_by_step if can_batch(model) else _tokens_from_thread
    words = _Words(tokenizer)
    shown = UpTo(decoding.stop_text)
    ids: list[int] = []
    with on_side(model, side), evaluating(model), closing(tokens(model, row, decoding)) as written:
        for token in written:
            ids.append(token)
            if token not in decoding.stop_ids:
                words.put(torch.tensor([token]))
                yield from shown.pieces(words.take())
            if shown.is_over:
                break
        words.end()
        yield from shown.pieces(words.take())
        yield from shown.rest()
    return to_answer(tokenizer, ids, decoding)


class _Words(TextStreamer):  # type: ignore[misc]
    """Collects the text of an answer as far as later tokens do not change it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self._ready: list[str] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Keep a piece of text that is certain."""
        if text:
            self._ready.append(text)

    def take(self) -> list[str]:
        """Return the pieces that are certain and were not taken yet."""
        ready, self._ready = self._ready, []
        return ready


class UpTo:
    """Holds text back as long as it may be the beginning of a text that ends the answer."""

    def __init__(self, stop_text: str) -> None:
        self._stop = stop_text
        self._held = ""
        self.is_over = False

    def pieces(self, pieces: list[str]) -> list[str]:
        """Return what is certainly before the end, of the pieces given so far."""
        if not self._stop:
            return pieces
        if self.is_over:
            return []
        text, found, _ = (self._held + "".join(pieces)).partition(self._stop)
        self.is_over = bool(found)
        n_held = 0 if found else self._n_begun(text)
        ready, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        return [ready] if ready else []

    def rest(self) -> list[str]:
        """Return what was held back and turned out to be no end."""
        held, self._held = self._held, ""
        return [held] if held else []

    def _n_begun(self, text: str) -> int:
        """Return the length of the longest end of a text with which the stop text begins."""
        lengths = range(min(len(text), len(self._stop) - 1), 0, -1)
        return next((n for n in lengths if self._stop.startswith(text[-n:])), 0)


def _tokens_step_by_step(
    model: PeftModel, row: Row, decoding: Decoding
) -> Generator[int, None, None]:
    for step in write_steps(model, [row], decoding):
        yield step[0]


class _Closed(Exception):
    """The consumer wants no more tokens."""


class _Tokens(BaseStreamer):  # type: ignore[misc]
    """Hands over each token that `generate` writes, until it is closed."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[int | BaseException | None] = SimpleQueue()
        self.is_closed = Event()
        self._has_prompt = False

    def put(self, value: Tensor) -> None:
        """Take the prompt's ids, once, and then every new one."""
        if self.is_closed.is_set():
            raise _Closed
        if self._has_prompt:
            self.queue.put(int(value.item()))
        self._has_prompt = True

    def end(self) -> None:
        """Do nothing: the end of the thread is the end of the answer."""


def _tokens_from_thread(
    model: PeftModel, row: Row, decoding: Decoding
) -> Generator[int, None, None]:
    """Yield the ids that `generate` writes in a thread, which has ended when this has."""
    tokens = _Tokens()

    def write() -> None:
        try:
            write_alone(model, row, decoding, tokens)
        except BaseException as error:  # it is raised again where the tokens are consumed
            tokens.queue.put(error)
        else:
            tokens.queue.put(None)

    thread = Thread(target=write, name=THREAD_NAME, daemon=True)
    thread.start()
    try:
        while (item := tokens.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        tokens.is_closed.set()
        thread.join()
