# ruff: noqa: T201 - a benchmark prints its results
"""Measure the quality and speed of the near-duplicate search, on copies with known edits.

    uv run python bench/near_duplicates.py
    uv run python bench/near_duplicates.py one.jsonl two.json --rows 100000

The first command measures the project's train.jsonl, the second your own files (JSON lines or an
array).

A fifth of a file's rows is copied with one edit each, and the copies are mixed in. Recall is the
share of copies in the same cluster as their original. A match is correct if its two rows have the
same original, or if they or their originals differ in at most 15% of their words (since files have
near duplicates of their own). Precision is the share of correct matches among all matches that
differ in more than case and punctuation.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.data import near_duplicates as near

FILLERS = ("please", "really", "just", "kindly", "now", "also")
OTHERS = ("other", "thing", "quickly", "given", "shown", "many", "make", "person")
STRICT_SHARE = 0.15
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A text, the index of its original row, and the name of its edit ("" for none)."""

    text: str
    origin: int
    edit: str = ""


def _word_places(text: str, draw: random.Random, share: float) -> tuple[list[str], list[int]]:
    """Split a text into words, and draw the indices of some that consist of letters."""
    words = text.split(" ")
    plain = [place for place, word in enumerate(words) if word.isalpha() and len(word) > 2]
    if not plain:
        return words, []
    return words, draw.sample(plain, max(1, round(share * len(plain))))


def _on_words(text: str, draw: random.Random, edit: Callable[[str], str], share: float = 0) -> str:
    words, places = _word_places(text, draw, share)
    for place in places:
        words[place] = edit(words[place])
    return " ".join(word for word in words if word)


def _typo(text: str, draw: random.Random) -> str:
    def edit(word: str) -> str:
        at = draw.randrange(len(word) - 1)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        wrong = word[:at] + draw.choice(string.ascii_lowercase) + word[at + 1 :]
        return draw.choice([swapped, wrong, word[:at] + word[at + 1 :]])

    return _on_words(text, draw, edit)


def _dropped(text: str, draw: random.Random) -> str:
    return _on_words(text, draw, lambda _: "")


def _replaced(text: str, draw: random.Random) -> str:
    return _on_words(text, draw, lambda _: draw.choice(OTHERS))


def _filler(text: str, draw: random.Random) -> str:
    return _on_words(text, draw, lambda word: f"{word} {draw.choice(FILLERS)}")


def _two_edits(text: str, draw: random.Random) -> str:
    edits = draw.sample([_typo, _dropped, _replaced, _filler], 2)
    return edits[0](edits[1](text, draw), draw)


def _case(text: str, draw: random.Random) -> str:
    return draw.choice([str.upper, str.lower, str.title])(text)


def _punctuation(text: str, draw: random.Random) -> str:
    bare = text.replace(", ", " ").rstrip(".!?")
    return bare + draw.choice([" !", "...", " .", "?!"])


def _clauses(text: str, draw: random.Random) -> str:
    """Swap two neighbouring clauses or lines."""
    for mark in ("\n", ". ", ", ", " and ", " with "):
        parts = text.split(mark)
        if len(parts) > 1:
            at = draw.randrange(len(parts) - 1)
            parts[at], parts[at + 1] = parts[at + 1], parts[at]
            return mark.join(parts)
    return text


def _paraphrase(text: str, draw: random.Random) -> str:
    """Replace four words in ten."""
    return _on_words(text, draw, lambda _: draw.choice(OTHERS), 0.4)


def _number(text: str, draw: random.Random) -> str:
    """Change one number, which makes the copy a different row rather than a near duplicate."""
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return text
    found = draw.choice(numbers)
    return text[: found.start()] + str(int(found[0]) + 1) + text[found.end() :]


SMALL = {
    "typo": _typo,
    "word dropped": _dropped,
    "word replaced": _replaced,
    "filler word": _filler,
    "case": _case,
    "punctuation": _punctuation,
}
LARGE = {"two edits": _two_edits, "clauses swapped": _clauses, "40% other words": _paraphrase}
NONE = {"number changed": _number}
"""Edits that do not make near duplicates; their recall should be 0."""


def read_texts(path: Path) -> tuple[list[str], list[str]]:
    """Read the prompts of a file, and its prompts with their answers."""
    content = path.read_text(encoding="utf-8")
    is_array = content.lstrip().startswith("[")
    rows = json.loads(content) if is_array else [json.loads(it) for it in content.split("\n") if it]
    prompts, wholes = [], []
    for row in rows:
        given = f"\n{row['input']}" if row.get("input") else ""
        prompts.append((row.get("instruction") or row["question"]) + given)
        wholes.append(f"{prompts[-1]}\n{row.get('output') or row['answer']}")
    return prompts, wholes


def plant(texts: Sequence[str], seed: int, share: float = 0.2) -> list[Row]:
    """Add edited copies of some texts, and shuffle everything."""
    draw = random.Random(seed)
    edits = {**SMALL, **LARGE, **NONE}
    rows = [Row(text, index) for index, text in enumerate(texts)]
    for number, index in enumerate(draw.sample(range(len(texts)), round(share * len(texts)))):
        name = list(edits)[number % len(edits)]
        edited = edits[name](texts[index], draw)
        if edited != texts[index]:
            rows.append(Row(edited, index, name))
    draw.shuffle(rows)
    return rows


def word_distance(one: str, other: str) -> float:
    """Return the edit distance in words, as a share of the longer text's words."""
    left, right = near._normal(one).split(), near._normal(other).split()
    costs = list(range(len(right) + 1))
    for row, word in enumerate(left, start=1):
        before, costs[0] = costs[0], row
        for column, target in enumerate(right, start=1):
            cost = min(costs[column] + 1, costs[column - 1] + 1, before + (word != target))
            before, costs[column] = costs[column], cost
    return costs[-1] / max(len(left), len(right), 1)


def is_right(one: Row, other: Row, texts: Sequence[str]) -> bool:
    """Return True if two matched rows are near duplicates by the criterion above."""
    if one.origin == other.origin or word_distance(one.text, other.text) <= STRICT_SHARE:
        return True
    return word_distance(texts[one.origin], texts[other.origin]) <= STRICT_SHARE


def clusters(n_rows: int, matches: Sequence[near.Match]) -> list[int]:
    """Return the first row of each row's cluster."""
    head = list(range(n_rows))
    for match in matches:  # in the order of the later row: the earlier one's head is known
        head[match.second] = head[match.first]
    return head


def quality(name: str, texts: Sequence[str], seed: int) -> None:
    """Print precision, and recall by kind of edit and by length."""
    rows = plant(texts, seed)
    started = time.process_time()
    pairs = near.near_duplicates([row.text for row in rows])
    took_s = time.process_time() - started
    matches = list({pair.second: pair for pair in reversed(pairs)}.values())[::-1]  # the best
    head = clusters(len(rows), matches)
    place = {row.origin: index for index, row in enumerate(rows) if not row.edit}
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    for index, row in enumerate(rows):
        if row.edit:
            length = "short (< 60 characters)" if len(row.text) < 60 else "longer"
            keys = [row.edit, *(["SMALL EDITS", f"small, {length}"] if row.edit in SMALL else [])]
            planted.update(keys)
            found.update(keys if head[index] == head[place[row.origin]] else [])
    unequal = [match for match in matches if match.similarity < 1]
    wrong = [it for it in unequal if not is_right(rows[it.first], rows[it.second], texts)]
    natural = [it for it in unequal if rows[it.first].origin != rows[it.second].origin]
    precision = 1 - len(wrong) / max(len(unequal), 1)
    print(f"\n{name}: {len(rows)} rows, {len(matches)} matches, {took_s:.2f} s")
    print(
        f"  precision {precision:.3f} ({len(unequal)} not equal, {len(natural)} not planted, "
        f"{len(wrong)} wrong)"
    )
    for key, total in planted.items():
        print(f"  recall {key:32} {found[key] / total:.3f} of {total}")
    for match in wrong[:SHOWN]:
        print(f"    wrong {match.similarity:.2f} {rows[match.first].text[:110]!r}")
        print(f"               {rows[match.second].text[:110]!r}")


def speed(texts: Sequence[str], n_rows: int, seed: int) -> None:
    """Print time and memory for a synthetic file of repeated and varied texts."""
    draw = random.Random(seed)
    edits = [_typo, _dropped, _replaced, _two_edits, _paraphrase]
    words = " ".join(texts).split()
    rows = []
    for _ in range(n_rows):
        text = draw.choice(texts)
        kind = draw.random()
        if kind < 0.6:  # a new text from random words
            text = " ".join(draw.choices(words, k=len(text.split()) + 8))
        elif kind < 0.95:
            text = draw.choice(edits)(text, draw) + " " + " ".join(draw.choices(words, k=8))
        rows.append(text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()  # CPU time, so other load does not matter
    matches = near.near_duplicates(rows)
    took_s = time.process_time() - started
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    mean = sum(map(len, rows)) / n_rows
    print(
        f"\n{n_rows} rows of {mean:.0f} characters: {took_s:.2f} s, {extra:.0f} MiB on top, "
        f"{len(matches)} matches"
    )


def main() -> None:
    """Measure each file given, and the speed if asked for."""
    parser = argparse.ArgumentParser(description="Measure the search for near duplicates.")
    parser.add_argument("files", nargs="*", type=Path, default=[Path("train.jsonl")])
    parser.add_argument("--rows", type=int, default=0, help="also time a file with this many rows")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for path in given.files:
        prompts, wholes = read_texts(path)
        quality(f"{path.name}, prompts with answers", wholes, given.seed)
        quality(f"{path.name}, prompts", prompts, given.seed)
    if given.rows:
        speed(read_texts(given.files[0])[1], given.rows, given.seed)


if __name__ == "__main__":
    main()
