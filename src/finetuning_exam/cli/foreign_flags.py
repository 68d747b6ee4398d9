"""The table of other tools' flags (foreign_flags.toml), and what a value of theirs is here."""

from __future__ import annotations

import tomllib
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_BOOLEANS = {
    **dict.fromkeys(("yes", "y", "t", "1", "on"), "true"),
    **dict.fromkeys(("no", "n", "f", "0", "off"), "false"),
}
"""Words for true and false that Transformers' command line accepts."""
_NOT_SET = ("none", "null", "")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A name in other tools; foreign_flags.toml explains the fields."""

    name: str
    tools: tuple[str, ...]
    here: str
    values: tuple[tuple[str, str], ...]
    """Their words and ours; ours is empty where a word has no effect."""
    answer: str
    commands: tuple[str, ...]

    @property
    def words(self) -> dict[str, str]:
        """Our words, by theirs."""
        return dict(self.values)

    def leads_to(self, names: Container[str], command: str) -> bool:
        """Return whether a command with settings of these names has the one of this meaning."""
        return self.here in names and (not self.commands or command in self.commands)

    @property
    def is_boolean(self) -> bool:
        """Whether it may stand alone, which means true."""
        return bool(self.words.keys() & {"true", "false"})

    def knows(self, value: str) -> bool:
        """Return whether a value is one of the words of the table, or of a boolean."""
        word = value.lower()
        return word in self.words or word in _NOT_SET or (self.is_boolean and word in _BOOLEANS)

    def ours(self, value: str) -> str | None:
        """Return our word for a value: empty if it has no effect, None if it is not accepted."""
        word, words = value.lower(), self.words
        if self.is_boolean and word not in words:
            word = _BOOLEANS.get(word, word)
        if word in words:
            return words[word]
        if self.here and ("*" in words or not words):
            return value
        return "" if "*" in words or word in _NOT_SET else None


@cache
def foreign_flags() -> dict[str, Foreign]:
    """Return what the table says about each name, in its order."""
    table = tomllib.loads(
        files("finetuning_exam.cli").joinpath("foreign_flags.toml").read_text(encoding="utf-8")
    )
    found: dict[str, Foreign] = {}
    for row in table["flags"]:
        pairs = (word.partition("=") for word in row.get("values", "").split())
        values = tuple((theirs, ours) for theirs, _, ours in pairs)
        answer = row.get("answer") or table["answers"].get(row.get("see"), "")
        for word in row["names"].split():
            name, _, letters = word.partition(":")
            tools = tuple(table["tools"][letter] for letter in letters)
            commands = tuple(row.get("commands", "").split())
            found[name] = Foreign(name, tools, row.get("here", ""), values, answer, commands)
    return found
