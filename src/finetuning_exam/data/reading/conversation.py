"""Read the turns of a conversation: its last question and answer, and the turns before them.

Supported are lists of `{role, content}` (OpenAI, TRL, mlx-lm, ms-swift, Axolotl's chat_template),
of `{from, value}` (ShareGPT), of `{human, assistant}` (ms-swift's `conversation`), of
`{role, parts}` (Gemini's `contents`), and the forms of `turn_forms`. A role may be written in
capitals and with surrounding whitespace (`User`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.fields import as_list, as_text, emptiness, listed, quoted
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.reading.packed_text import fault_of_text, is_python
from finetuning_exam.data.reading.parts import read_content, text_key
from finetuning_exam.data.reading.roles import OTHER_NAMES, meant
from finetuning_exam.data.reading.tools import (
    CALL_ROLES,
    CALLS,
    RESULT_ROLES,
    THOUGHTS,
    TOOLS,
    answer_with_calls,
    call_of_turn,
    result_of_turn,
)
from finetuning_exam.data.reading.training_fields import IN_PARTS, is_default, refuse_media
from finetuning_exam.data.reading.turn_forms import as_objects
from finetuning_exam.data.reading.weights import TURN_WEIGHTS, turn_weight
from finetuning_exam.data.records import Role, Turn
from finetuning_exam.data.tool_text import is_call

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    **OTHER_NAMES,
}
"""The roles in data files, by their various names."""
_OF_CALLS = ("name", "tool_call_id", "id", "refusal", "audio", "annotations")
"""Fields beside a call or its result that name which belongs to which."""
_REFUSED_KEYS = ("train_detail", *TOOLS, *IN_PARTS)
"""Fields of a turn that are refused unless they say nothing."""
_READ_KEYS = (*_REFUSED_KEYS, *CALLS, *THOUGHTS, *TURN_WEIGHTS)


class RecordTurn(NamedTuple):
    """One turn of a record; `where` names it in messages."""

    where: str
    role: Role
    text: str
    weight: float = 1.0


class Exchange(NamedTuple):
    """A question, its answer ("" if there is none) and the turns before, a system turn first."""

    earlier: tuple[Turn, ...]
    instruction: str
    answer: str
    asked_by: Literal["user", "tool"] = "user"
    weight: float = 1.0


def read_turns(value: object, field: str) -> tuple[RecordTurn, ...]:
    """Read the turns of the list in a field, in any order.

    Raises:
        Fault: the value is not a list, or a turn has no text, an unknown role, a malformed call
            or weight, or something else than text.
    """
    turns: list[RecordTurn] = []
    if isinstance(value, str):
        raise fault_of_text(value, f"field {field!r}")
    items = as_objects(as_list(value, f"field {field!r}"), field, ROLES)
    for number, turn in enumerate(items, start=1):
        where = f"turn {number} of {field!r}"
        if not isinstance(turn, Mapping):
            raise _not_a_turn(turn, where)
        if is_pair(turn):
            turns += _read_pair(turn, where)
        else:
            turns.append(_read_turn(turn, where))
    return tuple(turns)


def unread_keys(turns: object, field: str = "") -> tuple[str, ...]:
    """Return the non-null fields that are ignored in any turn or any of the `instances`.

    Fields that are refused if they are filled do not count.
    """
    found: dict[str, None] = {}
    for turn in as_objects(turns, field, ROLES) if isinstance(turns, list) else ():
        if not isinstance(turn, Mapping):
            continue
        if is_pair(turn):
            read: tuple[str, ...] = ("human", "assistant", *_READ_KEYS)
        elif "role" in turn or "from" in turn:
            role = "role" if "role" in turn else "from"
            text = text_key(turn)
            read = (role, text, *_READ_KEYS)
            if is_nothing(turn.get(text)) or turn[role] in RESULT_ROLES:
                read += _OF_CALLS
        else:
            read = ("input", "output")
        found |= {
            key: None
            for key, it in turn.items()
            if key not in read and it is not None and not is_default(key, it)
        }
    return tuple(found)


def _not_a_turn(turn: object, where: str) -> Fault:
    if isinstance(turn, str) and is_python(turn):
        return Fault(Kind.PYTHON_NOTATION, f"{where} is Python's notation as text")
    if isinstance(turn, str):
        return Fault(Kind.NO_ROLES, f"{where} is a text without a role; expected an object")
    if isinstance(turn, list) and turn and all(isinstance(it, str) for it in turn):
        return Fault(Kind.NO_ROLES, f"{where} is a list of texts without roles; expected an object")
    return Fault(Kind.BAD_TURNS, f"{where} is {json_type(turn)}; expected an object")


def is_pair(turn: Mapping[str, object]) -> bool:
    """Return whether an object is both a question and its answer, `{human, assistant}`."""
    return "human" in turn and not {"role", "from"} & turn.keys()


def _read_pair(turn: Mapping[str, object], where: str) -> Iterator[RecordTurn]:
    _refuse_unread(turn, where)
    yield RecordTurn(where, "user", as_text(turn["human"], f"field 'human' of {where}"))
    if turn.get("assistant") is not None:
        answer = as_text(turn["assistant"], f"field 'assistant' of {where}")
        weight = turn_weight(turn, is_answer=True, where=where)
        yield RecordTurn(where, "assistant", answer_with_calls(turn, answer, where), weight)


def _read_turn(turn: Mapping[str, object], where: str) -> RecordTurn:
    role_key = "role" if "role" in turn else "from"
    if role_key not in turn:
        raise Fault(Kind.BAD_TURNS, f"{where} has no role (fields: {listed(turn)})")
    written = as_text(turn[role_key], f"field {role_key!r} of {where}")
    name = written if written in ROLES else written.strip().casefold()
    _refuse_unread(turn, where)
    if name in RESULT_ROLES or name in CALL_ROLES:
        return _read_tool_turn(turn, name, where)
    if name not in ROLES:
        raise Fault(
            Kind.BAD_TURNS, f"{where} has the unknown role {quoted(written)}; {meant(name, ROLES)}"
        )
    role = ROLES[name]
    weight = turn_weight(turn, is_answer=role == "assistant", where=where)
    key = text_key(turn)
    has_calls = role == "assistant" and not all(is_nothing(turn.get(it)) for it in CALLS)
    if key not in turn and not has_calls:
        raise Fault(Kind.BAD_TURNS, f"{where} has no content (fields: {listed(turn)})")
    value = "" if has_calls and turn.get(key) is None else turn[key]
    text = read_content(value, f"field {key!r} of {where}")
    if role == "assistant":
        text = answer_with_calls(turn, text, where)
    else:
        for name in (*CALLS, *THOUGHTS):
            if not is_nothing(turn.get(name)):
                raise Fault(Kind.BAD_TURNS, f"{where} has {name!r}, but is no answer")
    return RecordTurn(where, role, text, weight)


def _read_tool_turn(turn: Mapping[str, object], name: str, where: str) -> RecordTurn:
    key = text_key(turn)
    if key not in turn:
        raise Fault(Kind.BAD_TURNS, f"{where} has no content (fields: {listed(turn)})")
    is_answer = name in CALL_ROLES
    weight = turn_weight(turn, is_answer=is_answer, where=where)
    if is_answer:
        return RecordTurn(where, "assistant", call_of_turn(turn[key], where), weight)
    value = result_of_turn(turn[key])
    return RecordTurn(where, "tool", read_content(value, f"field {key!r} of {where}"))


def _refuse_unread(turn: Mapping[str, object], where: str) -> None:
    """Refuse what a turn holds besides its text, its calls, its thought and its weight."""
    for key in TOOLS:
        if not is_nothing(turn.get(key)):
            raise Fault(Kind.BAD_TOOLS, f"{where} has {key!r}; tools belong to the whole record")
    if not is_nothing(turn.get("train_detail")):
        raise Fault(
            Kind.CHANGES_TRAINING,
            f"{where} has 'train_detail'; choosing which parts are trained is not supported",
        )
    refuse_media(turn, where)


def to_exchange(
    record_turns: Sequence[RecordTurn], system: str = "", *, answer_required: bool = True
) -> Exchange:
    """Return turns as an exchange; a system text in which nothing can be seen counts as absent.

    `system` is the record's own system text, from outside its turns. The last assistant turn is
    the answer; without `answer_required` a conversation may end with a user turn. The assistant may
    speak first, if a question follows.

    Raises:
        Fault: the turns are out of order or empty, or the last has no answer.
    """
    turns = list(record_turns)
    system = "" if emptiness(system) else system
    if turns and turns[0].role == "system":
        first = turns.pop(0)
        own = "" if emptiness(first.text) else first.text
        if system and own and system != own:
            raise Fault(Kind.BAD_TURNS, f"{first.where} is a second system prompt")
        system = own or system
    if not turns:
        what = "only a system turn" if record_turns else "no turns"
        raise Fault(Kind.BAD_TURNS, f"the conversation has {what}")
    _check_order(turns, "assistant" if _is_greeting(turns, answer_required) else "user")
    if turns[-1].role != "assistant":
        if answer_required:
            last = "user turn" if turns[-1].role == "user" else "result of a tool"
            raise Fault(Kind.BAD_TURNS, f"the conversation ends with an unanswered {last}")
        answer = RecordTurn("", "assistant", "")
    else:
        turns = _without_untrained_end(turns)
        answer = turns.pop()
    question = turns.pop()
    before = (Turn("system", system),) if system else ()
    return Exchange(
        (*before, *(Turn(it.role, it.text, it.weight) for it in turns)),
        question.text,
        answer.text,
        "tool" if question.role == "tool" else "user",
        answer.weight,
    )


def _without_untrained_end(turns: list[RecordTurn]) -> list[RecordTurn]:
    """Return turns up to the last answer that is trained; all of them if none is."""
    # The first turn is a question, or a greeting that answers none.
    trained = [at for at, it in enumerate(turns) if at and it.role == "assistant" and it.weight]
    return turns[: trained[-1] + 1] if trained else turns


def _is_greeting(turns: Sequence[RecordTurn], answer_required: bool) -> bool:
    """Return whether the assistant speaks first, and a question with an answer follows."""
    roles = [turn.role for turn in turns]
    has_answer = not answer_required or (len(roles) > 2 and roles[-1] == "assistant")
    return roles[:2] == ["assistant", "user"] and has_answer


def _check_order(turns: Sequence[RecordTurn], first: Role) -> None:
    """Check that user and assistant alternate, and that no turn is empty.

    Results of tools stand between a call and the next answer.
    """
    articles = {
        "system": "a system turn",
        "user": "a user turn",
        "assistant": "an assistant turn",
        "tool": "the result of a tool",
    }
    expected: tuple[Role, ...] = (first,)
    for turn in turns:
        if turn.role == "system":
            raise Fault(
                Kind.BAD_TURNS, f"{turn.where} is a system turn; only the first turn may be one"
            )
        if turn.role not in expected:
            raise Fault(
                Kind.BAD_TURNS,
                f"{turn.where} is {articles[turn.role]}; expected {articles[expected[0]]}",
            )
        if turn.role != "tool" and (empty := emptiness(turn.text)):
            kind = Kind.EMPTY_PROMPT if turn.role == "user" else Kind.EMPTY_ANSWER
            raise Fault(kind, f"{turn.where} {empty}")
        if turn.role == "user":
            expected = ("assistant",)
        elif turn.role == "tool":
            expected = ("assistant", "tool")
        else:
            expected = ("tool",) if is_call(turn.text) else ("user",)
