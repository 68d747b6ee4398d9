"""Conversations in every form that is read, and faults planted in them, for `planted_faults`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

Place = tuple[str, str, int]
"""Kind of finding, file name, line."""
FILE = "chats.jsonl"
Texts = list[str]
"""A question, its answer, a question and so on."""
USERS = ("user", "human", "Human", "prompter", "USER")
ASSISTANTS = ("assistant", "gpt", "model", "AI", "bot", "Chatbot")


class Chats:
    """A file of conversations and its planted faults; its words occur in no other conversation."""

    def __init__(self, draw: random.Random, words: Callable[[int], str], n_rows: int) -> None:
        self.draw = draw
        self.words = words
        self.lines = [self._clean() for _ in range(n_rows)]
        # The first line determines the format, so it stays clean.
        self.lines[0] = self._line(self.turns())
        self.free = draw.sample(range(1, n_rows), n_rows - 1)
        self.planted: set[Place] = set()
        for kind, form in (("taking_turns", _is_list_of(str)), ("taking_turns", _is_list_of(list))):
            self._once(kind, form)
        self._once("unpacked", lambda value: isinstance(value, str))
        self._once("greeting", _begins_with_assistant)
        self._once("tools_spelled_out", lambda value: "search" in json.dumps(value))

    def texts(self) -> Texts:
        """Make one to three questions with their answers."""
        pairs = self.draw.randint(1, 3)
        return [f"{self.words(9).capitalize()}{'.?'[it % 2 == 0]}" for it in range(2 * pairs)]

    def turns(self, key: str = "content") -> list[dict[str, object]]:
        """Make a conversation with one of the known names for each role."""
        names = (self.draw.choice(USERS), self.draw.choice(ASSISTANTS))
        return [
            {"role": names[it % 2], key: text, "weight": None}
            for it, text in enumerate(self.texts())
        ]

    def plant(self, kind: str, value: object) -> None:
        """Replace a clean line with a faulty conversation."""
        index = self.free.pop()
        self.lines[index] = self._line(value)
        self.planted.add((kind, FILE, index + 1))

    def plant_each(self) -> None:
        """Plant one fault of each kind."""
        draw, turns, texts = self.draw, self.turns(), self.texts()
        self.plant("no_roles", draw.choice([[*texts, self.words(6)], [self.words(5)]]))
        misspelt = {**turns[0], "role": draw.choice(["hummany", "usr", "narrator"])}
        twice = [turns[0], *turns]
        self.plant("bad_turns", draw.choice([[misspelt, *turns[1:]], twice, turns[:-1], []]))
        picture = {"type": "image_url", "image_url": {"url": "x.png"}}
        parts = draw.choice([[picture], [{"text": "q", "inlineData": {"data": "iVBO"}}]])
        self.plant("unsupported", [{"role": "user", "content": parts}, *turns[1:]])
        both = [{"text": self.words(3), "value": self.words(4)}]
        self.plant("duplicate_key", [{"role": "user", "content": both}, *turns[1:]])
        self.plant("wrong_type", [{"role": "user", "content": draw.choice([17, None])}, *turns[1:]])
        broken = draw.choice(
            ["array([{'role': 'user'}], dtype=object)", "[{'role': 'user'} {'a'}]"]
        )
        self.plant("python_notation", broken)
        self._plant_calls()

    def _plant_calls(self) -> None:
        """Plant one fault of each kind in calls, thoughts and weights."""
        turns, choice = self.turns(), self.draw.choice
        role, said = turns[1]["role"], self.words(4)
        call: object = choice([[{"id": "1"}], "no JSON", [{"name": "f", "arguments": "x"}]])
        self.plant("bad_tools", [turns[0], {"role": role, "content": None, "tool_calls": call}])
        self.plant("bad_tools", [turns[0], {"role": "function_call", "content": said}])
        result = {"role": choice(["tool", "observation"]), "content": said}
        self.plant("bad_turns", choice([[turns[0], result, *turns[1:]], self._calling(1)[:-1]]))
        masked = {**turns[1], "weight": choice([0, False, 0.0])}
        self.plant("not_trained", [turns[0], masked])
        self.plant("wrong_type", [turns[0], {**turns[1], "weight": choice([-1, "1", [1]])}])
        self.plant("bad_turns", [{**turns[0], "reasoning_content": said}, turns[1]])

    def _calling(self, n_calls: int) -> list[dict[str, object]]:
        """Make a conversation that calls tools, thinks, and has weights."""
        asked, call, result, answer = (self.words(7) for _ in range(4))
        made = {"name": "search", "arguments": _arguments(self.draw, call)}
        calls: dict[str, object] = {"role": "assistant", "tool_calls": [made] * n_calls}
        alone: dict[str, object] = {"role": "function_call", "content": made}
        results: list[dict[str, object]] = [{"role": "tool", "content": result}] * n_calls
        return [
            {"role": "user", "content": f"{asked}?"},
            self.draw.choice([calls, alone]),
            *results,
            {"role": "assistant", "content": f"{answer}.", "reasoning_content": result},
            {"role": "user", "content": f"{result}?"},
            {"role": "assistant", "content": f"{call}.", "weight": self.draw.choice([0.5, 1, 2])},
        ]

    def _clean(self) -> str:
        """Make a conversation in one of the forms that are read without a fault."""
        texts = self.texts()
        pairs = [texts[it : it + 2] for it in range(0, len(texts), 2)]
        parts = [
            {"role": ("user", "model")[it % 2], "parts": [{"text": text, "thought": False}]}
            for it, text in enumerate(texts)
        ]
        forms: list[object] = [
            *(self.turns(), self.turns("value"), self.turns("text"), parts, pairs, texts),
            [[("user", "assistant")[it % 2], text] for it, text in enumerate(texts)],
            [{"human": question, "assistant": answer} for question, answer in pairs],
            *(json.dumps(self.turns()), repr(self.turns()), repr(tuple(self.turns()))),
            *(self._calling(1), self._calling(2)),
            [{"role": self.draw.choice(ASSISTANTS), "content": self.words(4)}, *self.turns()],
        ]
        return self._line(self.draw.choice(forms))

    def _once(self, kind: str, has_form: Callable[[object], bool]) -> None:
        """Expect a finding at the first clean line of some form, which stays clean."""
        for index, line in enumerate(self.lines):
            if has_form(json.loads(line)["messages"]):
                self.free.remove(index)
                self.planted.add((kind, FILE, index + 1))
                return

    @staticmethod
    def _line(value: object) -> str:
        return json.dumps({"messages": value}, ensure_ascii=False)


def _arguments(draw: random.Random, text: str) -> object:
    """Return arguments as an object, or as its JSON."""
    arguments = {"query": text, "limit": 3}
    return json.dumps(arguments) if draw.random() < 0.5 else arguments


def _begins_with_assistant(value: object) -> bool:
    if not isinstance(value, list) or not isinstance(value[0], dict):
        return False
    return value[0].get("role") in ASSISTANTS


def _is_list_of(kind: type) -> Callable[[object], bool]:
    """Return a test for a list of texts, or of lists of which none begins with a role."""

    def test(value: object) -> bool:
        return (
            isinstance(value, list)
            and all(isinstance(it, kind) for it in value)
            and not any(isinstance(it, list) and it[0] in ("user", "assistant") for it in value)
        )

    return test
