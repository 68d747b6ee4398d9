"""Skills: what a base can do that its adapter should leave alone, as multiple-choice questions.

The built-in questions are in skills.jsonl: 25 for each of eight skills. They have open wordings and
are answered by likelihood (see `ask_skills`), so a model never sees the choices side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np

from finetuning_exam.data.findings import Fault, errors, place
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.fields import Record, as_list, as_text, quoted, read_field
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.json_values import json_type, parse_object
from finetuning_exam.data.reading.opening import open_regular
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.evaluation.stats import (
    CONFIDENCE,
    Interval,
    family_confidence,
    mcnemar_p_value,
    paired_share_interval,
)
from finetuning_exam.evaluation.verdict import MIN_EXAMPLES_FOR_NO_DIFFERENCE

MIN_CHOICES, MAX_CHOICES = 2, 8
MAX_ITEMS = 2000
"""Larger files are refused: every choice of every question is scored twice by each model."""
BUILTIN_PATH = "built-in skills"
OVERALL = "all skills"
_HINT = (
    'Write one question per line, such as {"skill": "colors", "question": "Which color is snow?", '
    '"choices": ["white", "green"], "answer": 0}; answer is the index of the right choice, from 0.'
)

Status = Literal["not measurable", "worse", "better", "no measurable change"]


@dataclass(frozen=True, slots=True)
class SkillItem:
    """A question with its choices, of which the one at index `answer` is right."""

    skill: str
    question: str
    choices: tuple[str, ...]
    answer: int
    line: int
    path: str


@dataclass(frozen=True, slots=True)
class SkillAnswer:
    """Whether base and tuned model chose right."""

    item: SkillItem
    base_right: bool
    tuned_right: bool


@dataclass(frozen=True, slots=True)
class SkillResult:
    """The shares of right answers of base and tuned model in one skill, and what they support.

    `difference` is tuned minus base, with the interval from `ci_low` to `ci_high`; `p_value` is
    that of McNemar's exact test. `chance` is the share that guessing would give, and
    `p_above_chance` the one-sided p-value of the base's right answers against it.
    """

    skill: str
    n_items: int
    chance: float
    base: float
    tuned: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n_gained: int
    n_lost: int
    p_above_chance: float
    status: Status


@dataclass(frozen=True, slots=True)
class SkillReport:
    """All skills, in the order of their first question, and all questions taken together.

    The intervals of the skills have `confidence` each, so that all of them hold at 95%; the overall
    interval has 95%. `overall` is None if no question could be asked.
    """

    skills: tuple[SkillResult, ...]
    overall: SkillResult | None
    confidence: float
    n_left_out: int
    """Questions that were not asked: too long for the model's context, or with a special token that
    the chat template would interpret."""


def chosen_skills(setting: str) -> tuple[SkillItem, ...]:
    """Return the questions that `--skills` asks for: the built-in ones, none, or those of a file.

    Raises:
        UsageError, DataError: as `read_skills`.
    """
    if setting == "none":
        return ()
    return read_skills(None if setting == "auto" else setting)


def read_skills(path: str | None) -> tuple[SkillItem, ...]:
    """Return the questions of a file; without a path, the built-in ones.

    Each record has the fields `skill`, `question`, `choices` (two to eight) and `answer` (the index
    of the right choice, from 0); other fields are ignored. A file may have any form that a data
    file may have and that can hold lists: JSON lines, JSON, Parquet.

    Raises:
        UsageError: the path is not a regular file, or the file has more than `MAX_ITEMS` questions.
        DataError: the file has no questions, or some are faulty; all of these are named.
    """
    if path is None:
        builtin = files("finetuning_exam.evaluation") / "skills.jsonl"
        lines = builtin.read_bytes().splitlines()
        return tuple(
            _item(RawRecord(number, 0, parse_object(line)), BUILTIN_PATH)
            for number, line in enumerate(lines, start=1)
        )
    open_regular(path).close()  # a missing file is never looked up as a hub dataset
    try:
        found = read_file(path)
    except DataError as error:
        raise DataError(error.faults, _HINT) from error
    if len(found.records) > MAX_ITEMS:
        raise UsageError(
            f"--skills {path}: {len(found.records):,} questions, more than {MAX_ITEMS:,}.",
            "Use a sample; 25 questions for each skill are a good start.",
        )
    items, faults = _items(found.records, path)
    faults += [(it.line, it.column, str(it)) for it in errors(found.findings)]
    if faults:
        raise DataError([text for _, _, text in sorted(faults)], _HINT)
    return tuple(items)


def _items(
    records: Sequence[RawRecord], path: str
) -> tuple[list[SkillItem], list[tuple[int, int, str]]]:
    """Return the questions of records, and the faults of the others with line and column."""
    items: list[SkillItem] = []
    faults: list[tuple[int, int, str]] = []
    first: dict[tuple[str, frozenset[str]], int] = {}
    for record in records:
        try:
            item = _item(record, path)
            key = item.question, frozenset(item.choices)
            if (line := first.setdefault(key, record.line)) != record.line:
                raise Fault(Kind.EXACT_DUPLICATE, f"the same question as in line {line}")
            items.append(item)
        except Fault as fault:
            where = place(path, record.line, record.column)
            faults.append((record.line, record.column, f"{where}: {fault.detail}."))
    return items, faults


def _item(record: RawRecord, path: str) -> SkillItem:
    """Return the question of a record.

    Raises:
        Fault: a field is missing, of the wrong type, empty or out of range.
    """
    value = record.value
    skill, question = _filled(value, "skill"), _filled(value, "question")
    for name in ("choices", "answer"):
        if name not in value:
            raise Fault(Kind.MISSING_FIELD, f"missing field {name!r}")
    listed = as_list(value["choices"], "field 'choices'")
    choices = tuple(as_text(it, f"choice {number}") for number, it in enumerate(listed))
    if not MIN_CHOICES <= len(choices) <= MAX_CHOICES:
        detail = f"{len(choices)} choices; expected {MIN_CHOICES} to {MAX_CHOICES}"
        raise Fault(Kind.WRONG_TYPE, detail)
    for number, choice in enumerate(choices):
        if not choice.strip():
            raise Fault(Kind.EMPTY_ANSWER, f"choice {number} is empty")
        if choice in choices[:number]:
            raise Fault(Kind.EXACT_DUPLICATE, f"the choice {quoted(choice)} is listed twice")
    answer = value["answer"]
    if not isinstance(answer, int) or isinstance(answer, bool):
        detail = f"field 'answer' is {json_type(answer)}; expected the index of the right choice"
        raise Fault(Kind.WRONG_TYPE, detail)
    if not 0 <= answer < len(choices):
        detail = f"answer {answer} is not the index of a choice (0 to {len(choices) - 1})"
        raise Fault(Kind.WRONG_TYPE, detail)
    return SkillItem(skill, question, choices, answer, record.line, path)


def _filled(value: Record, name: str) -> str:
    text = read_field(value, name).strip()
    if not text:
        raise Fault(Kind.EMPTY_PROMPT, f"field {name!r} is empty")
    return text


def report_skills(answers: Sequence[SkillAnswer], n_left_out: int = 0) -> SkillReport:
    """Compare base and tuned model in each skill, and in all of them together.

    A skill on which the base is not above chance is not measurable, since it cannot be lost. The
    confidence of the intervals and the level of the tests count all skills, also those that are not
    measurable (Bonferroni): which these are depends on the base's answers, too.
    """
    groups: dict[str, list[SkillAnswer]] = {}
    for answer in answers:
        groups.setdefault(answer.item.skill, []).append(answer)
    confidence = family_confidence(len(groups))
    return SkillReport(
        tuple(_result(name, group, confidence) for name, group in groups.items()),
        _result(OVERALL, answers, CONFIDENCE) if answers else None,
        confidence,
        n_left_out,
    )


def _result(name: str, answers: Sequence[SkillAnswer], confidence: float) -> SkillResult:
    base, tuned = [it.base_right for it in answers], [it.tuned_right for it in answers]
    chances = [1 / len(it.item.choices) for it in answers]
    n_items = len(answers)
    n_gained = sum(after > before for before, after in zip(base, tuned, strict=True))
    n_lost = sum(after < before for before, after in zip(base, tuned, strict=True))
    p_value = mcnemar_p_value(base, tuned)
    interval = paired_share_interval(n_gained, n_lost, n_items, confidence)
    is_significant = p_value < 1 - confidence
    if not is_significant:  # the exact test is the stricter one: they must not disagree
        interval = Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    p_above_chance = p_at_least(sum(base), chances)
    status: Status = "no measurable change"
    if p_above_chance > 1 - CONFIDENCE:
        status = "not measurable"
    elif is_significant:
        status = "better" if n_gained > n_lost else "worse"
    elif n_items < MIN_EXAMPLES_FOR_NO_DIFFERENCE:
        status = "not measurable"
    return SkillResult(
        skill=name,
        n_items=n_items,
        chance=sum(chances) / n_items,
        base=sum(base) / n_items,
        tuned=sum(tuned) / n_items,
        difference=(n_gained - n_lost) / n_items,
        ci_low=interval.low,
        ci_high=interval.high,
        p_value=p_value,
        n_gained=n_gained,
        n_lost=n_lost,
        p_above_chance=p_above_chance,
        status=status,
    )


def p_at_least(n_right: int, chances: Sequence[float]) -> float:
    """Return the probability of at least `n_right` right answers by guessing.

    `chances` are those of each question. With equal chances this is the one-sided exact binomial
    test, otherwise that of the Poisson binomial distribution.
    """
    counts = np.ones(1)
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(min(1.0, counts[n_right:].sum()))
