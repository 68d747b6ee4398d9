"""Translate other tools' flags and keys into ours, or tell what to write instead."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from finetuning_exam.cli.foreign_flags import Foreign, foreign_flags
from finetuning_exam.cli.registry import COMMANDS, Command
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import Flag, flags_of, full_name, value_of

_DATA_ENDING = re.compile(
    r"\.(jsonl?|ndjson|csv|tsv|parquet|txt|md|xlsx?|arrow|gz|zstd?)$", re.IGNORECASE
)


@dataclass(slots=True)
class Translation:
    """A command line in our words."""

    words: list[str] = field(default_factory=list)
    without_effect: list[str] = field(default_factory=list)
    """Flags, as they were typed, that say what is done anyway."""
    spellings: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was given for each setting, by the flags that gave it."""


def is_flag(word: str) -> bool:
    """Return whether a word is meant as a flag: not a negative number, nor `- such a question`."""
    return word.startswith("-") and not re.match(r"-$|-[\d.]|[^=]*\s", word)


def names_data(word: str) -> bool:
    """Return whether a word after a flag is a data file and not one of the flag's values.

    It is one by its ending, by the prefix of the Hub, or because there is such a file.
    """
    return bool(_DATA_ENDING.search(word)) or word.startswith("hub:") or os.path.isfile(word)


def is_item(flag: Flag, word: str) -> bool:
    """Return whether a word can be an item of a flag's list: after names, a file is an argument."""
    is_name = flag.metavar != "FILE" and not flag.is_positional
    return not (is_name and (names_data(word) or "/" in word or word == "-"))


def translate(flags: Mapping[str, Flag], command: str, arguments: Sequence[str]) -> Translation:
    """Put the flags of a command line that other tools know into our words.

    Raises:
        UsageError: one of them has no like here, with the answer to it; or one setting is given
            two values under two names.
    """
    found = Translation()
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        if word == "--":
            found.words += [word, *rest]
            break
        row = _row_of(flags, word) if is_flag(word) else None
        if row is None:
            found.words.append(word)
            if is_flag(word):
                _note_spelling(found, full_name(flags, _name(word)), word, rest)
        else:
            _translate_flag(found, flags, command, row, word, rest)
    for name, given in found.spellings.items():
        is_single = name in flags and not flags[name].is_positional
        if is_single and len(set(given.values())) > 1:
            raise UsageError(f"{' and '.join(given)} set the same, --{name}.", "Give one of them.")
    return found


def translate_key(
    key: str, value: object, flags: Mapping[str, Flag], command: str
) -> tuple[str, object, bool] | None:
    """Return our key and value for a key of a YAML file, and whether the command uses it.

    None if it says what is done anyway.

    Raises:
        UsageError: it has no like here; `what` starts with the key.
    """
    row = foreign_flags()[_plain(key)]
    parts = value if isinstance(value, list) and row.here else [value]
    ours: list[object] = []
    for part in parts:
        text = _text(part)
        word = row.ours(text)
        if word is None:
            raise _answer(row, key, flags, command)
        if word:
            ours.append(part if word == text else word)
    if not ours:
        return None
    is_used = row.leads_to(flags, command)
    return row.here, ours if isinstance(value, list) else ours[0], is_used


def is_foreign_key(key: str, value: object, name: str, is_own: bool) -> bool:
    """Return whether a key of a YAML file needs `translate_key`.

    `name` is its full name, and `is_own` whether that is a setting of some command: then it needs
    it only for a value that says what is done anyway.
    """
    row = foreign_flags().get(_plain(key))
    return row is not None and (not is_own or (row.here != name and row.knows(_text(value))))


def checked_value(flag: Flag, raw: object, where: str) -> object:
    """Return what `value_of` does, also for words of other tools that differ from ours.

    Raises:
        UsageError: the setting cannot have the value.
    """
    row = foreign_flags().get(flag.name)
    if row is not None and row.here == flag.name:
        words = {theirs: ours for theirs, ours in row.values if ours}
        parts = raw if isinstance(raw, list) else [raw]
        ours = [words.get(_text(it).lower(), it) if it is not None else it for it in parts]
        raw = ours if isinstance(raw, list) else ours[0]
    try:
        return value_of(flag, raw, where)
    except UsageError as error:
        raise UsageError(error.what, error.hint or (row.answer if row else "")) from None


def takes_word(flag: Flag, word: str) -> bool:
    """Return whether a boolean flag of ours takes a word after it, as other tools' flags do."""
    row = foreign_flags().get(flag.name)
    return row is not None and row.here == flag.name and word.lower() in row.words


def guess_for(name: str, known: Collection[str], mark: str = "") -> str:
    """Return a question with the nearest known name, or an empty text.

    Where none is near, it is another tool's name for a known one. `mark` stands before the name
    (`--` for flags).
    """
    aliases = [row.name for row in foreign_flags().values() if row.here in known]
    found = get_close_matches(name, known, n=1, cutoff=0.7)
    found = found or get_close_matches(name, aliases, n=1, cutoff=0.85)
    return f"Did you mean {mark}{found[0]}?" if found else ""


def _plain(name: str) -> str:
    """Return a name without hyphens."""
    return name.replace("-", "_")


def _name(word: str) -> str:
    return word.partition("=")[0].removeprefix("--")


def _text(value: object) -> str:
    """Return a value of a YAML file as a flag would have it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _row_of(flags: Mapping[str, Flag], word: str) -> Foreign | None:
    """Return the row of a flag that is none of ours; `no_` may stand before a boolean."""
    name = _plain(_name(word)) if word.startswith("--") else ""
    positive = name.removeprefix("no_")
    if full_name(flags, name) in flags or (positive != name and positive in flags):
        return None
    row = foreign_flags().get(name)
    negated = foreign_flags().get(positive)
    return row or (negated if negated is not None and negated.is_boolean else None)


def _translate_flag(
    found: Translation,
    flags: Mapping[str, Flag],
    command: str,
    row: Foreign,
    word: str,
    rest: deque[str],
) -> None:
    written, equals, value = word.partition("=")
    here = flags[row.here] if row.leads_to(flags, command) else None
    if here is not None and not row.values:  # the parser reads the values of an alias as of ours
        found.words.append(f"--{here.name}{equals}{value}")
        _note_spelling(found, here.name, word, rest)
        return
    is_negated = _plain(_name(word)) != row.name
    after = [] if equals or is_negated else _values(row, here, rest)
    typed = [value] if equals else after
    if not typed and row.is_boolean:
        typed = ["false" if is_negated else "true"]
    ours = [row.ours(it) for it in typed]
    kept = [it for it in ours if it]
    if None in ours or (equals and is_negated) or (here is None and (kept or not ours)):
        raise _answer(row, written, flags, command)
    if here is None or (not kept and any(typed)):
        found.without_effect.append(" ".join([word, *after]))
        return
    found.spellings.setdefault(here.name, {})[_plain_flag(written)] = " ".join(kept)
    found.words.append(f"--{here.name}={','.join(kept)}" if typed else f"--{here.name}")


def _values(row: Foreign, here: Flag | None, rest: deque[str]) -> list[str]:
    """Take the values of a flag from the words after it; a boolean has one only if it fits."""
    values: list[str] = []
    is_list = here is not None and here.is_list and not row.is_boolean
    while rest and not is_flag(rest[0]) and (is_list or not values):
        if is_list and here is not None and not is_item(here, rest[0]):
            break
        is_own_word = "*" in row.words and not names_data(rest[0])
        if row.is_boolean and not (row.knows(rest[0]) or is_own_word):
            break
        values.append(rest.popleft())
    return values


def _note_spelling(found: Translation, name: str, word: str, rest: Sequence[str]) -> None:
    written, equals, value = word.partition("=")
    following = rest[0] if rest and not is_flag(rest[0]) else ""
    found.spellings.setdefault(name, {})[_plain_flag(written)] = value if equals else following


def _plain_flag(written: str) -> str:
    return f"--{_plain(_name(written))}"


def _answer(row: Foreign, written: str, flags: Mapping[str, Flag], command: str) -> UsageError:
    """Return the error for a flag or key without a like here, or in another command."""
    what = f"{written}: no such setting here."
    answer = row.answer or f"It is called --{row.here}."
    if "fte " in answer:  # it names a command, with the flags of that one
        return UsageError(what, answer)
    needed = set(re.findall(r"--(\w+)", answer))
    having = [it.name for it in COMMANDS.values() if _has(it, needed, row)]
    *others, last = [f"fte {name}" for name in having]
    if not written.startswith("-"):
        answer = answer.replace("--", "")
    if command not in having:
        answer = f"For {' and '.join(filter(None, [', '.join(others), last]))}: {answer}"
    return UsageError(what, answer)


def _has(command: Command, needed: set[str], row: Foreign) -> bool:
    """Return whether a command has all of these flags, which are the answer to a row."""
    own = flags_of(command.settings).values()
    names = {name for flag in own for name in (flag.name, flag.alias) if name}
    return needed <= names and (needed != {row.here} or row.leads_to(names, command.name))
