"""Render turns with a tokenizer's chat template, within limits.

The template comes with the model and is untrusted code. It runs in Transformers' sandbox, which
denies access to files and attributes, and here within limits: the CPU time of one rendering, and
the length of its output. Not covered: time on Windows and outside the main thread, where Python has
no timer that can interrupt; a single operation that never returns to the interpreter; and the
memory that a rendering takes before its length is known.
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Protocol

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Turn
from finetuning_exam.data.tool_text import call_text, split_calls
from finetuning_exam.errors import ModelError

TEMPLATE_SECONDS = 2.0
"""The CPU time that one rendering may take; it usually takes about a millisecond."""
TEMPLATE_HINT = "Use --template plain."
_DIRECTIVES = "aAwdbBmyYHIpMSfzZjUWcxXGuV"
"""The letters of the directives of `strftime`."""
_INDENTED_BLOCK = re.compile(r"\A[ \t]+(?=\{%(?!\+))")
"""White space that Transformers' templates lose before a block at the start of a line."""
_GROWTH = 16
_MARKS_PER_TURN = 64
_PREAMBLE = 1 << 16


class ChatTokenizer(Protocol):
    """The part of a Transformers tokenizer that renders a conversation."""

    chat_template: str | None

    def apply_chat_template(
        self,
        conversation: list[dict[str, object]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: object,
    ) -> str:
        """Return the text of a conversation; `variables` are those of the template."""
        ...


def _with_date(template: str, date: datetime) -> str:
    """Return a template that gets this date from `strftime_now`, the function for today's.

    Transformers hands only plain data to a template, so the function is a macro.
    """
    written = (
        (f"%{mark}{it}", date.strftime(f"%{it}")) for mark in ("", "-") for it in _DIRECTIVES
    )
    replaced = "".join(
        f" | replace({directive!r}, {(text.lstrip('0') or '0') if '-' in directive else text!r})"
        for directive, text in written
    )
    macro = f"{{%- macro strftime_now(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro -%}}"
    return joined(macro, template)


def joined(blocks: str, template: str) -> str:
    """Return a template that begins with blocks which write nothing."""
    # An expression keeps the white space that follows it, where a block would lose it.
    return blocks + "{{ '' }}" + _INDENTED_BLOCK.sub("", template) if blocks else template


class TurnsRefusedError(ModelError):
    """A conversation that the chat template does not take; it may take others."""

    def __init__(
        self, what: str, kind: Kind = Kind.TURNS_REFUSED, hint: str = TEMPLATE_HINT
    ) -> None:
        super().__init__(what, hint)
        self.kind = kind


class _TooSlow(Exception):
    """A rendering has exceeded its time limit."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer's chat template, with the date that it writes wherever it asks for today's.

    Without a date the template reads the clock at every rendering.
    """

    tokenizer: ChatTokenizer
    date: datetime | None = None
    text: str | None = None
    """Another template than the tokenizer's own."""

    def render(self, turns: Sequence[Turn], *, asks: bool, tools: str | None = None) -> str:
        """Render some turns, and the generation prompt if it `asks` for an answer.

        With `tools`, a JSON list or "", calls are handed to the template as such and not as text.

        Raises:
            ModelError: the template fails, rejects a turn, takes too long or renders too much.
        """
        try:
            text = self._apply(turns, asks=asks, tools=tools)
        except ModelError:
            raise
        except Exception as error:  # a template is untrusted code and may raise anything
            reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            if self._refuses_system(turns, asks=asks, tools=tools):
                kind = Kind.SYSTEM_REFUSED
                what = f"The chat template rejects system turns: {reason}."
                raise TurnsRefusedError(what, kind, kind.hint) from error
            raise TurnsRefusedError(f"The chat template failed: {reason}.") from error
        n_characters = sum(len(turn.text) + _MARKS_PER_TURN for turn in turns) + len(tools or "")
        if len(text) > _GROWTH * n_characters + _PREAMBLE:
            raise ModelError(
                f"The chat template rendered {len(text):,} characters from a conversation of "
                f"{sum(len(turn.text) for turn in turns):,}.",
                TEMPLATE_HINT,
            )
        return text

    def _refuses_system(self, turns: Sequence[Turn], *, asks: bool, tools: str | None) -> bool:
        """Return whether the same turns render without their system turn."""
        others = [turn for turn in turns if turn.role != "system"]
        if len(others) == len(turns):
            return False
        try:
            self._apply(others, asks=asks, tools=tools)
        except Exception:  # it fails for another reason
            return False
        return True

    def _apply(self, turns: Sequence[Turn], *, asks: bool, tools: str | None) -> str:
        messages = [_message(turn, is_structured=tools is not None) for turn in turns]
        text = self.text or self.tokenizer.chat_template
        variables: dict[str, object] = {}
        if isinstance(text, str) and self.date is not None and "strftime_now" in text:
            variables["chat_template"] = _with_date(text, self.date)
        elif self.text is not None:
            variables["chat_template"] = self.text
        if tools:
            variables["tools"] = [_definition(it) for it in json.loads(tools)]
        try:
            with _time_limit(TEMPLATE_SECONDS):
                return self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=asks, **variables
                )
        except _TooSlow:
            raise ModelError(
                f"The chat template did not finish within {TEMPLATE_SECONDS:g} seconds.",
                TEMPLATE_HINT,
            ) from None


def _message(turn: Turn, *, is_structured: bool) -> dict[str, object]:
    """Return a turn as templates take it, its calls in the form of OpenAI if `is_structured`."""
    text, calls = split_calls(turn.text) if is_structured else ("", ())
    if turn.role != "assistant" or not calls or call_text(text, calls) != turn.text:
        return {"role": turn.role, "content": turn.text}
    return {
        "role": turn.role,
        "content": text,
        "tool_calls": [{"type": "function", "function": call._asdict()} for call in calls],
    }


def _definition(tool: dict[str, object]) -> dict[str, object]:
    """Return the definition of a tool in OpenAI's wrapper."""
    return tool if "function" in tool else {"type": "function", "function": tool}


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
