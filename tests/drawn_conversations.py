"""Conversations with all that they may hold, written in every form that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from finetuning_exam.data.reading.fields import emptiness
from finetuning_exam.data.records import Role, Turn
from finetuning_exam.data.thoughts import with_thought
from finetuning_exam.data.tool_text import Call, call_text

Json = object
Written = dict[str, object]

CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t{}[]\"'`<|>:;,")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=20).filter(
    lambda text: emptiness(text) is None and "think>" not in text and "<tool_call>" not in text
)
WORDS = st.text(st.sampled_from("abcäß 中'\"\n?-"), max_size=12).map(lambda text: f"W{text}")
"""Texts that are taken for nothing else where they stand without a role."""
WEIGHTS = st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.5, 2.0])
CALLS = st.builds(
    Call,
    st.sampled_from(["search", "weather", "f"]),
    st.dictionaries(st.sampled_from("xyz"), st.none() | st.booleans() | st.integers() | TEXTS),
)
NAMES: dict[Role, list[str]] = {
    "system": ["system", "developer", "System", "system_prompt"],
    "user": ["user", "human", "User", "prompter", " human "],
    "assistant": ["assistant", "gpt", "model", "AI", "bot", "Chatbot"],
    "tool": ["tool", "function", "observation"],
}


@dataclass(frozen=True)
class Said:
    """One turn, in parts that a file may write apart."""

    role: Role
    text: str
    weight: float = 1.0
    thought: str = ""
    calls: tuple[Call, ...] = ()

    @property
    def turn(self) -> Turn:
        """The turn that is read, in whatever form it was written."""
        text = call_text(self.text, self.calls) if self.calls else self.text
        return Turn(
            self.role, with_thought(self.thought, text) if self.thought else text, self.weight
        )


@st.composite
def conversations(draw: st.DrawFn, *, is_bare: bool = False) -> tuple[Said, ...]:
    """Return turns that end with a trained answer; a bare one has questions and answers alone."""
    if is_bare:
        pairs = draw(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
        return tuple(it for q, a in pairs for it in (Said("user", q), Said("assistant", a)))
    turns = [Said("system", draw(TEXTS))] if draw(st.booleans()) else []
    if draw(st.integers(0, 3)) == 0:
        turns.append(Said("assistant", draw(TEXTS), draw(WEIGHTS)))
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Said("user", draw(TEXTS)))
        if draw(st.integers(0, 2)) == 0:
            calls = tuple(draw(st.lists(CALLS, min_size=1, max_size=2)))
            said = draw(st.just("") | TEXTS)
            turns.append(Said("assistant", said, draw(WEIGHTS), "", calls))
            turns += [Said("tool", draw(TEXTS)) for _ in calls]
        # A thought that is the word null is nothing, as in the cells of a table.
        thought = draw(st.just("") | st.just("") | TEXTS.map(lambda text: f"T {text.strip()}"))
        turns.append(Said("assistant", draw(TEXTS), draw(WEIGHTS), thought))
    last = turns.pop()
    return (*turns, Said("assistant", last.text, last.weight or 1.0, last.thought))


def _parts(draw: st.DrawFn, text: str) -> Json:
    """Return a text in two parts, in one of their forms."""
    cut = draw(st.integers(0, len(text)))
    key = draw(st.sampled_from(["text", "value", "content"]))
    kind = {} if draw(st.booleans()) else {"type": "text"}
    return [{**kind, key: part, "image_url": None} for part in (text[:cut], text[cut:])]


def _as_objects(draw: st.DrawFn, turns: Sequence[Said]) -> Json:
    """Write turns as objects with a role, and all that belongs to them in fields of their own."""
    role, key = draw(st.sampled_from([("role", "content"), ("from", "value"), ("role", "text")]))
    written: list[Written] = []
    for it in turns:
        name = draw(st.sampled_from(NAMES[it.role]))
        text: Json = _parts(draw, it.text) if it.text and draw(st.booleans()) else it.text
        turn: Written = {role: name, key: text, "weight": None}
        if it.role == "assistant":
            turn["weight"] = it.weight if it.weight != 1 or draw(st.booleans()) else None
            turn["tool_calls"] = [_call(draw, call) for call in it.calls] or None
            if it.thought:
                turn[draw(st.sampled_from(["reasoning_content", "thinking"]))] = it.thought
        written.append(turn)
    return written


def _call(draw: st.DrawFn, call: Call) -> Json:
    arguments = json.dumps(call.arguments) if draw(st.booleans()) else call.arguments
    bare = {"name": call.name, "arguments": arguments}
    return {"id": "1", "type": "function", "function": bare} if draw(st.booleans()) else bare


def _as_parts(draw: st.DrawFn, turns: Sequence[Said]) -> Json:
    return [
        {"role": {"user": "user", "assistant": "model"}[it.role], "parts": [{"text": it.text}]}
        for it in turns
    ]


BARE: dict[str, Callable[[st.DrawFn, Sequence[Said]], Json]] = {
    "texts": lambda draw, turns: [it.text for it in turns],
    "labelled": lambda draw, turns: [f"{it.role.title()}: {it.text}" for it in turns],
    "pairs": lambda draw, turns: [
        [q.text, a.text] for q, a in zip(turns[::2], turns[1::2], strict=True)
    ],
    "pairs with names": lambda draw, turns: [
        {"human": q.text, "assistant": a.text} for q, a in zip(turns[::2], turns[1::2], strict=True)
    ],
    "lists with roles": lambda draw, turns: [[it.role, it.text] for it in turns],
    "role as name": lambda draw, turns: [{it.role: it.text} for it in turns],
    "Gemini's parts": _as_parts,
}
"""Ways to write questions and answers without anything else."""
PACKED: dict[str, Callable[[Json], Json]] = {
    "a value": lambda value: value,
    "JSON as text": lambda value: json.dumps(value),
    "JSON as text, readable": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
    "Python's notation": repr,
    "a tuple": lambda value: repr(tuple(value)) if isinstance(value, list) else repr(value),
}
"""Ways to store a list."""


@st.composite
def written(draw: st.DrawFn, *, only_objects: bool = False) -> tuple[tuple[Said, ...], Json]:
    """Return a conversation, and its turns in one of the forms that are read."""
    form = draw(st.sampled_from(["objects", "objects", *BARE])) if not only_objects else "objects"
    turns = draw(conversations(is_bare=form != "objects"))
    return turns, BARE.get(form, _as_objects)(draw, turns)
