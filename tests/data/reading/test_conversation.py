"""Specification of reading conversations as a question, an answer and earlier turns."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.conversation import Exchange, read_turns, to_exchange
from finetuning_exam.data.reading.fields import emptiness
from finetuning_exam.data.records import Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: emptiness(text) is None
)
SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "What is a tree?"}
SAY = {"role": "assistant", "content": "A plant."}


def _read(turns: object, system: str = "", *, answer_required: bool = True) -> Exchange:
    return to_exchange(read_turns(turns, "messages"), system, answer_required=answer_required)


def _complaint(turns: object, system: str = "") -> tuple[Kind, str]:
    with pytest.raises(Fault) as caught:
        _read(turns, system)
    return caught.value.kind, caught.value.detail


def test_one_question_and_its_answer() -> None:
    """A conversation of two turns has nothing before its question."""
    assert _read([ASK, SAY]) == Exchange((), "What is a tree?", "A plant.")


def test_the_last_question_and_answer_are_separate_from_earlier_turns() -> None:
    """The last user turn is the question, the last assistant turn the answer, the rest are earlier
    turns.
    """
    turns = [SYSTEM, ASK, SAY, {"role": "user", "content": "A big one?"}, SAY]
    assert _read(turns) == Exchange(
        (
            Turn("system", "Be brief."),
            Turn("user", "What is a tree?"),
            Turn("assistant", "A plant."),
        ),
        "A big one?",
        "A plant.",
    )


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value"), ("role", "value")])
@pytest.mark.parametrize("system", ["system", "developer"])
@pytest.mark.parametrize("user", ["user", "human"])
@pytest.mark.parametrize("assistant", ["assistant", "gpt", "chatgpt", "bing", "bard"])
def test_names_of_roles(keys: tuple[str, str], system: str, user: str, assistant: str) -> None:
    """Each role may have any of its usual names, with the keys of OpenAI or of ShareGPT."""
    pairs = [(system, "s"), (user, "q"), (assistant, "a")]
    turns = [dict(zip(keys, it, strict=True)) for it in pairs]
    assert _read(turns) == Exchange((Turn("system", "s"),), "q", "a")


def test_questions_and_answers_in_one_object() -> None:
    """ms-swift's `{human, assistant}` objects hold two turns each; the last may hold one."""
    first = {"human": "q1", "assistant": "a1"}
    assert _read([first, {"human": "q2", "assistant": "a2"}]) == Exchange(
        (Turn("user", "q1"), Turn("assistant", "a1")), "q2", "a2"
    )
    open_end = [first, {"human": "q2", "assistant": None}]
    assert _read(open_end, answer_required=False).answer == ""


def test_parts_of_text_are_joined() -> None:
    """Content in parts is the concatenation of their texts."""
    parts = [{"type": "text", "text": "What "}, {"type": "text", "text": "is it?", "image": None}]
    assert _read([{"role": "user", "content": parts}, SAY]).instruction == "What is it?"


def test_a_system_text_outside_the_turns_comes_first() -> None:
    """A record's own system text is the system turn of its conversation."""
    assert _read([ASK, SAY], "Be kind.").earlier == (Turn("system", "Be kind."),)


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_system_text_is_absent(empty: str) -> None:
    """A system text of only whitespace counts as absent, in any place."""
    assert _read([ASK, SAY], empty).earlier == ()
    assert _read([{"role": "system", "content": empty}, ASK, SAY]).earlier == ()
    assert _read([{"role": "system", "content": empty}, ASK, SAY], "S").earlier == (
        Turn("system", "S"),
    )


def test_the_same_system_text_twice_is_one() -> None:
    """A system text may be repeated as the first turn, but not contradicted."""
    assert _read([SYSTEM, ASK, SAY], "Be brief.").earlier == (Turn("system", "Be brief."),)
    assert _complaint([SYSTEM, ASK, SAY], "Be long.") == (
        Kind.BAD_TURNS,
        "turn 1 of 'messages' is a second system prompt",
    )


def test_the_question_may_come_last_if_no_answer_is_required() -> None:
    """A question at the end has no answer; an answer at the end is the reference."""
    assert _read([SYSTEM, ASK], answer_required=False) == Exchange(
        (Turn("system", "Be brief."),), "What is a tree?", ""
    )
    assert _read([ASK, SAY], answer_required=False).answer == "A plant."


OUT_OF_ORDER = {
    "the conversation has no turns": [],
    "the conversation has only a system turn": [SYSTEM],
    "the conversation ends with an unanswered user turn": [ASK, SAY, ASK],
    "turn 1 of 'messages' is an assistant turn; expected a user turn": [SAY],
    "turn 2 of 'messages' is an assistant turn; expected a user turn": [SYSTEM, SAY],
    "turn 2 of 'messages' is a user turn; expected an assistant turn": [ASK, ASK, SAY],
    "turn 3 of 'messages' is an assistant turn; expected a user turn": [ASK, SAY, SAY],
    "turn 2 of 'messages' is a system turn; only the first turn may be one": [ASK, SYSTEM, SAY],
    "turn 2 of 'messages' is a system turn; only the first turn may be one ": [SYSTEM] * 2
    + [ASK, SAY],
    "turn 2 of 'messages' has the unknown role 'Narrator'; expected system, user or assistant": [
        ASK,
        {"role": "Narrator", "content": "a"},
    ],
    "turn 1 of 'messages' is a number; expected an object": [1, "you"],
    "turn 2 of 'messages' has no role (fields: 'content', 'id')": [ASK, {"content": "a", "id": 1}],
    "turn 1 of 'messages' has no content (fields: 'role')": [{"role": "user"}, SAY],
}


@pytest.mark.parametrize(("what", "turns"), OUT_OF_ORDER.items(), ids=OUT_OF_ORDER)
def test_turns_out_of_order_are_named(what: str, turns: object) -> None:
    """Each turn that is out of order is reported with its number and the reason."""
    assert _complaint(turns) == (Kind.BAD_TURNS, what.strip())


def test_the_end_is_checked_after_the_order() -> None:
    """If no answer is required two questions in a row are still a fault."""
    with pytest.raises(
        Fault, match="turn 2 of 'messages' is a user turn; expected an assistant turn"
    ):
        _read([ASK, ASK], answer_required=False)


def _with(turn: Mapping[str, object], **more: object) -> dict[str, object]:
    return {**turn, **more}


OTHER_FAULTS = {
    "field 'messages' is a string; expected a list": (Kind.WRONG_TYPE, "hello"),
    "field 'role' of turn 1 of 'messages' is null; expected a string": (
        Kind.WRONG_TYPE,
        [{"role": None, "content": "q"}, SAY],
    ),
    "field 'content' of turn 2 of 'messages' is null; expected a string": (
        Kind.WRONG_TYPE,
        [ASK, _with(SAY, content=None)],
    ),
    "field 'value' of turn 1 of 'messages' is a number; expected a string": (
        Kind.WRONG_TYPE,
        [{"from": "human", "value": 3}, SAY],
    ),
    "field 'human' of turn 1 of 'messages' is a number; expected a string": (
        Kind.WRONG_TYPE,
        [{"human": 3, "assistant": "a"}],
    ),
    "field 'assistant' of turn 1 of 'messages' is a list; expected a string": (
        Kind.WRONG_TYPE,
        [{"human": "q", "assistant": []}],
    ),
    "part 2 of field 'content' of turn 1 of 'messages' has type 'image_url'; "
    "only text is supported": (
        Kind.UNSUPPORTED,
        [_with(ASK, content=[{"type": "text", "text": "q"}, {"type": "image_url"}]), SAY],
    ),
    "part 1 of field 'content' of turn 1 of 'messages' has no type; only text is supported": (
        Kind.UNSUPPORTED,
        [_with(ASK, content=[{"words": "q"}]), SAY],
    ),
    "part 1 of field 'content' of turn 1 of 'messages' is a number; expected an object": (
        Kind.WRONG_TYPE,
        [_with(ASK, content=[17]), SAY],
    ),
    "part 1 of field 'content' of turn 1 of 'messages' is null; expected a string": (
        Kind.WRONG_TYPE,
        [_with(ASK, content=[{"type": "text"}]), SAY],
    ),
    "field 'content' of turn 2 of 'messages' contains an unpaired surrogate": (
        Kind.LONE_SURROGATE,
        [ASK, _with(SAY, content="\ud800")],
    ),
    "turn 1 of 'messages' is empty": (Kind.EMPTY_PROMPT, [_with(ASK, content=" "), SAY]),
    "turn 2 of 'messages' is empty": (Kind.EMPTY_ANSWER, [ASK, _with(SAY, content="")]),
    "turn 3 of 'messages' is empty": (
        Kind.EMPTY_PROMPT,
        [ASK, SAY, _with(ASK, content=[]), SAY],
    ),
}


@pytest.mark.parametrize(("what", "case"), OTHER_FAULTS.items(), ids=OTHER_FAULTS)
def test_a_turn_without_text_is_named(what: str, case: tuple[Kind, object]) -> None:
    """A turn whose text is missing, empty or not a string is reported with its number."""
    assert _complaint(case[1]) == (case[0], what)


WEATHER = '{"name": "weather", "arguments": {"city": "Bern"}}'
CALLED = f"<tool_call>\n{WEATHER}\n</tool_call>"


@pytest.mark.parametrize("name", ["function_call", "tool_call"])
@pytest.mark.parametrize(
    "call",
    [
        WEATHER,
        json.loads(WEATHER),
        [json.loads(WEATHER)],
        {"name": "weather", "arguments": '{"city": "Bern"}'},
        {"name": "weather", "parameters": {"city": "Bern"}},
        {"type": "function", "function": json.loads(WEATHER)},
        CALLED,
    ],
)
def test_a_turn_that_is_a_call_is_an_answer(name: str, call: object) -> None:
    """A call is read in every notation, and what it returns is the question of what follows."""
    turns = [ASK, {"from": name, "value": call}, {"from": "observation", "value": "Sun."}, SAY]
    assert _read(turns) == Exchange(
        (Turn("user", ASK["content"]), Turn("assistant", CALLED)), "Sun.", SAY["content"], "tool"
    )
    assert _read(turns[:2]).answer == CALLED


@pytest.mark.parametrize("role", ["tool", "tool_response", "function", "observation", "ipython"])
@pytest.mark.parametrize(
    ("key", "call"),
    [
        ("tool_calls", [{"id": "1", "function": {"name": "weather", "arguments": "{}"}}]),
        ("function_call", {"name": "weather", "arguments": "{}"}),
        ("tool_calls", '[{"name": "weather", "arguments": {}}]'),
    ],
)
@pytest.mark.parametrize("said", [None, "", "A moment."])
def test_calls_in_fields_of_an_answer_are_read(
    role: str, key: str, call: object, said: str | None
) -> None:
    """The answer's own text comes first; ids and empty lists change nothing."""
    calling = {"role": "assistant", "content": said, key: call}
    turns = [ASK, calling, {"role": role, "content": {"sky": "blue"}, "tool_call_id": "1"}, SAY]
    text = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
    found = _read(turns)
    assert found.earlier[-1].text == (f"{said}\n{text}" if said else text)
    assert (found.instruction, found.asked_by) == ('{"sky": "blue"}', "tool")
    assert _read([ASK, _with(SAY, **{key: None})]) == _read([ASK, _with(SAY, **{key: []})])


def test_several_results_follow_several_calls() -> None:
    """Parallel calls have a result each."""
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]
    results = [{"role": "tool", "content": text} for text in ("1", "2")]
    found = _read([ASK, {"role": "assistant", "content": None, "tool_calls": calls}, *results, SAY])
    assert [turn.role for turn in found.earlier] == ["user", "assistant", "tool"]
    assert found.earlier[1].text.count("<tool_call>") == 2


BAD_CALLS = {
    "the call in turn 2 of 'messages' is no JSON": [ASK, {"from": "tool_call", "value": "x"}],
    "a call in turn 2 of 'messages' has no name, or arguments that are no JSON object": [
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ],
    "turn 1 of 'messages' has 'tools'; tools belong to the whole record": [
        _with(ASK, tools=[{"name": "f"}]),
        SAY,
    ],
}


@pytest.mark.parametrize(("detail", "turns"), BAD_CALLS.items(), ids=BAD_CALLS)
def test_a_malformed_call_is_named(detail: str, turns: list[Mapping[str, object]]) -> None:
    """Nothing of a call is guessed."""
    assert _complaint(turns) == (Kind.BAD_TOOLS, detail)


OUT_OF_ORDER = {
    "turn 2 of 'messages' is the result of a tool; expected an assistant turn": [
        ASK,
        {"role": "tool", "content": "x"},
        SAY,
    ],
    "turn 3 of 'messages' is a user turn; expected the result of a tool": [
        ASK,
        {"from": "function_call", "value": WEATHER},
        ASK,
        SAY,
    ],
    "the conversation ends with an unanswered result of a tool": [
        ASK,
        {"from": "function_call", "value": WEATHER},
        {"role": "tool", "content": ""},
    ],
}


@pytest.mark.parametrize(("detail", "turns"), OUT_OF_ORDER.items(), ids=OUT_OF_ORDER)
def test_results_follow_calls(detail: str, turns: list[Mapping[str, object]]) -> None:
    """A result without a call, or a call without one, is malformed."""
    assert _complaint(turns) == (Kind.BAD_TURNS, detail)


@pytest.mark.parametrize(
    ("key", "weight", "factor"),
    [
        ("train", False, 0),
        ("training", False, 0),
        ("loss", False, 0),
        ("weight", 0, 0),
        ("weight", 0.5, 0.5),
        ("loss_weight", 2, 2),
    ],
)
def test_the_weight_of_an_answer_is_kept(key: str, weight: object, factor: float) -> None:
    """A mask is a weight of 0; what comes after the last trained answer is left out."""
    found = _read([ASK, _with(SAY, **{key: weight}), ASK, SAY])
    assert ([it.weight for it in found.earlier], found.weight) == ([1, factor], 1)
    found = _read([ASK, SAY, ASK, _with(SAY, **{key: weight})])
    assert (len(found.earlier), found.weight) == ((2, factor) if factor else (0, 1))


@pytest.mark.parametrize("weight", [-1, float("inf"), 10**400])
def test_a_weight_is_finite_and_not_negative(weight: float) -> None:
    """A model would unlearn what has a negative one."""
    kind, detail = _complaint([ASK, _with(SAY, weight=weight)])
    assert kind is Kind.WRONG_TYPE
    assert detail.endswith("; expected a number from 0 up")


def test_a_question_that_is_to_be_trained_is_refused() -> None:
    """A mask that includes a question in training is never ignored silently."""
    assert _complaint([_with(ASK, train=True), SAY]) == (
        Kind.CHANGES_TRAINING,
        "turn 1 of 'messages' has 'train': true, but only answers can be trained by turn "
        "(--completion_only_loss false trains everything)",
    )


def test_a_mask_that_agrees_with_the_default_is_accepted() -> None:
    """Answers are trained and questions are not; a mask may state that, or be null."""
    turns = [_with(ASK, train=False, weight=None), _with(SAY, train=True, weight=1, loss=True)]
    assert _read(turns) == Exchange((), "What is a tree?", "A plant.")


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_comes_before_its_answer(key: str) -> None:
    """It is written as models write it, whatever its field is called."""
    assert (
        _read([ASK, _with(SAY, **{key: " Hm.\n"})]).answer == "<think>\nHm.\n</think>\n\nA plant."
    )
    assert _read([ASK, _with(SAY, **{key: ""})]).answer == "A plant."
    assert _complaint([_with(ASK, **{key: "Hm."}), SAY])[0] is Kind.BAD_TURNS
    assert _complaint([ASK, _with(SAY, **{key: ["Hm."]})])[0] is Kind.WRONG_TYPE


def test_masks_of_parts_are_refused() -> None:
    """Content of a turn besides its text that would change training is reported."""
    detail = [{"begin_offset": 0, "end_offset": 8, "train": False}]
    assert _complaint([ASK, _with(SAY, train_detail=detail)]) == (
        Kind.CHANGES_TRAINING,
        "turn 2 of 'messages' has 'train_detail'; "
        "choosing which parts are trained is not supported",
    )


def test_a_long_role_is_shortened() -> None:
    """A message shows at most forty characters of a role."""
    _, detail = _complaint([{"role": "x" * 1000, "content": "q"}])
    roles = "expected system, user or assistant"
    assert detail == f"turn 1 of 'messages' has the unknown role '{'x' * 40}…'; {roles}"


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.none() | TEXT)
def test_every_text_is_kept(pairs: list[tuple[str, str]], system: str | None) -> None:
    """All texts of a conversation are kept, unchanged and in order."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    for question, answer in pairs:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    read = _read(turns)
    texts = [*(turn.text for turn in read.earlier), read.instruction, read.answer]
    assert texts == [turn["content"] for turn in turns]
