"""A conversation as text in a chat template: given and answered parts, and how an answer ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from finetuning_exam.data.encoding.chat_template import ChatTemplate, TurnsRefusedError
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import ModelError

_SYSTEM = Turn("system", "System7qZvWx")
_QUESTION = Turn("user", "Question7qZvWx")
_ANSWER = Turn("assistant", "Answer7qZvWx")
"""A conversation of words that occur in no template."""
_TWO_DATES = (datetime(1999, 1, 1, 1, 1), datetime(2024, 12, 22, 22, 22))
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?(?:start|end)_of_\w{1,20}>|<(?:bos|eos|s)>|</s>")
_NAMES = {"system": "system turn", "user": "question", "assistant": "answer"}


@dataclass(frozen=True, slots=True)
class ChatShape:
    """The properties of a chat template that hold for every conversation; see `chat_shape`."""

    template: ChatTemplate
    header: str
    """Text that precedes an answer but is missing from the template's generation prompt."""
    ending: str
    """All that the template writes after the last answer."""
    tokens: re.Pattern[str] | None
    """The tokenizer's added tokens; the first one that is written after an answer ends it."""
    marks: frozenset[str]
    """The added tokens that the template writes around turns."""
    missing_marks: tuple[str, ...]
    """Text that looks like a mark of the template, but is not a token of the tokenizer."""
    shows_system: bool
    writes_date: bool

    @property
    def ends_with_token(self) -> bool:
        """True if the template writes a token after an answer, which ends it."""
        return self.tokens is not None and self.tokens.search(self.ending) is not None

    @property
    def stop_text(self) -> str:
        """The text that ends an answer where no token does; "" if there is none either."""
        return "" if self.ends_with_token else self.ending.strip()

    def ended(self, parts: Sequence[str]) -> tuple[str, ...]:
        """Return the parts of a conversation with each answer ending right after its last token.

        The whitespace after that is part of the next prompt, and dropped after the last answer.
        """
        if not self.ends_with_token:
            return tuple(parts)
        ended: list[str] = []
        between = ""
        for given, answer in zip(parts[::2], parts[1::2], strict=True):
            end = max((found.end() for found in self._ends(answer)), default=len(answer))
            ended += [between + given, answer[:end]]
            between = answer[end:]
        return tuple(ended)

    def _ends(self, answer: str) -> Iterator[re.Match[str]]:
        return self.tokens.finditer(answer) if self.tokens else iter(())


def chat_shape(template: ChatTemplate, tokens: re.Pattern[str] | None) -> ChatShape:
    """Inspect a chat template once, with words that can only come from the conversation.

    `tokens` matches the tokenizer's added tokens. A template that rejects or drops system turns is
    accepted as long as there are none.

    Raises:
        ModelError: the template cannot be used for a single question; see `chat_parts`.
    """
    prompt = template.render([_QUESTION], asks=True)
    whole = template.render([_QUESTION, _ANSWER], asks=False)
    if _QUESTION.text not in prompt:
        raise _not_shown(_QUESTION)
    if not whole.startswith(prompt):
        raise _no_prefix()
    header, found, ending = whole[len(prompt) :].partition(_ANSWER.text)
    if not found:
        raise _not_shown(_ANSWER)
    around = prompt + ending
    return ChatShape(
        template,
        # Whitespace alone is not a header: it starts the answer, and its first token.
        header if header.strip() else "",
        ending,
        tokens,
        frozenset(tokens.findall(around)) if tokens else frozenset(),
        _missing_marks(tokens.sub(" ", around) if tokens else around),
        _shows_system(template),
        _writes_date(template),
    )


def _missing_marks(text: str) -> tuple[str, ...]:
    """Return what looks like a mark in the text of a template without its tokens."""
    return tuple(dict.fromkeys(_MARK.findall(text)))


def _shows_system(template: ChatTemplate) -> bool:
    """Return whether a system turn is in the prompt, or is rejected with an error."""
    try:
        text = template.render([_SYSTEM, _QUESTION], asks=True)
    except ModelError:  # rendering an example with a system turn says why
        return True
    return _SYSTEM.text in text


def _writes_date(template: ChatTemplate) -> bool:
    """Return whether the prompt is another one at another date."""
    one, other = (
        replace(template, date=date).render([_QUESTION], asks=True) for date in _TWO_DATES
    )
    return one != other


def chat_parts(example: Example, shape: ChatShape) -> list[str]:
    """Return the text of a conversation as alternating parts: given, then answered.

    Each assistant turn has two parts: the text up to its answer, then the answer up to the first
    added token after it and the whitespace after that, or all that the template writes if there
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
        prompt = shape.template.render(answered[:index], asks=True) + shape.header
        whole = shape.template.render(answered[: index + 1], asks=False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise _no_prefix()
        answer = _answer_with_end(turn, whole[len(prompt) :], shape.tokens)
        parts += [prompt[len(done) :], answer]
        done = prompt + answer
    _check_shown(answered, parts)
    if not example.answer:
        parts[-1] = ""
    return parts


def question(example: Example) -> str:
    """Return the last question, followed by its input."""
    return f"{example.instruction}\n\n{example.input}" if example.input else example.instruction


def _answer_with_end(turn: Turn, rest: str, tokens: re.Pattern[str] | None) -> str:
    """Return an answer and what ends it, from the text that a template renders from there on."""
    text = turn.text.strip()
    start = len(rest) - len(rest.lstrip())
    if not rest.startswith(text, start):
        raise _no_prefix() if text in rest else _not_shown(turn)
    end = tokens.search(rest, start + len(text)) if tokens else None
    if end is None:
        return rest
    # A token may include the whitespace after it, so the two stay together.
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
