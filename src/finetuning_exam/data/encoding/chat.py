"""A conversation as a tokenizer's chat template writes it.

The template came with the model and is foreign code. It runs in Transformers' sandbox, which keeps
it from files and names, and here within limits: the processor time of one rendering, and the length
of what it renders. Not covered: time on Windows and outside the main thread, where Python has no
timer that could interrupt; a single operation that never returns to Python's interpreter; and the
memory that a rendering takes before its length is seen.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import ModelError

TEMPLATE_SECONDS = 2.0
"""Processor time that one rendering may take; it takes about a thousandth of a second."""
_MARKER = "x"
_GROWTH = 16
_MARKS_PER_TURN = 64
_PREAMBLE = 1 << 16
_MEND = "Use --template plain."
_NAMES = {"system": "system turn", "user": "question", "assistant": "assistant's answer"}


class ChatTokenizer(Protocol):
    """The part of a Transformers tokenizer that renders a conversation."""

    chat_template: str | None

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The text of a conversation."""
        ...


class _TooSlow(Exception):
    """A rendering has used up its time."""


def chat_parts(example: Example, tokenizer: ChatTokenizer) -> list[str]:
    """The text of a conversation, in turn what is given and what the assistant says.

    Each assistant turn has two parts: the text up to its generation prompt, then the answer with
    all that ends it. An absent answer gives an empty last part. What the model is given at
    inference is a prefix of what it is trained on, turn by turn.

    Raises:
        ModelError: the chat template fails, refuses or drops a turn, takes too long, renders too
            much, or writes a prompt that is no prefix of the whole.
    """
    turns = [*example.earlier, Turn("user", question(example))]
    answered = [*turns, Turn("assistant", example.answer or _MARKER)]
    parts: list[str] = []
    done = ""
    for index, turn in enumerate(answered):
        if turn.role != "assistant":
            continue
        prompt = _render(tokenizer, answered[:index], asks=True)
        whole = _render(tokenizer, answered[: index + 1], asks=False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise ModelError(
                "With this chat template the prompt is not a prefix of the whole conversation, so "
                "training and inference would see different prompts.",
                _MEND,
            )
        parts += [prompt[len(done) :], whole[len(prompt) :]]
        done = whole
    _check_shown(answered, parts)
    if not example.answer:
        parts[-1] = ""
    return parts


def question(example: Example) -> str:
    """What is asked last, its input after it."""
    return f"{example.instruction}\n\n{example.input}" if example.input else example.instruction


def _check_shown(turns: Sequence[Turn], parts: Sequence[str]) -> None:
    """See that every turn stands in the part that it belongs to."""
    place = 0
    for turn in turns:
        is_answer = turn.role == "assistant"
        if turn.text.strip() not in parts[place + is_answer]:
            raise ModelError(
                f"This chat template does not show the {_NAMES[turn.role]} as it is written.",
                _MEND,
            )
        place += 2 * is_answer


def _render(tokenizer: ChatTokenizer, turns: Sequence[Turn], *, asks: bool) -> str:
    """The text of some turns, and of the generation prompt if it `asks` for an answer."""
    try:
        text = _apply(tokenizer, turns, asks=asks)
    except ModelError:
        raise
    except Exception as error:  # a template is foreign code and may raise anything
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if _refuses_system(tokenizer, turns, asks=asks):
            raise ModelError(
                f"The chat template refuses system turns: {reason}.",
                "Use --template plain, or take the system turns out.",
            ) from error
        raise ModelError(f"The chat template fails: {reason}.", _MEND) from error
    n_characters = sum(len(turn.text) + _MARKS_PER_TURN for turn in turns)
    if len(text) > _GROWTH * n_characters + _PREAMBLE:
        raise ModelError(
            f"The chat template renders {len(text):,} characters from a conversation of "
            f"{sum(len(turn.text) for turn in turns):,}.",
            _MEND,
        )
    return text


def _refuses_system(tokenizer: ChatTokenizer, turns: Sequence[Turn], *, asks: bool) -> bool:
    """Whether the same turns pass without their system turn."""
    others = [turn for turn in turns if turn.role != "system"]
    if len(others) == len(turns):
        return False
    try:
        _apply(tokenizer, others, asks=asks)
    except Exception:  # it fails for another reason
        return False
    return True


def _apply(tokenizer: ChatTokenizer, turns: Sequence[Turn], *, asks: bool) -> str:
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    try:
        with _time_limit(TEMPLATE_SECONDS):
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=asks
            )
    except _TooSlow:
        raise ModelError(
            f"The chat template comes to no end within {TEMPLATE_SECONDS:g} seconds.", _MEND
        ) from None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` once this thread has worked for `seconds` of processor time.

    The timer counts the work of the whole process, so that a busy machine ends nothing early; when
    it fires the thread's own clock decides, so that other threads end nothing early either.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "setitimer") or not is_main:
        yield
        return
    started = time.thread_time()

    def look(_number: int, _frame: FrameType | None) -> None:
        if time.thread_time() - started >= seconds:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            raise _TooSlow

    before = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds / 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before or signal.SIG_DFL)
