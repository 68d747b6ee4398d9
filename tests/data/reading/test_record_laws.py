"""Laws of reading records: any record is read correctly or refused with a reason."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from record_forms import (
    ALPACA,
    CHAT,
    DOLLY,
    GSM8K,
    PLACE,
    QUERY,
    SHAREGPT,
    TASKS,
    TEXT,
    TRL,
    Row,
    found_layout,
    one_example,
    own_fields,
)

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.reading.fields import emptiness
from finetuning_exam.data.reading.formats import to_examples
from finetuning_exam.data.reading.layouts import PAIRS, Layout

STRING = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: emptiness(text) is None
)
NAMES = sorted(
    {"output", "answer", "chosen", "rejected", "label", "tools", "instances", "input", "ouput"}
    | {"role", "content", "from", "value", "human", "assistant", "type", "train", "tool_calls"}
    | {"conversations", "conversation"}.union(
        *(it.used_fields for it in PAIRS), {"messages", "text"}
    )
)
SPEAKERS = ["system", "user", "assistant", "human", "gpt", "tool", "text"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.sampled_from(SPEAKERS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
RECORD = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), JSON, max_size=7)
LAYOUTS = [ALPACA, DOLLY, QUERY, TRL, GSM8K, TASKS, CHAT, SHAREGPT, TEXT, own_fields("a", "b")]


def _texts(value: object) -> set[str]:
    """Return every string in a JSON value, and every integer as text."""
    if isinstance(value, dict):
        return set().union(*(_texts(it) for it in value.values()))
    if isinstance(value, list):
        parts = [it["text"] for it in value if isinstance(it, dict) and _is_text(it.get("text"))]
        return {"".join(parts)}.union(*(_texts(it) for it in value))
    return {str(value)} if isinstance(value, str | int) else set()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@given(RECORD, st.sampled_from(LAYOUTS), st.booleans())
def test_no_record_raises_anything_but_a_fault(row: Row, layout: Layout, required: bool) -> None:
    """Any record is refused with a reason, or read without inventing a text."""
    for form in (layout, found_layout(row)):
        refused: Fault | None = None
        try:
            examples = to_examples(row, form, PLACE, answer_required=required)
        except Fault as fault:
            refused = fault
        else:
            assert examples
        assert refused is None or (refused.detail and refused.kind.severity == "error")
        for it in () if refused else examples:
            read = {it.instruction, it.answer, it.input, it.tag, it.group}
            assert {*read, *(turn.text for turn in it.earlier)} <= _texts(row) | {""}
            assert it.answer.strip() or not required
            assert it.instruction.strip() or it.is_plain_text


@given(
    layout=st.sampled_from([ALPACA, DOLLY, QUERY, GSM8K, TRL]),
    texts=st.fixed_dictionaries({"prompt": STRING, "answer": STRING}),
    more=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("input", "system", "tag", "group"), STRING)
    ),
    history=st.lists(st.tuples(STRING, STRING).map(list), max_size=3),
)
def test_accepted_records_round_trip(
    layout: Layout, texts: dict[str, str], more: dict[str, str], history: list[list[str]]
) -> None:
    """A record written from its example is the record that was read: nothing lost or altered."""
    row: Row = {layout.prompt: texts["prompt"], layout.answer: texts["answer"], **more}
    example = one_example({**row, "history": history} if history else row, layout)
    before = list(example.earlier)
    system = {"system": before.pop(0).text} if "system" in more else {}
    turns = [turn.text for turn in before]
    optional = {"input": example.input, "tag": example.tag, "group": example.group}
    written = {
        layout.prompt: example.instruction,
        layout.answer: example.answer,
        **{name: text for name, text in optional.items() if text},
        **system,
    }
    assert written == row
    assert [turns[at : at + 2] for at in range(0, len(turns), 2)] == history
