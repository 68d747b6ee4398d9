"""Parse a record into `Example`s according to the layout of its file.

Nothing is guessed: a mismatch is a `Fault` that names the field, and a record for another
training method is refused rather than read in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import dropwhile
from typing import NamedTuple

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.conversation import Exchange, read_turns, to_exchange
from finetuning_exam.data.reading.fields import (
    Record,
    as_argument,
    as_list,
    as_text,
    emptiness,
    read_field,
    read_name,
    read_optional,
    refuse_misspelt,
    refuse_other_training,
)
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.reading.layouts import Layout
from finetuning_exam.data.reading.natural import NATURAL, content_of
from finetuning_exam.data.reading.parts import with_system_text
from finetuning_exam.data.reading.tools import (
    TOOLS,
    call_in_answer,
    read_tools,
    refuse_broken_calls,
)
from finetuning_exam.data.reading.training_fields import refuse_unread
from finetuning_exam.data.reading.weights import record_weight
from finetuning_exam.data.records import Example, Turn


class Place(NamedTuple):
    """The place of a record; `column` is 0 if it is alone on its line."""

    path: str
    line: int
    column: int = 0


def to_examples(
    value: Record, layout: Layout, place: Place, *, answer_required: bool = True
) -> tuple[Example, ...]:
    """Return the examples of one record: one, or one for each of its `instances`.

    Without `answer_required` an answer may be absent (it is then ""), but a present one must
    be text. An empty instruction is a fault even next to an `input`, because only the user can
    say which of the two is the question (`--prompt_field input`).

    Raises:
        Fault: the record does not fit the layout, or is for another training method.
    """
    needed = tuple(name for name in (layout.prompt, layout.answer) if name)
    has_turns = isinstance(value.get(layout.prompt), list)
    required = needed if answer_required else needed[:1]
    refuse_other_training(value, needed, required, has_turns=has_turns)
    is_text = layout.format == "text"
    if all(name in value for name in required):
        refuse_unread(value, layout.used_fields | (frozenset() if is_text else frozenset(TOOLS)))
    refuse_misspelt(value, required, layout.used_fields)
    tag, group = ("" if it in needed else read_name(value, it) for it in ("tag", "group"))
    tools = "" if is_text else read_tools(value)
    weight = record_weight(value, needed)
    exchanges = _exchanges(value, layout, answer_required)
    if answer_required:  # an instance of weight 0 is left out, and so is a record of nothing else
        exchanges = [it for it in exchanges if weight * _most_weight(it[0])]
    if not exchanges:
        raise Fault(Kind.NOT_TRAINED, "its weight is 0")
    if tools:
        refuse_broken_calls(text for it, _ in exchanges for text in _answers(it))
    return tuple(
        Example(
            exchange.instruction,
            call_in_answer(exchange.answer, tools) if tools and not has_turns else exchange.answer,
            place.line,
            place.path,
            input=about,
            tag=tag,
            group=group,
            earlier=_weighted(exchange.earlier, weight),
            asked_by=exchange.asked_by,
            tools=tools,
            weight=exchange.weight * weight,
            column=place.column,
        )
        for exchange, about in exchanges
    )


def _answers(exchange: Exchange) -> tuple[str, ...]:
    earlier = (it.text for it in exchange.earlier if it.role == "assistant")
    return (*earlier, exchange.answer)


def _most_weight(exchange: Exchange) -> float:
    """Return the greatest weight of an answer; a greeting before the first question is none."""
    asked = dropwhile(lambda it: it.role != "user", exchange.earlier)
    return max(exchange.weight, *(it.weight for it in asked if it.role == "assistant"), 0)


def _weighted(turns: tuple[Turn, ...], weight: float) -> tuple[Turn, ...]:
    if weight == 1:
        return turns
    return tuple(
        replace(it, weight=it.weight * weight) if it.role == "assistant" else it for it in turns
    )


def _exchanges(
    value: Record, layout: Layout, answer_required: bool
) -> Sequence[tuple[Exchange, str]]:
    """Return the questions and answers of a record, each with its input."""
    if layout.format == "text":
        return [(Exchange((), "", _filled(value, layout.prompt, Kind.EMPTY_ANSWER)), "")]
    value = with_system_text(value, layout.system_fields)
    system = read_optional(value, layout.system_fields)
    if not layout.answer:
        if layout.prompt not in value:
            read_field(value, layout.prompt)
        turns = read_turns(value[layout.prompt], layout.prompt)
        return [(to_exchange(turns, system, answer_required=answer_required), "")]
    before = (Turn("system", system),) if system else ()
    if layout.answer == "instances":
        return _instances(value, layout, before)
    if layout.format == "prompt_completion" and isinstance(value.get(layout.prompt), list):
        return [(_prompt_turns(value, layout, system, answer_required), "")]
    about = read_optional(value, layout.input_fields)
    question = _question(value, layout)
    answer = _answer(value, layout, answer_required)
    return [
        (
            Exchange((*before, *_history(value, (layout.prompt, layout.answer))), question, answer),
            about,
        )
    ]


def _question(value: Record, layout: Layout) -> str:
    question = read_field(value, layout.prompt)
    empty = emptiness(question)
    if empty is None:
        return question
    others = [name for name in layout.input_fields if content_of([value.get(name)]) in NATURAL]
    hint = ""
    if others:
        flag = f"--prompt_field {as_argument(others[0])}"
        hint = f" (if {others[0]!r} is the question, use {flag})"
    raise Fault(Kind.EMPTY_PROMPT, f"field {layout.prompt!r} {empty}{hint}")


def _answer(value: Record, layout: Layout, answer_required: bool) -> str:
    if not answer_required and value.get(layout.answer) is None:
        return ""
    if layout.prompt == "prompt" and value.keys() <= layout.used_fields - {layout.answer}:
        raise Fault(
            Kind.NOT_INSTRUCTIONS,
            f"field 'prompt' has no answer; expected one in field {layout.answer!r}",
        )
    return _filled(value, layout.answer, Kind.EMPTY_ANSWER)


def _filled(value: Record, name: str, empty: Kind) -> str:
    text = read_field(value, name)
    if how := emptiness(text):
        raise Fault(empty, f"field {name!r} {how}")
    return text


def _history(value: Record, named: tuple[str, str]) -> tuple[Turn, ...]:
    """Return earlier questions and answers, which LlamaFactory and ms-swift list in pairs.

    `named` are the fields of the prompt and the answer, which hold no history.
    """
    if "history" in named or value.get("history") in (None, ""):  # "" is an empty cell of a table
        return ()
    turns: list[Turn] = []
    for number, pair in enumerate(as_list(value["history"], "field 'history'"), start=1):
        where = f"pair {number} of 'history'"
        if not isinstance(pair, list) or len(pair) != 2:
            raise Fault(Kind.BAD_TURNS, f"{where} is not a list of a question and an answer")
        question, answer = (as_text(text, where) for text in pair)
        if emptiness(question) or emptiness(answer):
            raise Fault(Kind.BAD_TURNS, f"{where} contains an empty text")
        turns += [Turn("user", question), Turn("assistant", answer)]
    return tuple(turns)


def _prompt_turns(value: Record, layout: Layout, system: str, answer_required: bool) -> Exchange:
    """Read TRL's conversational form: the completion continues the turns of the prompt."""
    if value.get("history") or any(value.get(name) for name in layout.input_fields):
        raise Fault(
            Kind.BAD_TURNS,
            "'history' and 'input' cannot be combined with a prompt that is a list of turns",
        )
    turns = read_turns(value[layout.prompt], layout.prompt)
    if value.get(layout.answer) is not None:
        turns += read_turns(value[layout.answer], layout.answer)
    elif answer_required:
        _answer(value, layout, answer_required)
    return to_exchange(turns, system, answer_required=answer_required)


def _instances(
    value: Record, layout: Layout, before: tuple[Turn, ...]
) -> list[tuple[Exchange, str]]:
    """Read one instruction with several inputs and outputs, as in the Self-Instruct tasks."""
    question = _question(value, layout)
    read: list[tuple[Exchange, str]] = []
    if layout.answer not in value:
        read_field(value, layout.answer)
    for number, it in enumerate(as_list(value[layout.answer], "field 'instances'"), start=1):
        where = f"instance {number}"
        if not isinstance(it, Mapping):
            raise Fault(Kind.WRONG_TYPE, f"{where} is {json_type(it)}; expected an object")
        try:
            answer = _filled(it, "output", Kind.EMPTY_ANSWER)
            about = read_optional(it, ("input",))
            refuse_unread(it, frozenset({"input", "output"}))
            weight = record_weight(it)
        except Fault as fault:
            raise Fault(fault.kind, f"{where}: {fault.detail}") from None
        read.append((Exchange(before, question, answer, weight=weight), about))
    if not read:
        raise Fault(Kind.EMPTY_ANSWER, "field 'instances' is empty")
    return read
