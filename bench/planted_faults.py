# ruff: noqa: T201 - a benchmark prints its table
"""Plant faults of each kind in clean records, and count those that `fte check` finds.

    uv run python bench/planted_faults.py [--rows 10000] [--each 11] [--seed 0]

The records are random words, so nothing but the planted faults can be found. For each kind, prints
how many were planted, found at the right line, and reported falsely. Exits with 1 if any fault was
missed or false.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from planted_turns import FILE, Chats

Record = dict[str, object]
Place = tuple[str, str, int]
"""Kind of finding, file name, line."""
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
FIELDS = ("instruction", "output")
TAGS = ("shell", "git", "docker", "kubectl")


class Planter:
    """Two files of clean records, their lines that are still clean, and the planted faults."""

    def __init__(self, n_rows: int, seed: int) -> None:
        self.draw = random.Random(seed)
        self.train = [self._line(self.record()) for _ in range(n_rows)]
        self.exam = [self._line(self.record()) for _ in range(n_rows // 20)]
        # The first line determines the format, so it stays clean; copies come after originals.
        self.free = self.draw.sample(range(1, n_rows), n_rows - 1)
        self.free_exam = self.draw.sample(range(1, len(self.exam)), len(self.exam) - 1)
        self.planted: set[Place] = set()

    def record(self) -> Record:
        """Make a clean record whose words occur in no other."""
        return {
            "instruction": f"{self.words(8).capitalize()}?",
            "output": f"{self.words(12).capitalize()}.",
            "tag": self.draw.choice(TAGS),
        }

    def words(self, count: int) -> str:
        """Make `count` random words."""
        draw = self.draw
        return " ".join(
            "".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(count)
        )

    def line(self, kind: str, content: bytes | Record) -> int:
        """Replace a clean line with a faulty one of the given kind."""
        index = self.free.pop()
        self.train[index] = content if isinstance(content, bytes) else self._line(content)
        self.planted.add((kind, "train.jsonl", index + 1))
        return index

    def changed(self, kind: str, **fields: object) -> None:
        """Plant a record with some fields changed."""
        self.line(kind, {**self.record(), **fields})

    def several(self, kind: str, n: int, answer: Callable[[], str]) -> None:
        """Plant `n` answers that are one fault, which is reported at the first of them."""
        indices = [self.free.pop() for _ in range(n)]
        for index in indices:
            self.train[index] = self._line({**self.record(), "output": answer()})
        self.planted.add((kind, "train.jsonl", min(indices) + 1))

    def pair(self) -> tuple[Record, int]:
        """Take a clean record of the file, and the index of a clean line after it."""
        first, second = sorted((self.free.pop(), self.free.pop()))
        return json.loads(self.train[first]), second

    def second(self, kind: str, index: int, record: Record) -> None:
        """Plant a record that repeats an earlier one in some way."""
        self.train[index] = self._line(record)
        self.planted.add((kind, "train.jsonl", index + 1))

    def overlap(self, kind: str, change: Callable[[str], str]) -> None:
        """Plant an exam question that is (almost) the same as a training question."""
        known = json.loads(self.train[self.free.pop()])
        index = self.free_exam.pop()
        self.exam[index] = self._line(
            {**self.record(), "instruction": change(known["instruction"])}
        )
        self.planted.add((kind, "exam.jsonl", index + 1))

    @staticmethod
    def _line(record: Record) -> bytes:
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")


def with_a_typo(text: str) -> str:
    """Swap two letters in the middle of a text."""
    middle = next(
        place
        for place in range(len(text) // 2, 0, -1)
        if text[place : place + 2].isalpha() and text[place] != text[place + 1]
    )
    return text[:middle] + text[middle + 1] + text[middle] + text[middle + 2 :]


def plant_broken_lines(planter: Planter) -> None:
    """Plant one fault of each kind that makes a line unreadable."""
    p, draw = planter, planter.draw
    whole = p._line(p.record())
    p.line("not_utf8", whole.replace(b"a", b"\xff", 1))
    p.line("not_json", draw.choice([whole[:-9], whole.replace(b":", b"", 1), b"\x00" + whole]))
    p.line("several_objects", whole + b" " + whole)
    p.line("not_finite", whole[:-1] + b', "weight": Infinity}')
    p.line("too_deep", b'{"instruction": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")
    p.line("not_an_object", draw.choice([b'"text"', b"[1, 2]", b"17", b"null"]))
    p.line("duplicate_key", whole[:-1] + b', "output": "x"}')


def plant_bad_fields(planter: Planter) -> None:
    """Plant one fault of each kind in the fields of a record."""
    p, draw = planter, planter.draw
    record = p.record()
    answer = record.pop("output")
    p.line("missing_field", record)
    p.line("misspelt_field", {**record, "ouput": answer})
    p.changed("wrong_type", output=draw.choice([None, 17, ["a"], {"a": "b"}, True]))
    p.changed("empty_prompt", instruction=draw.choice(["", "  \n", "\ufeff", "\u3000"]))
    p.changed("empty_answer", output=draw.choice(["", " ", "\u200b", "\u00a0", "\x07 \u2060"]))
    p.line("lone_surrogate", p._line(p.record()).replace(b"?", b"\\ud83d?", 1))


def plant_odd_texts(planter: Planter) -> None:
    """Plant one oddity of each kind in a text."""
    p, draw = planter, planter.draw

    def with_mark(mark: str) -> str:
        return f"{p.words(6)}{mark} {p.words(5)}."

    p.changed("control_character", output=with_mark(draw.choice("\x00\x07\x1b\x85")))
    p.changed("carriage_return", output=with_mark(draw.choice(["\r\n", "\r"])))
    p.changed("bidi_control", instruction=with_mark(draw.choice("\u202e\u2066\u2069")))
    p.changed("invisible_character", output=with_mark(draw.choice("\u200b\ufeff\u00ad\u2060")))
    p.changed("replacement_character", output=with_mark("\ufffd"))
    p.changed("mojibake", output=with_mark(draw.choice(["Ã©", "â€™", "Ã¼", "â€œ"])))
    p.changed("special_token_text", output=with_mark("<|endoftext|>"))
    question = p.words(9)
    p.changed("answer_is_prompt", instruction=f"{question}?", output=question)
    p.changed("outer_space", output=f" {p.words(8)}")
    p.changed("answer_too_long", output=p.words(700))
    p.changed("prompt_cut", instruction=p.words(700))
    p.changed("rare_tag", tag=p.words(2))


def plant_spoilt_contents(planter: Planter) -> None:
    """Plant one text of each kind that a model would learn to write as it is."""
    p, draw = planter, planter.draw
    first, second = p.words(6).capitalize(), p.words(5).capitalize()
    lines = draw.choice(
        [f"{first}.\n{second}.", f"{first}\n\n{second}.", f'"{first}" {second}.', f"{first}\t1"]
    )
    p.changed("escaped_text", **{draw.choice(FIELDS): json.dumps(lines)[1:-1]})
    entity = draw.choice(["&quot;", "&#39;", "&nbsp;", "&lt;br&gt;", "&amp;", "&#x27;"])
    p.changed("html_entity", **{draw.choice(FIELDS): f"{first}{entity} {second}."})
    p.changed("missing_value", output=draw.choice(["nan", "None", "NULL", "N/A", "#N/A", "NaN"]))
    marks = ["<|im_start|>user\n", "[INST] ", "<start_of_turn>user\n", "<|user|>\n"]
    p.changed("templated_text", instruction=f"{draw.choice(marks)}{p.words(8)}?")
    placeholders = ["<output>", "{answer}", "[insert answer here]", "TODO", "TBD", "...", "xxx"]
    p.changed("placeholder", output=draw.choice([*placeholders, "Lorem ipsum dolor sit amet."]))


def plant_repeats(planter: Planter) -> None:
    """Plant one repetition of each kind."""
    p, draw = planter, planter.draw
    record, index = p.pair()
    p.second("exact_duplicate", index, record)
    record, index = p.pair()
    changes: list[Callable[[str], str]] = [
        with_a_typo,
        str.upper,
        lambda text: text.replace(" ", ", ", 1),
    ]
    changed = draw.choice(changes)
    p.second(
        "near_duplicate", index, {**record, "instruction": changed(str(record["instruction"]))}
    )
    record, index = p.pair()
    p.second("conflicting_answers", index, {**record, "output": p.words(14)})
    changes = [str, lambda text: text.rstrip("?"), lambda text: text[0].lower() + text[1:]]
    p.overlap("overlap", draw.choice(changes))
    p.overlap("near_overlap", with_a_typo)


def plant_once(planter: Planter) -> None:
    """Plant the faults that are reported once per file."""
    planter.changed("unused_field", source="here")
    for _ in range(5):
        index = planter.free.pop()
        planter.train[index] = planter._line({**planter.record(), "tag": "Shell"})
    firsts = [index for index, line in enumerate(planter.train) if b'"tag": "Shell"' in line]
    planter.planted.add(("similar_tags", "train.jsonl", min(firsts) + 1))
    n = len(planter.train)
    planter.several("cut_answers", n // 200 + 5, lambda: f"{planter.words(60)}."[:160].rstrip())
    planter.several("repeated_answer", n // 4, lambda: "No idea.")


def check(folder: Path, file: str) -> tuple[set[Place], float]:
    """Run `fte check`; return its findings and the seconds it took."""
    command = [sys.executable, "-m", "finetuning_exam", "check", file, "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 2) or not done.stdout:
        sys.exit(done.stderr)
    said = json.loads(done.stdout)
    if "error" in said:
        sys.exit(str(said["error"]))
    findings = said["findings"]
    return {(it["kind"], it["path"], it["line"]) for it in findings}, seconds


def main() -> int:
    """Plant the faults, run the check, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    planter = Planter(flags.rows, flags.seed)
    for _ in range(flags.each):
        plant_broken_lines(planter)
        plant_bad_fields(planter)
        plant_odd_texts(planter)
        plant_spoilt_contents(planter)
        plant_repeats(planter)
    plant_once(planter)
    chats = Chats(planter.draw, planter.words, max(flags.rows // 5, 200))
    for _ in range(flags.each):
        chats.plant_each()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.jsonl").write_bytes(b"\n".join(planter.train) + b"\n")
        (folder / "exam.jsonl").write_bytes(b"\n".join(planter.exam) + b"\n")
        (folder / FILE).write_text("\n".join(chats.lines) + "\n", encoding="utf-8")
        found, seconds = check(folder, "train.jsonl")
        found_in_chats, more_seconds = check(folder, FILE)
    all_planted, found = planter.planted | chats.planted, found | found_in_chats
    seconds += more_seconds
    missed, false = all_planted - found, found - all_planted
    planted = Counter(kind for kind, _, _ in all_planted)
    print("| kind | planted | found | false |\n| --- | --- | --- | --- |")
    for kind in sorted({*planted, *(kind for kind, _, _ in false)}):
        n_missed = sum(it[0] == kind for it in missed)
        n_false = sum(it[0] == kind for it in false)
        print(f"| {kind} | {planted[kind]} | {planted[kind] - n_missed} | {n_false} |")
    print(
        f"\n{len(all_planted)} faults of {len(planted)} kinds in "
        f"{len(planter.train) + len(chats.lines):,} rows, "
        f"{len(missed)} missed, {len(false)} false, {seconds:.1f} s"
    )
    for name, places in (("missed", missed), ("false", false)):
        for place in sorted(places)[:10]:
            print(name, *place)
    return 1 if missed or false else 0


if __name__ == "__main__":
    sys.exit(main())
