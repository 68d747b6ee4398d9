"""A conversation as text in a chat template: given and answered parts, and how an answer ends.

A template may treat an answer that it ends with differently from the same answer in the history:
models that think drop their thoughts from it. What is trained is then what inference shows: a
prompt with the history as it is rendered there, and the answer as the model would write it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import TurnsRefusedError
from finetuning_exam.data.encoding.system_text import has_system
from finetuning_exam.data.encoding.tools import uses_tools
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.thoughts import split_thought, with_thought
from finetuning_exam.data.tool_text import is_call

PLACEHOLDER = Turn("assistant", "Answer7qZvWx")
"""An answer of a word that occurs in no template, in the place of an absent one."""
_NAMES = {
    "system": "system turn",
    "user": "question",
    "assistant": "answer",
    "tool": "result of a tool",
}
_EMPTY_THOUGHT = re.compile(r"\A\s*<think>\s*</think>\s*")


def chat_parts(example: Example, shape: ChatShape) -> list[str]:
    """Return the text of a conversation as alternating parts: given, then answered.

    Each assistant turn has two parts: the text up to its answer, then the answer up to the first
    added token after it and the whitespace after that, or all that the template writes if there
    is none. Where the template rewrites its history, only the last has. An absent answer gives an
    empty last part. What the model is given at inference is a prefix of what it is trained on.
    Tools that the template does not take must have been spelled out.

    Raises:
        TurnsRefusedError: the chat template fails, rejects or drops a turn, or renders a prompt
            that is not a prefix of the whole.
        ModelError: it takes too long or renders too much.
    """
    tools = example.tools if shape.takes_tools and uses_tools(example) else None
    turns = [*example.earlier, Turn(example.asked_by, question(example))]
    answered = [*turns, Turn("assistant", example.answer) if example.answer else PLACEHOLDER]
    if example.has_greeting and not shape.takes_greeting:
        raise TurnsRefusedError(
            "The chat template takes no assistant turn before the first question.",
            Kind.GREETING_FIRST,
            Kind.GREETING_FIRST.hint,
        )
    parts: list[str] = []
    done = ""
    for index, turn in enumerate(answered):
        is_last = index == len(answered) - 1
        if turn.role != "assistant" or (shape.rewrites_history and not is_last):
            continue
        whole = shape.template.render(answered[: index + 1], asks=False, tools=tools)
        if example.has_greeting and not any(it.role == "user" for it in answered[:index]):
            given, answer = _given_and_greeted(answered[: index + 1], whole, shape, tools)
        else:
            prompt = shape.template.render(answered[:index], asks=True, tools=tools)
            given, answer = _given_and_answered(turn, prompt, whole, shape)
        if not given.startswith(done):
            raise no_prefix()
        parts += [given[len(done) :], answer]
        done = given + answer
    _check_shown(answered, parts)
    if has_system(example) and example.earlier[0].text.strip() and not shape.takes_system:
        raise not_shown(example.earlier[0])  # only words that the template writes anyway
    if not example.answer:
        parts[-1] = ""
    return parts


def separate_answers(example: Example, shape: ChatShape | None) -> tuple[Example, ...]:
    """Return a conversation once for each answer to train, if its template rewrites the history.

    Each ends with that answer, after the history as inference shows it; otherwise it is returned
    as it is.
    """
    if shape is None or not shape.rewrites_history or example.is_plain_text:
        return (example,)
    found = [example.up_to_answer(index) for index in example.trained_answers]
    return (*found, example) if example.weight or not found else tuple(found)


def question(example: Example) -> str:
    """Return the last question, followed by its input."""
    return f"{example.instruction}\n\n{example.input}" if example.input else example.instruction


def _given_and_greeted(
    turns: Sequence[Turn], whole: str, shape: ChatShape, tools: str | None
) -> tuple[str, str]:
    """Return what stands before a greeting, the last of some turns, and the greeting.

    Few templates have a prompt without any question, so it is what precedes another greeting.
    """
    other = shape.template.render([*turns[:-1], PLACEHOLDER], asks=False, tools=tools)
    given, is_shown, _ = other.partition(PLACEHOLDER.text)
    if not is_shown:
        raise not_shown(turns[-1])
    return _given_and_answered(turns[-1], given, whole, replace(shape, header="", opening=""))


def _given_and_answered(turn: Turn, prompt: str, whole: str, shape: ChatShape) -> tuple[str, str]:
    """Return what is given before an answer, and the answer as the model would write it."""
    thought, text = split_thought(turn.text)
    if thought is None and text.lstrip().startswith("<think>"):
        raise TurnsRefusedError("The answer has a thought that does not end.")
    bare = prompt.removesuffix(shape.opening)
    if thought:
        if not shape.is_thinking:
            raise TurnsRefusedError(
                "The answer has a thought, and this run is without thoughts.",
                Kind.THOUGHT,
                Kind.THOUGHT.hint,
            )
        if not whole.startswith(bare):
            raise no_prefix()
        end = _end_after_thought(replace(turn, text=text), thought, whole[len(bare) :], shape)
        written = with_thought(thought, text.strip()) + end
        return prompt, written.removeprefix(shape.opening)
    header = shape.header
    if whole.startswith(prompt + header):
        rest = whole[len(prompt + header) :]
    elif shape.opening and whole.startswith(bare):
        rest = _EMPTY_THOUGHT.sub("", whole[len(bare) :])
    else:
        raise no_prefix()
    answer = _answer_with_end(replace(turn, text=text), rest, shape)
    is_trained = shape.is_thinking and "</think>" in header
    return (prompt, header + answer) if is_trained else (prompt + header, answer)


def _end_after_thought(turn: Turn, thought: str, rest: str, shape: ChatShape) -> str:
    """Return what ends an answer, from a text that may have its thought, or not."""
    text = turn.text.strip()
    place = rest.removesuffix(shape.ending).rfind(text)  # the ending may hold the same words
    before = split_thought(rest[:place] if place > 0 else "")
    if place < 0 or before.said.strip() or before.thought not in (None, "", thought):
        raise not_shown(turn)
    return _answer_with_end(turn, rest[place:], shape)[len(text) :]


def _answer_with_end(turn: Turn, rest: str, shape: ChatShape) -> str:
    """Return an answer and what ends it, from the text that a template renders from there on."""
    text = turn.text.strip()
    start = len(rest) - len(rest.lstrip())
    n_answer = start + len(text)
    if not rest.startswith(text, start):
        raise no_prefix() if text in rest else not_shown(turn)
    end = shape.tokens.search(rest, n_answer) if shape.tokens else None
    if end is None:
        return rest
    # A token may include the whitespace after it, so the two stay together.
    behind = rest[end.end() :]
    return rest[: len(rest) - len(behind.lstrip())]


def _check_shown(turns: Sequence[Turn], parts: Sequence[str]) -> None:
    """Check that every given turn is in the part that it belongs to."""
    n_skipped = sum(it.role == "assistant" for it in turns) - len(parts) // 2
    place = 0
    for turn in turns:
        if turn.role == "assistant" and n_skipped:
            n_skipped -= 1
            shown = split_thought(turn.text).said.strip()
            if not is_call(shown) and shown not in parts[place]:
                raise not_shown(turn)
        elif turn.role == "assistant":
            place += 2
        elif turn.text.strip() not in parts[place]:
            raise not_shown(turn)


def no_prefix() -> TurnsRefusedError:
    """Return the error for a prompt that inference would not see."""
    return TurnsRefusedError(
        "With this chat template the prompt is not a prefix of the whole conversation, so "
        "training and inference would see different prompts."
    )


def not_shown(turn: Turn) -> TurnsRefusedError:
    """Return the error for a turn that is not in the text of a conversation."""
    what = f"The chat template does not render the {_NAMES[turn.role]} verbatim."
    if turn.role == "system":
        return TurnsRefusedError(what, Kind.SYSTEM_REFUSED, Kind.SYSTEM_REFUSED.hint)
    return TurnsRefusedError(what)
