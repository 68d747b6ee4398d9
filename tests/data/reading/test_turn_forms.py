"""Specification of turns in other forms: texts in turn, pairs, role names, parts, greetings."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from read_files import read_content, texts_of

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

pytestmark = pytest.mark.usefixtures("folder")

Q, A, Q2, A2 = "What is a tree?", "A plant.", "Is it big?", "It may be."
IN_TURN = "texts without roles; they are read as user and assistant in turn"
IN_PAIRS = "pairs of texts without roles; each is read as a user's turn and its answer"


def _read(*rows: object) -> Records:
    return read_content("".join(json.dumps(row) + "\n" for row in rows).encode())


def _texts(found: Records) -> list[list[str]]:
    return [
        [*(turn.text for turn in it.earlier), it.instruction, it.answer] for it in found.examples
    ]


@pytest.mark.parametrize("name", ["data", "messages", "conversations", "conversation"])
def test_texts_without_roles_take_turns(name: str) -> None:
    """UltraChat's list of texts is read, with one note for the file."""
    found = _read({name: [Q, A, Q2, A2]}, {name: [Q2, A2]})
    assert _texts(found) == [[Q, A, Q2, A2], [Q2, A2]]
    assert texts_of(found.findings) == [f"d.jsonl:1: field {name!r} holds {IN_TURN}."]


@pytest.mark.parametrize("name", ["messages", "conversations", "conversation"])
def test_pairs_of_texts_are_questions_and_answers(name: str) -> None:
    """A list of pairs is read, with one note for the file."""
    found = _read({name: [[Q, A], [Q2, A2]]}, {name: [[Q2, A2]]})
    assert _texts(found)[0] == [Q, A, Q2, A2]
    notes = texts_of(tuple(it for it in found.findings if it.kind is Kind.TAKING_TURNS))
    assert notes == [f"d.jsonl:1: field {name!r} holds {IN_PAIRS}."]


@pytest.mark.parametrize(
    ("user", "assistant"),
    [
        ("Human: ", "Assistant: "),
        ("### User:\n", "### AI:\n"),
        ("user : ", "bot:"),
        ("USER:", "GPT:"),
    ],
)
def test_texts_that_begin_with_their_role_have_it(user: str, assistant: str) -> None:
    """The label is taken off, so that it is not trained, and a note says so."""
    found = _read({"messages": [user + Q, assistant + A]}, {"data": [user + Q, assistant + A]})
    assert _texts(found)[0] == [Q, A]
    note = next(it for it in found.findings if it.kind is Kind.TAKING_TURNS)
    assert "holds texts that begin with a role and a colon" in str(note)
    greeted = _read({"messages": [assistant + "Hello!", user + Q, assistant + A]})
    assert [it.kind for it in greeted.findings] == [Kind.TAKING_TURNS]
    assert _texts(greeted) == [["Hello!", Q, A]]


def test_a_colon_alone_makes_no_role() -> None:
    """If not all texts begin with a known role, they take turns as they are."""
    found = _read({"data": ["Question: what is a tree?", "Answer: a plant."]})
    assert _texts(found) == [["Question: what is a tree?", "Answer: a plant."]]
    found = _read({"data": ["User: " + Q, A]})
    assert _texts(found) == [["User: " + Q, A]]


@pytest.mark.parametrize("texts", [[Q], [Q, A, Q2], [Q, A, Q2, A2, "Thanks."]])
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_an_odd_number_of_texts_is_told(name: str, texts: list[str]) -> None:
    """Nobody can say whose the last text is, nor whether the first is a system's."""
    (finding,) = _read({name: texts}).findings
    count = "one text" if len(texts) == 1 else f"{len(texts)} texts"
    assert finding.kind is Kind.NO_ROLES
    assert f"field {name!r} holds {count} without roles; expected an even number" in str(finding)


@pytest.mark.parametrize(
    "turns",
    [
        [["user", Q], ["assistant", A]],
        [["Human", Q], ["AI", A]],
        [{"user": Q, "assistant": A}],
        [{"user": Q}, {"assistant": A}],
        [{"human": Q, "assistant": A}],
        [{"user": Q, "assistant": None}, {"user": None, "assistant": A}],
        [{"role": "user", "text": Q}, {"role": "assistant", "text": A}],
        [{"from": "human", "content": Q}, {"role": "assistant", "value": A}],
    ],
    ids=range(8),
)
def test_a_role_in_another_place_is_read(turns: object) -> None:
    """A list of a role and a text, or an object with the role as a field's name."""
    assert _texts(_read({"messages": turns})) == [[Q, A]]


@pytest.mark.parametrize(
    "turns",
    [[["user", Q], [Q2, A2]], [[Q, A], ["a", "b", "c"]], [[Q, A], {"role": "user"}], [Q, 3]],
)
def test_a_mixture_of_forms_is_told(turns: object) -> None:
    """A turn in no known form is named, and nothing is guessed."""
    found = _read({"messages": turns})
    assert not found.examples
    assert [it.kind.severity for it in found.findings] == ["error"]


@pytest.mark.parametrize(
    ("user", "assistant"),
    [
        ("user", "model"),
        ("Human", "AI"),
        ("prompter", "assistant"),
        ("human_user", "Bot"),
        ("END_USER", "ChatBot"),
        (" User ", "llm"),
        ("user", "Gemini"),
        ("human", "claude"),
    ],
)
def test_other_names_of_roles_are_read(user: str, assistant: str) -> None:
    """Names whose meaning is sure, in any case."""
    turns = [{"from": user, "value": Q}, {"from": assistant, "value": A}]
    assert _texts(_read({"conversations": turns})) == [[Q, A]]


@pytest.mark.parametrize(
    ("role", "meant"),
    [
        ("hummany", "human"),
        ("asistant", "assistant"),
        ("Usr", "user"),
        ("sytem", "system"),
        ("modell", "model"),
    ],
)
def test_a_misspelt_role_is_told_with_its_suggestion(role: str, meant: str) -> None:
    """It is not read, because only the user knows."""
    (finding,) = _read({"messages": [{"role": role, "content": Q}]}).findings
    assert str(finding).endswith(f"has the unknown role {role!r}; did you mean {meant!r}?")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": Q}],
        [{"type": "text", "value": Q}],
        [{"type": "text", "content": Q}],
        [{"type": "input_text", "text": Q}],
        [{"type": "text", "text": {"value": Q, "annotations": []}}],
        [{"text": Q, "image_url": None}],
        [{"text": Q, "thought": False}],
        ["What is ", {"text": "a tree?"}],
        {"type": "text", "text": Q},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("key", ["content", "value", "parts"])
def test_the_text_of_a_part_is_read(key: str, content: object) -> None:
    """Whatever its field is called, and whatever nothings stand beside it."""
    turns = [{"role": "user", key: content}, {"role": "assistant", "content": A}]
    found = _read({"messages": turns})
    assert _texts(found) == [[Q, A]]
    assert found.findings == ()


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"inlineData": {"mimeType": "image/png", "data": "iVBO"}}, Kind.UNSUPPORTED),
        ({"text": Q, "inlineData": {"data": "iVBO"}}, Kind.UNSUPPORTED),
        ({"text": Q, "thought": True}, Kind.UNSUPPORTED),
        ({"functionCall": {"name": "f", "args": {}}}, Kind.BAD_TOOLS),
        ({"functionResponse": {"name": "f"}}, Kind.BAD_TOOLS),
        ({"text": Q, "value": A}, Kind.DUPLICATE_KEY),
        ({"text": 17}, Kind.WRONG_TYPE),
    ],
)
def test_a_part_that_is_not_only_text_is_refused(part: object, kind: Kind) -> None:
    """An image, a call, a thought and a second text are named, never dropped."""
    contents = [{"role": "user", "parts": [part]}, {"role": "model", "parts": [{"text": A}]}]
    found = _read({"contents": contents})
    assert not found.examples
    assert [it.kind for it in found.findings] == [kind]
    assert "of turn 1 of 'contents'" in str(found.findings[0])


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
@pytest.mark.parametrize(
    "system",
    [
        {"role": "system", "parts": [{"text": "Be brief."}]},
        {"parts": [{"text": "Be "}, {"text": "brief."}]},
        {"parts": {"text": "Be brief."}},
        [{"text": "Be brief."}],
        "Be brief.",
    ],
    ids=range(5),
)
def test_geminis_form_is_read(name: str, system: object) -> None:
    """`contents` of `parts`, with the roles user and model, and a system instruction."""
    contents = [
        {"role": "user", "parts": [{"text": Q}]},
        {"role": "model", "parts": [{"text": A}]},
    ]
    found = _read({name: system, "contents": contents})
    assert _texts(found) == [["Be brief.", Q, A]]
    assert found.examples[0].earlier[0].role == "system"
    assert found.findings == ()
    assert [it.layout for it in found.sources] == ["contents (role, parts)"]


@pytest.mark.parametrize("write", [json.dumps, repr])
def test_geminis_form_in_a_table_is_read(write: Callable[[object], str]) -> None:
    """Its turns and its system instruction are texts there, in JSON or in Python's notation."""
    row = {
        "systemInstruction": write({"parts": [{"text": "Be brief."}]}),
        "contents": write(
            [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": A}]}]
        ),
    }
    assert _texts(_read(row)) == [["Be brief.", Q, A]]


@pytest.mark.parametrize(
    "row",
    [
        {"contents": [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [A]}]},
        {"data": [Q, A]},
        {"conversations": [Q, A]},
    ],
)
def test_the_format_may_be_named(row: object) -> None:
    """`--format messages` finds the field of each form."""
    found = read_content(json.dumps(row).encode(), FieldSettings(format="messages"))
    assert _texts(found) == [[Q, A]]


def test_a_field_called_contents_may_be_text() -> None:
    """It is Gemini's form only if it holds turns with parts."""
    found = _read({"instruction": Q, "output": A, "contents": "A chapter."})
    assert _texts(found) == [[Q, A]]
    with pytest.raises(UsageError, match="unrecognised record format"):
        _read({"contents": "A chapter of a book."})


GREETED = {
    "messages": [
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": Q},
        {"role": "assistant", "content": A},
    ]
}


@pytest.mark.parametrize(
    "row",
    [
        GREETED,
        {"messages": json.dumps(GREETED["messages"])},
        {"messages": [{"role": "system", "content": "Be brief."}, *GREETED["messages"]]},
        {"conversations": [["bot", "Hello!"], ["user", Q], ["bot", A], ["user", Q2], ["bot", A2]]},
    ],
    ids=["openai", "as text", "after a system turn", "several turns"],
)
def test_a_greeting_is_read(row: object) -> None:
    """It is the first of the earlier turns, after a system turn; the template may refuse it."""
    found = _read(row)
    assert [it for it in found.findings if it.kind.severity == "error"] == []
    (example,) = found.examples
    assert example.has_greeting
    spoken = [turn for turn in example.earlier if turn.role != "system"]
    assert [turn.text for turn in spoken] == ["Hello!", Q, A][: len(spoken)]


def test_a_greeting_has_a_weight_of_its_own() -> None:
    """It is no answer: a record in which nothing else is trained is left out."""
    turns = [dict(it) for it in GREETED["messages"]]
    (example,) = _read({"messages": [{**turns[0], "weight": 0}, *turns[1:]]}).examples
    assert example.weights == (0, 1)
    found = _read({"messages": [*turns[:2], {**turns[2], "weight": 0}]})
    assert (found.examples, [it.kind for it in found.findings]) == ((), [Kind.NOT_TRAINED])


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [("", Kind.EMPTY_ANSWER), ("\u200b", Kind.EMPTY_ANSWER), (7, Kind.WRONG_TYPE)],
)
def test_a_greeting_without_text_is_told(greeting: object, kind: Kind) -> None:
    """As any empty turn is."""
    turns = [{"role": "assistant", "content": greeting}, *GREETED["messages"][1:]]
    assert [it.kind for it in _read({"messages": turns}).findings] == [kind]


@pytest.mark.parametrize(
    "turns", [["assistant"], ["assistant", "user"], ["assistant", "assistant", "user", "assistant"]]
)
def test_a_conversation_that_stays_faulty_has_no_greeting(turns: list[str]) -> None:
    """What would be faulty without its first turn, too, keeps its own fault."""
    found = _read({"messages": [{"role": role, "content": "Words."} for role in turns]})
    (finding,) = found.findings
    assert finding.kind is Kind.BAD_TURNS
