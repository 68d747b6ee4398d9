"""Render a conversation with a tokenizer's chat template.

The template comes with the model and is untrusted code. It runs in Transformers' sandbox, which
denies access to files and attributes, and here within limits: the CPU time of one rendering, and
the length of its output. Not covered: time on Windows and outside the main thread, where Python has
no timer that can interrupt; a single operation that never returns to the interpreter; and the
memory that a rendering takes before its length is known.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from finetuning_exam.data.findings import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import ModelError

TEMPLATE_SECONDS = 2.0
"""The CPU time that one rendering may take; it usually takes about a millisecond."""
_GROWTH = 16
_MARKS_PER_TURN = 64
_PREAMBLE = 1 << 16
_HINT = "Use --template plain."
_SYSTEM = Turn("system", "System7qZvWx")
_QUESTION = Turn("user", "Question7qZvWx")
_ANSWER = Turn("assistant", "Answer7qZvWx")
"""A conversation of words that occur in no template."""
_NAMES = {"system": "system turn", "user": "question", "assistant": "answer"}


class ChatTokenizer(Protocol):
    """The part of a Transformers tokenizer that renders a conversation."""

    chat_template: str | None

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Return the text of a conversation."""
        ...


class TurnsRefusedError(ModelError):
    """A conversation that the chat template does not take; it may take others."""

    def __init__(self, what: str, kind: Kind = Kind.TURNS_REFUSED, hint: str = _HINT) -> None:
        super().__init__(what, hint)
        self.kind = kind


class _TooSlow(Exception):
    """A rendering has exceeded its time limit."""


@dataclass(frozen=True, slots=True)
class ChatShape:
    """The properties of a chat template that hold for every conversation; see `chat_shape`."""

    header: str
    """Text that precedes an answer but is missing from the template's generation prompt."""
    special: re.Pattern[str] | None
    """The tokenizer's special tokens; the first one after an answer ends it."""
    shows_system: bool


def chat_shape(tokenizer: ChatTokenizer, special: re.Pattern[str] | None) -> ChatShape:
    """Inspect a chat template once, with words that can only come from the conversation.

    A template that rejects or drops system turns is accepted as long as there are none.

    Raises:
        ModelError: the template cannot be used for a single question; see `chat_parts`.
    """
    prompt = _render(tokenizer, [_QUESTION], asks=True)
    whole = _render(tokenizer, [_QUESTION, _ANSWER], asks=False)
    if _QUESTION.text not in prompt:
        raise _not_shown(_QUESTION)
    if not whole.startswith(prompt):
        raise _no_prefix()
    header, found, _ = whole[len(prompt) :].partition(_ANSWER.text)
    if not found:
        raise _not_shown(_ANSWER)
    # Whitespace alone is not a header: it starts the answer, and its first token.
    return ChatShape(header if header.strip() else "", special, _shows_system(tokenizer))


def _shows_system(tokenizer: ChatTokenizer) -> bool:
    """Return whether a system turn is in the prompt, or is rejected with an error."""
    try:
        text = _render(tokenizer, [_SYSTEM, _QUESTION], asks=True)
    except ModelError:  # rendering an example with a system turn says why
        return True
    return _SYSTEM.text in text


def chat_parts(example: Example, tokenizer: ChatTokenizer, shape: ChatShape) -> list[str]:
    """Return the text of a conversation as alternating parts: given, then answered.

    Each assistant turn has two parts: the text up to its answer, then the answer up to the first
    special token after it and the whitespace after that, or all that the template writes if there
    is none. An absent answer gives an empty last part. What the model is given at inference is a
    prefix of what it is trained on, turn by turn.

    Raises:
        TurnsRefusedError: the chat template fails, rejects or drops a turn, or renders a prompt
            that is not a prefix of the whole.
        ModelError: it takes too long or renders too much.
    """
    turns = [*example.earlier, Turn("user", question(example))]
    answered = [*turns, Turn("assistant", example.answer) if example.answer else _ANSWER]
    for turn in answered:
        if turn.role == "system" and turn.text.strip() and not shape.shows_system:
            raise _not_shown(turn)
    parts: list[str] = []
    done = ""
    for index, turn in enumerate(answered):
        if turn.role != "assistant":
            continue
        prompt = _render(tokenizer, answered[:index], asks=True) + shape.header
        whole = _render(tokenizer, answered[: index + 1], asks=False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise _no_prefix()
        answer = _answer_with_end(turn, whole[len(prompt) :], shape.special)
        parts += [prompt[len(done) :], answer]
        done = prompt + answer
    _check_shown(answered, parts)
    if not example.answer:
        parts[-1] = ""
    return parts


def question(example: Example) -> str:
    """Return the last question, followed by its input."""
    return f"{example.instruction}\n\n{example.input}" if example.input else example.instruction


def _answer_with_end(turn: Turn, rest: str, special: re.Pattern[str] | None) -> str:
    """Return an answer and what ends it, from the text that a template renders from there on."""
    text = turn.text.strip()
    start = len(rest) - len(rest.lstrip())
    if not rest.startswith(text, start):
        raise _no_prefix() if text in rest else _not_shown(turn)
    end = special.search(rest, start + len(text)) if special else None
    if end is None:
        return rest
    # A special token may include the whitespace after it, so the two stay together.
    behind = rest[end.end() :]
    return rest[: len(rest) - len(behind.lstrip())]


def _check_shown(turns: Sequence[Turn], parts: Sequence[str]) -> None:
    """Check that every given turn is in the part that it belongs to."""
    place = 0
    for turn in turns:
        if turn.role == "assistant":
            place += 2
        elif turn.text.strip() not in parts[place]:
            raise _not_shown(turn)


def _no_prefix() -> TurnsRefusedError:
    return TurnsRefusedError(
        "With this chat template the prompt is not a prefix of the whole conversation, so "
        "training and inference would see different prompts."
    )


def _not_shown(turn: Turn) -> TurnsRefusedError:
    what = f"The chat template does not render the {_NAMES[turn.role]} verbatim."
    if turn.role == "system":
        return TurnsRefusedError(what, Kind.SYSTEM_REFUSED, Kind.SYSTEM_REFUSED.hint)
    return TurnsRefusedError(what)


def _render(tokenizer: ChatTokenizer, turns: Sequence[Turn], *, asks: bool) -> str:
    """Render some turns, and the generation prompt if it `asks` for an answer."""
    try:
        text = _apply(tokenizer, turns, asks=asks)
    except ModelError:
        raise
    except Exception as error:  # a template is untrusted code and may raise anything
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if _refuses_system(tokenizer, turns, asks=asks):
            kind = Kind.SYSTEM_REFUSED
            what = f"The chat template rejects system turns: {reason}."
            raise TurnsRefusedError(what, kind, kind.hint) from error
        raise TurnsRefusedError(f"The chat template failed: {reason}.") from error
    n_characters = sum(len(turn.text) + _MARKS_PER_TURN for turn in turns)
    if len(text) > _GROWTH * n_characters + _PREAMBLE:
        raise ModelError(
            f"The chat template rendered {len(text):,} characters from a conversation of "
            f"{sum(len(turn.text) for turn in turns):,}.",
            _HINT,
        )
    return text


def _refuses_system(tokenizer: ChatTokenizer, turns: Sequence[Turn], *, asks: bool) -> bool:
    """Return whether the same turns render without their system turn."""
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
            f"The chat template did not finish within {TEMPLATE_SECONDS:g} seconds.", _HINT
        ) from None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` once this thread has used `seconds` of CPU time.

    The timer counts the CPU time of the process, so a busy machine interrupts nothing early; when
    it fires the thread's own clock decides, so other threads interrupt nothing early either.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "setitimer") or not is_main:
        yield
        return
    started = time.thread_time()

    def check(_number: int, _frame: FrameType | None) -> None:
        if time.thread_time() - started >= seconds:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            raise _TooSlow

    before = signal.signal(signal.SIGVTALRM, check)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds / 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before or signal.SIG_DFL)
