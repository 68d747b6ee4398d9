"""Specification of the report and the JSON of checked data."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pytest
from rich.console import Console, RenderableType

from finetuning_exam.data.check import Check
from finetuning_exam.data.encoding.lengths import Lengths
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, Source
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.outlook import ExamOutlook
from finetuning_exam.report.data_check import (
    Outlook,
    exam_warning,
    finding_to_json,
    findings_report,
    kinds_lines,
    outlook_report,
    summary,
    to_json,
)


def _shown(renderable: RenderableType, width: int = 40) -> list[str]:
    """The lines as `fte check` prints them, in a narrow terminal that is none."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False, emoji=False).print(
        renderable, soft_wrap=True
    )
    return out.getvalue().splitlines()


def _findings(kind: Kind, n: int, detail: str = "something") -> list[Finding]:
    return [Finding(kind, detail, "d.jsonl", line) for line in range(1, n + 1)]


# Findings


def test_findings_are_listed_by_kind_with_the_hint() -> None:
    """Each kind has a heading with its number, its findings, and its hint."""
    assert _shown(findings_report(_findings(Kind.MOJIBAKE, 2))) == [
        "warning: text decoded with the wrong encoding (2)",
        "  d.jsonl:1: something.",
        "  d.jsonl:2: something.",
        "  → Restore the text from its source.",
        "",
    ]


def test_the_most_serious_come_first() -> None:
    """Errors, warnings, notes; within them the order of the kinds, not of the findings."""
    kinds = [Kind.UNUSED_FIELD, Kind.OUTER_SPACE, Kind.SIMILAR_TAGS, Kind.WRONG_TYPE, Kind.NOT_JSON]
    lines = _shown(findings_report([Finding(kind, "x", "d") for kind in kinds]))
    assert [line for line in lines if line.endswith("(1)")] == [
        f"{kind.severity}: {kind.title} (1)"
        for kind in (
            Kind.NOT_JSON,
            Kind.WRONG_TYPE,
            Kind.SIMILAR_TAGS,
            Kind.OUTER_SPACE,
            Kind.UNUSED_FIELD,
        )
    ]


@pytest.mark.parametrize(
    ("n", "last"), [(20, "  d.jsonl:20: fault 20."), (1021, "  … and 1,001 more.")]
)
def test_twenty_of_a_kind_are_shown(n: int, last: str) -> None:
    """The first twenty are shown in order, with the number of the others."""
    found = [Finding(Kind.NOT_JSON, f"fault {line}", "d.jsonl", line) for line in range(1, n + 1)]
    lines = _shown(findings_report(found))
    assert lines[0] == f"error: not valid JSON ({n:,})"
    assert lines[1:21] == [f"  d.jsonl:{line}: fault {line}." for line in range(1, 21)]
    assert lines[-3] == last


def test_identical_findings_share_a_line() -> None:
    """From the sixth on, findings of a file with one detail are one line with the first places."""
    five = _shown(findings_report(_findings(Kind.NOT_JSON, 5)))
    assert five[1:6] == [f"  d.jsonl:{line}: something." for line in range(1, 6)]
    other = Finding(Kind.NOT_JSON, "else", "d.jsonl", 3)
    lines = _shown(findings_report([*_findings(Kind.NOT_JSON, 1021), other]))
    assert lines[:3] == [
        "error: not valid JSON (1,022)",
        "  d.jsonl:1: something. Also in lines 2, 3, 4, 5 and 1,016 more.",
        "  d.jsonl:3: else.",
    ]


def test_twenty_of_each_kind_are_shown() -> None:
    """Many findings of one kind hide no other kind."""
    lines = _shown(findings_report([*_findings(Kind.NOT_JSON, 50), *_findings(Kind.TOO_DEEP, 1)]))
    assert "error: nested too deeply (1)" in lines


def test_a_finding_is_one_unchanged_line() -> None:
    """Nothing is wrapped, padded or interpreted as markup: a place can be copied."""
    path = "a folder/" * 30 + "[red]x[/red] :smile: 12.jsonl"
    lines = _shown(findings_report([Finding(Kind.NOT_JSON, "why", path, 3)]))
    assert lines[1] == f"  {path}:3: why."
    assert all(line == line.rstrip() for line in lines)


def test_hostile_characters_are_escaped() -> None:
    """Escape sequences, bidirectional controls, tabs and line feeds are shown as code points."""
    finding = Finding(Kind.NOT_JSON, "a\x1b[31m\u202eb\x9b", "p\nq\tr\x07", 1)
    assert _shown(findings_report([finding]))[1] == (
        "  p‹U+000A›q‹U+0009›r‹U+0007›:1: a‹U+001B›[31m‹U+202E›b‹U+009B›."
    )


def test_no_findings_are_an_empty_report() -> None:
    """Without findings there is no heading."""
    assert _shown(findings_report([])) == []


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, "No findings."),
        ({Kind.NOT_JSON: 1}, "1 error."),
        ({Kind.RARE_TAG: 1, Kind.MOJIBAKE: 1}, "1 warning, 1 note."),
        ({Kind.UNUSED_FIELD: 2, Kind.NOT_JSON: 1234, Kind.MOJIBAKE: 2, Kind.TOO_DEEP: 1}, ""),
    ],
)
def test_the_summary_counts_by_severity(counts: dict[Kind, int], text: str) -> None:
    """One is singular; severities without findings are not mentioned."""
    found = [finding for kind, n in counts.items() for finding in _findings(kind, n)]
    assert summary(found) == (text or "1,235 errors, 2 warnings, 2 notes.")


def test_kinds_on_one_line() -> None:
    """Each kind has its number and its first place, the most serious first."""
    found = [*_findings(Kind.EXACT_DUPLICATE, 2), *_findings(Kind.NOT_JSON, 1)]
    assert kinds_lines(found) == (
        "not valid JSON: 1 (d.jsonl:1)",
        "exact duplicate: 2 (d.jsonl:1 …)",
    )


# The outlook on a training

LENGTHS = Lengths(5, 10, 1200, 1500, 2000, 6000, 1500, 2048)


def _examples(n: int, tag: str = "", answer: str = "") -> tuple[Example, ...]:
    return tuple(Example(f"q{i}", answer or f"{tag}{i}", i + 1, "d", tag=tag) for i in range(n))


def _checked(examples: Sequence[Example], exam: Records | None = None) -> Check:
    source = Source("d", "ab" * 32, "JSON lines", "instruction → output", len(examples))
    return Check(Records((source,), tuple(examples), ()), exam, (), ())


def _outlook(split: Split, lengths: Lengths = LENGTHS, steps: int = 2, rows: int = 16) -> Outlook:
    n = len(split.exam)
    exam = ExamOutlook(n, n, can_tell=True)
    return Outlook("builtin", "plain", lengths, split, exam, steps, rows)


def test_the_outlook_has_lengths_split_and_steps() -> None:
    """Tokens per row and in total, the parts of the split, and an epoch's steps."""
    examples = _examples(5)
    split = Split(examples[:3], examples[3:4], examples[4:])
    assert _shown(outlook_report(_checked(examples), _outlook(split))) == [
        "Tokens (builtin, plain template): 10 to 2,000 per row, median 1,200, "
        "95th percentile 1,500, limit 2,048; 6,000 in total, 25% of them trained.",
        "Split: 3 examples to train on, 1 to choose the best step, 1 for the exam "
        "(held out from the same data).",
        "Exam: 1 example, 1 piece of evidence.",
        "One epoch: 2 steps of 16 rows.",
    ]


def test_one_is_singular() -> None:
    """One example, one step and one row are singular."""
    split = Split(_examples(1), (), _examples(1), exam_is_training=True)
    lines = _shown(outlook_report(_checked(_examples(1)), _outlook(split, steps=1, rows=1)))
    assert lines[1:] == [
        "Split: 1 example to train on, 0 to choose the best step, 1 for the exam "
        "(the training examples themselves, because fewer than 20 are not divided).",
        "Exam: 1 example, 1 piece of evidence.",
        "One epoch: 1 step of 1 row.",
    ]


@pytest.mark.parametrize(
    ("is_training", "more"), [(False, ""), (True, ", all in the training data")]
)
def test_an_exam_file_is_named(is_training: bool, more: str) -> None:
    """An exam file is named, with its name escaped; if none of it is new the line says so."""
    source = Source("e\x1b.jsonl", "", "JSON lines", "", 1)
    check = _checked(_examples(2), Records((source,), _examples(1), ()))
    split = Split(_examples(2), (), _examples(1), exam_is_training=is_training)
    line = _shown(outlook_report(check, _outlook(split)))[1]
    assert line.endswith(f"1 for the exam (e‹U+001B›.jsonl{more}).")


TOO_FEW = 'the verdict can only be "too few examples to tell"'
FOLDS = "examine every row by cross-validation with --folds 5"
EXAM_FILE = "give an exam file of other questions with --eval_file"


@pytest.mark.parametrize(
    ("outlook", "is_training", "has_file", "expected"),
    [
        (ExamOutlook(6, 6, can_tell=True), False, False, ""),
        (
            ExamOutlook(4, 3, can_tell=False, fraction=0.2),
            False,
            False,
            f"the exam has only 4 examples, 3 pieces of evidence, so {TOO_FEW}. To change that, "
            f"hold out more with --eval_fraction 0.2, or {EXAM_FILE}.",
        ),
        (
            ExamOutlook(4, 1, can_tell=False),
            False,
            False,
            f"the exam has only 4 examples, 1 piece of evidence, so {TOO_FEW}. To change that, "
            f"use more examples, or {EXAM_FILE}.",
        ),
        (
            ExamOutlook(4, 3, can_tell=False, fraction=0.2, folds=5),
            False,
            False,
            f"the exam has only 4 examples, 3 pieces of evidence, so {TOO_FEW}. To change that, "
            f"hold out more with --eval_fraction 0.2, {FOLDS}, or {EXAM_FILE}.",
        ),
        (
            ExamOutlook(12, 12, can_tell=False, folds=5),
            True,
            False,
            "nothing is held out (20 different questions in 20 rows): the exam uses the training "
            f"rows, so it says nothing about new questions, and {TOO_FEW}. To change that, use at "
            f"least 20 different questions, {FOLDS}, or {EXAM_FILE}.",
        ),
        (
            ExamOutlook(4, 4, can_tell=False),
            False,
            True,
            f"the exam has only 4 examples, 4 pieces of evidence, so {TOO_FEW}. To change that, "
            "add questions to the exam.",
        ),
        (
            ExamOutlook(12, 12, can_tell=False),
            True,
            False,
            "nothing is held out (20 different questions in 20 rows): the exam uses the training "
            f"rows, so it says nothing about new questions, and {TOO_FEW}. To change that, use at "
            f"least 20 different questions, or {EXAM_FILE}.",
        ),
        (
            ExamOutlook(60, 60, can_tell=False),
            True,
            True,
            "the exam uses the training rows, so it says nothing about new questions, and "
            f"{TOO_FEW}. To change that, {EXAM_FILE}.",
        ),
    ],
)
def test_an_exam_without_a_verdict_is_announced(
    outlook: ExamOutlook, is_training: bool, has_file: bool, expected: str
) -> None:
    """Before the training, a line says that no verdict is possible, why, and what to do."""
    split = Split(_examples(20), (), _examples(4), exam_is_training=is_training)
    exam = Records((), _examples(4), ()) if has_file else None
    assert exam_warning(outlook, split, exam) == expected


def _bars(examples: Sequence[Example]) -> list[str]:
    split = Split(tuple(examples), (), ())
    return _shown(outlook_report(_checked(examples), _outlook(split)))[1:-3]


def test_tags_are_bars() -> None:
    """The most frequent tag comes first and has the longest bar; names of any width are aligned."""
    examples = [*_examples(1, "日本"), *_examples(1000, "shell"), *_examples(500, "x\ty")]
    assert _bars(examples) == [
        "Tags:",
        f"  shell{' ' * 7}1,000  {'█' * 24}",
        f"  x‹U+0009›y    500  {'█' * 12}",
        f"  日本{' ' * 12}1  █",
    ]


def test_answers_are_bars_where_they_are_classes() -> None:
    """A few answers among many records are counted like tags; long ones are shortened."""
    examples = [*_examples(40, answer="y" * 50), *_examples(20, answer="no")]
    assert _bars(examples) == [
        "Answers:",
        f"  {'y' * 29}…  40  {'█' * 24}",
        f"  no{' ' * 28}  20  {'█' * 12}",
    ]


def test_twelve_bars_are_shown() -> None:
    """The twelve most frequent tags are shown, with the total of the others."""
    examples = [it for n in range(14) for it in _examples(20 - n, f"t{n:02}")]
    lines = _bars(examples)
    assert len(lines) == 1 + 12 + 1
    assert lines[12].startswith("  t11   9  ")
    assert lines[13] == "  … and 2 more, 15 in total"


# For programs


def test_json_has_everything() -> None:
    """Files, numbers, every finding, tags, classes and the outlook, as plain JSON."""
    examples = [*_examples(30, "a", "yes"), *_examples(30, "b", "no")]
    found = [
        Finding(Kind.NOT_JSON, "why\x1b", "d", 7, 2),
        Finding(Kind.UNUSED_FIELD, "beside", "d"),
        *_findings(Kind.MOJIBAKE, 50),
    ]
    split = Split(tuple(examples[:50]), (), tuple(examples[50:]))
    value = to_json(_checked(examples), found, _outlook(split))
    assert json.loads(json.dumps(value)) == value
    assert isinstance(value, dict)
    findings = value.pop("findings")
    assert isinstance(findings, list)
    assert len(findings) == 52
    kinds = value.pop("kinds")
    assert isinstance(kinds, dict)
    assert kinds["mojibake"] == {
        "severity": "warning",
        "title": Kind.MOJIBAKE.title,
        "hint": Kind.MOJIBAKE.hint,
        "count": 50,
    }
    assert value == {
        "files": [
            {
                "use": "training",
                "path": "d",
                "sha256": "ab" * 32,
                "container": "JSON lines",
                "layout": "instruction → output",
                "n_records": 60,
            }
        ],
        "n_records": 60,
        "counts": {"errors": 1, "warnings": 50, "notes": 1},
        "tags": {"a": 30, "b": 30},
        "answer_classes": {"yes": 30, "no": 30},
        "outlook": {
            "model": "builtin",
            "template": "plain",
            "tokens": {
                "n_rows": 5,
                "shortest": 10,
                "median": 1200,
                "percentile_95": 1500,
                "longest": 2000,
                "n_tokens": 6000,
                "n_supervised": 1500,
                "limit": 2048,
            },
            "rows": {"train": 50, "validation": 0, "exam": 10},
            "exam_is_training": False,
            "exam_pieces_of_evidence": 10,
            "exam_can_tell": True,
            "rows_per_step": 16,
            "steps_per_epoch": 2,
        },
    }


def test_a_finding_in_json() -> None:
    """Kind and severity by name; a missing line or column is null."""
    assert finding_to_json(Finding(Kind.NOT_JSON, "why\x1b", "d", 7, 2)) == {
        "kind": "not_json",
        "severity": "error",
        "path": "d",
        "line": 7,
        "column": 2,
        "detail": "why\x1b",
    }
    whole = finding_to_json(Finding(Kind.UNUSED_FIELD, "beside", "d"))
    assert isinstance(whole, dict)
    assert (whole["line"], whole["column"]) == (None, None)


def test_json_without_an_outlook() -> None:
    """If no record is usable there is no outlook."""
    value = to_json(_checked([]), [], None)
    assert isinstance(value, dict)
    assert (value["outlook"], value["n_records"]) == (None, 0)
    assert value["counts"] == {"errors": 0, "warnings": 0, "notes": 0}
