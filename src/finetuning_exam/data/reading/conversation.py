"""Read the turns of a conversation: its last question and answer, and the turns before them.

Supported are lists of `{role, content}` (OpenAI, TRL, mlx-lm, ms-swift, Axolotl's chat_template),
of `{from, value}` (ShareGPT), of `{human, assistant}` (ms-swift's `conversation`), of
`{role, parts}` (Gemini's `contents`), and the forms of `turn_forms`. A role may be written in
capitals and with surrounding whitespace (`User`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.fields import as_list, as_text, emptiness, listed, quoted
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.reading.packed_text import fault_of_text, is_python
from finetuning_exam.data.reading.parts import read_content, text_key
from finetuning_exam.data.reading.roles import OTHER_NAMES, Role, meant
from finetuning_exam.data.reading.training_fields import IN_PARTS, is_default, refuse_media, shown
from finetuning_exam.data.reading.turn_forms import as_objects
from finetuning_exam.data.records import Turn

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
TOOL_ROLES = frozenset(
    {"tool", "tool_call", "tool_response", "function", "function_call", "observation", "ipython"}
)
_TOOL_KEYS = ("tool_calls", "function_call", "tools", "functions")
_THOUGHT_KEYS = ("thinking", "reasoning_content")
_MASK_KEYS = ("train", "training", "trainable", "loss", "weight", "loss_weight")
_REFUSED_KEYS = ("train_detail", *_TOOL_KEYS, *_THOUGHT_KEYS, *_MASK_KEYS, *IN_PARTS)
"""Fields of a turn that are refused unless they say nothing, or what is done anyway."""
_WEIGHT_KEYS = ("weight", "loss_weight")


class RecordTurn(NamedTuple):
    """One turn of a record; `where` names it in messages."""

    where: str
    role: Role
    text: str


class Exchange(NamedTuple):
    """A question, its answer ("" if there is none) and the turns before, a system turn first."""

    earlier: tuple[Turn, ...]
    instruction: str
    answer: str


def read_turns(value: object, field: str) -> tuple[RecordTurn, ...]:
    """Read the turns of the list in a field, in any order.

    Raises:
        Fault: the value is not a list, or a turn has no text, an unknown role, a tool call, or a
            loss mask that differs from the default.
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

    Fields that are refused if they are filled (masks, tool calls, thoughts) do not count.
    """
    found: dict[str, None] = {}
    for turn in as_objects(turns, field, ROLES) if isinstance(turns, list) else ():
        if not isinstance(turn, Mapping):
            continue
        if is_pair(turn):
            read: tuple[str, ...] = ("human", "assistant", *_REFUSED_KEYS)
        elif "role" in turn or "from" in turn:
            role = "role" if "role" in turn else "from"
            read = (role, text_key(turn), *_REFUSED_KEYS)
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
    _refuse_tools(turn, where)
    _refuse_masks(turn, "assistant", where)
    refuse_media(turn, where)
    yield RecordTurn(where, "user", as_text(turn["human"], f"field 'human' of {where}"))
    if turn.get("assistant") is not None:
        answer = as_text(turn["assistant"], f"field 'assistant' of {where}")
        yield RecordTurn(where, "assistant", answer)


def _read_turn(turn: Mapping[str, object], where: str) -> RecordTurn:
    role_key = "role" if "role" in turn else "from"
    if role_key not in turn:
        raise Fault(Kind.BAD_TURNS, f"{where} has no role (fields: {listed(turn)})")
    written = as_text(turn[role_key], f"field {role_key!r} of {where}")
    name = written if written in ROLES else written.strip().casefold()
    if name in TOOL_ROLES:
        raise Fault(Kind.TOOL_TURN, f"{where} has the role {name!r}")
    _refuse_tools(turn, where)
    if name not in ROLES:
        raise Fault(
            Kind.BAD_TURNS, f"{where} has the unknown role {quoted(written)}; {meant(name, ROLES)}"
        )
    role = ROLES[name]
    _refuse_masks(turn, role, where)
    refuse_media(turn, where)
    key = text_key(turn)
    if key not in turn:
        raise Fault(Kind.BAD_TURNS, f"{where} has no content (fields: {listed(turn)})")
    return RecordTurn(where, role, read_content(turn[key], f"field {key!r} of {where}"))


def _refuse_tools(turn: Mapping[str, object], where: str) -> None:
    for key in _TOOL_KEYS:
        if key in turn and not is_nothing(turn[key]):
            raise Fault(Kind.TOOL_TURN, f"{where} contains {key!r}")


def _refuse_masks(turn: Mapping[str, object], role: Role, where: str) -> None:
    """Refuse any loss mask but the default, which trains assistant turns and no others.

    The keys are those of Axolotl (`train`, `train_detail`), ms-swift (`loss`) and OpenAI
    (`weight`).
    """
    for key in _MASK_KEYS:
        if key not in turn:
            continue
        mask = turn[key]
        if is_nothing(mask) or mask == (role == "assistant"):
            continue
        if not isinstance(mask, bool | int | float):
            expected = "a number" if key in _WEIGHT_KEYS else "a boolean"
            raise Fault(
                Kind.WRONG_TYPE,
                f"field {key!r} of {where} is {json_type(mask)}; expected {expected}",
            )
        raise Fault(
            Kind.CHANGES_TRAINING,
            f"{where} has {key!r}: {shown(mask)}; choosing which turns are trained is not "
            "supported",
        )
    if not is_nothing(turn.get("train_detail")):
        raise Fault(
            Kind.CHANGES_TRAINING,
            f"{where} has 'train_detail'; choosing which parts are trained is not supported",
        )
    for key in _THOUGHT_KEYS:
        if not is_nothing(turn.get(key)):
            raise Fault(Kind.UNSUPPORTED, f"{where} has {key!r}, which is not supported")


def to_exchange(
    record_turns: Sequence[RecordTurn], system: str = "", *, answer_required: bool = True
) -> Exchange:
    """Return turns as an exchange; a system text in which nothing can be seen counts as absent.

    `system` is the record's own system text, from outside its turns. The last assistant turn is
    the answer; without `answer_required` a conversation may end with a user turn.

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
    greeting = turns[0] if _is_greeting(turns, answer_required) else None
    _check_order(turns[1:] if greeting else turns)
    if greeting:
        detail = f"{greeting.where} is an assistant turn, before the first question"
        raise Fault(Kind.GREETING_FIRST, detail)
    if turns[-1].role == "user":
        if answer_required:
            raise Fault(Kind.BAD_TURNS, "the conversation ends with an unanswered user turn")
        question, answer = turns.pop().text, ""
    else:
        answer = turns.pop().text
        question = turns.pop().text
    before = (Turn("system", system),) if system else ()
    return Exchange((*before, *(Turn(it.role, it.text) for it in turns)), question, answer)


def _is_greeting(turns: Sequence[RecordTurn], answer_required: bool) -> bool:
    """Return whether the assistant speaks first, and a question with an answer follows."""
    roles = [turn.role for turn in turns]
    has_answer = not answer_required or (len(roles) > 2 and roles[-1] == "assistant")
    return roles[:2] == ["assistant", "user"] and has_answer


def _check_order(turns: Sequence[RecordTurn]) -> None:
    """Check that user and assistant alternate, the user first, and that no turn is empty."""
    articles = {"system": "a system", "user": "a user", "assistant": "an assistant"}
    for number, turn in enumerate(turns):
        expected: Role = "assistant" if number % 2 else "user"
        if turn.role == "system":
            raise Fault(
                Kind.BAD_TURNS, f"{turn.where} is a system turn; only the first turn may be one"
            )
        if turn.role != expected:
            raise Fault(
                Kind.BAD_TURNS,
                f"{turn.where} is {articles[turn.role]} turn; expected {articles[expected]} turn",
            )
        if empty := emptiness(turn.text):
            kind = Kind.EMPTY_PROMPT if turn.role == "user" else Kind.EMPTY_ANSWER
            raise Fault(kind, f"{turn.where} {empty}")
