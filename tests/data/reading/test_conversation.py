"""Specification of reading conversations as a question, an answer and earlier turns."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "role",
    ["tool", "tool_call", "tool_response", "function", "function_call", "observation", "ipython"],
)
def test_the_roles_of_tools_are_refused(role: str) -> None:
    """A turn with the role of a tool cannot be trained."""
    assert _complaint([ASK, {"from": role, "value": "x"}, SAY]) == (
        Kind.TOOL_TURN,
        f"turn 2 of 'messages' has the role {role!r}",
    )


@pytest.mark.parametrize(
    ("key", "call"), [("tool_calls", [{"id": "1"}]), ("function_call", {"name": "f"})]
)
def test_calls_of_tools_are_refused(key: str, call: object) -> None:
    """A turn that calls a tool is refused, with text or without; an empty list of calls is
    accepted.
    """
    detail = f"turn 2 of 'messages' contains {key!r}"
    assert _complaint([ASK, _with(SAY, **{key: call})]) == (Kind.TOOL_TURN, detail)
    silent = {"role": "assistant", "content": None, key: call}
    assert _complaint([ASK, silent]) == (Kind.TOOL_TURN, detail)
    assert _read([ASK, _with(SAY, **{key: None})]) == _read([ASK, _with(SAY, **{key: []})])


@pytest.mark.parametrize(
    ("key", "mask", "shown"),
    [
        ("train", False, "false"),
        ("training", False, "false"),
        ("loss", False, "false"),
        ("weight", 0, "0"),
        ("weight", 0.5, "0.5"),
    ],
)
def test_an_answer_that_is_not_to_be_trained_is_refused(key: str, mask: object, shown: str) -> None:
    """A mask that excludes an answer from training is never ignored silently."""
    assert _complaint([ASK, _with(SAY, **{key: mask}), ASK, SAY]) == (
        Kind.CHANGES_TRAINING,
        f"turn 2 of 'messages' has {key!r}: {shown}; "
        "choosing which turns are trained is not supported",
    )


def test_a_question_that_is_to_be_trained_is_refused() -> None:
    """A mask that includes a question in training is never ignored silently."""
    assert _complaint([_with(ASK, train=True), SAY]) == (
        Kind.CHANGES_TRAINING,
        "turn 1 of 'messages' has 'train': true; choosing which turns are trained is not supported",
    )


def test_a_mask_that_agrees_with_the_default_is_accepted() -> None:
    """Answers are trained and questions are not; a mask may state that, or be null."""
    turns = [_with(ASK, train=False, weight=None), _with(SAY, train=True, weight=1, loss=True)]
    assert _read(turns) == Exchange((), "What is a tree?", "A plant.")


def test_masks_of_parts_and_thoughts_are_refused() -> None:
    """Content of a turn besides its text that would change training is reported."""
    detail = [{"begin_offset": 0, "end_offset": 8, "train": False}]
    assert _complaint([ASK, _with(SAY, train_detail=detail)]) == (
        Kind.CHANGES_TRAINING,
        "turn 2 of 'messages' has 'train_detail'; "
        "choosing which parts are trained is not supported",
    )
    assert _complaint([ASK, _with(SAY, reasoning_content="Hm.")]) == (
        Kind.UNSUPPORTED,
        "turn 2 of 'messages' has 'reasoning_content', which is not supported",
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
