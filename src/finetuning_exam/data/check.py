"""Findings about the examples: duplicates, contradictions, overlap, characters, balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from finetuning_exam.data.answers import cut_answers, length_units, repeated_answer
from finetuning_exam.data.characters import character_findings
from finetuning_exam.data.contents import content_findings
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.near_duplicates import near_duplicates, near_matches
from finetuning_exam.data.reading.fields import quoted
from finetuning_exam.data.reading.inputs import expand, find_inputs
from finetuning_exam.data.reading.read import Records, exam_file_of, read_records
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import (
    Split,
    normalized,
    question_key,
    question_keys,
    split_examples,
)
from finetuning_exam.data.templated import templated_findings
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import DataSettings

RARE = 5
"""The results for a tag with fewer records than this say little."""
MOST_CLASSES = 20
FEWEST_FOR_BALANCE = 50
UNBALANCED_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """The training records, the exam records and all findings.

    `links` are pairs of indices of training examples that are the same or nearly the same, which
    a split must keep together.
    """

    train: Records
    exam: Records | None
    findings: tuple[Finding, ...]
    links: tuple[tuple[int, int], ...]


def check_files(settings: DataSettings) -> Check:
    """Read the training files and the exam file of a run, and check every example.

    A folder stands for its data files; its exam file is used if none is given.

    Raises:
        UsageError, DataError: a file cannot be read at all or contains no records.
    """
    inputs = find_inputs(settings.data, with_exam=settings.eval_file is None)
    train = read_records(inputs.files, settings)
    train = replace(train, findings=(*inputs.notes, *train.findings))
    exam_file = inputs.exam or exam_file_of(inputs.files, settings.eval_file)
    if exam_file and len(found := expand([exam_file])) > 1:
        raise UsageError(
            f"--eval_file {exam_file}: {len(found)} files fit this pattern.",
            f"Give one of them, such as {found[0]}.",
        )
    return check_records(train, read_records([exam_file], settings) if exam_file else None)


def split_checked(check: Check, fraction: float, seed: int) -> Split:
    """Split checked data into training, validation and exam; near duplicates stay together."""
    return split_examples(
        check.train.examples,
        check.exam.examples if check.exam else None,
        fraction,
        seed,
        check.links,
    )


def check_records(train: Records, exam: Records | None) -> Check:
    """Check every example of both files; the findings of the reader come first."""
    files = [records for records in (train, exam) if records]
    findings = [finding for records in files for finding in records.findings]
    findings += [
        finding
        for records in files
        for example in records.examples
        for finding in _text_findings(example)
    ]
    duplicates, links = _duplicates(train.examples)
    findings += duplicates
    findings += _conflicts(train.examples)
    for records in files:
        findings += cut_answers(records.examples, length_units())
    findings += _tags(train.examples)
    findings += _balance(train.examples)
    if exam:
        findings += _duplicates(exam.examples)[0]
        findings += _overlap(exam.examples, train.examples)
    return Check(train, exam, tuple(findings), tuple(links))


def content(example: Example) -> tuple[object, ...]:
    """Return all that is trained, by which duplicates are compared; not the tag or the group."""
    asked = example.tools, example.earlier, example.instruction, example.input
    return *asked, example.answer, example.weight


def whole_text(example: Example) -> str:
    """Return all that a model reads of an example, one part per line."""
    earlier = (turn.text for turn in example.earlier)
    return "\n".join([*earlier, example.instruction, example.input, example.answer])


def _at(example: Example, kind: Kind, detail: str) -> Finding:
    return Finding(kind, detail, example.path, example.line, example.column)


def _text_findings(example: Example) -> Iterator[Finding]:
    yield from character_findings(example)
    yield from content_findings(example)
    yield from templated_findings(example)
    if example.answer and normalized(example.answer) == normalized(example.instruction):
        yield _at(example, Kind.ANSWER_IS_PROMPT, "the answer is the same as the prompt")
    if example.answer != example.answer.strip() and not example.is_plain_text:
        yield _at(example, Kind.OUTER_SPACE, "the answer has leading or trailing whitespace")


def _duplicates(examples: Sequence[Example]) -> tuple[list[Finding], list[tuple[int, int]]]:
    """Find exact duplicates, and near ones by `near_duplicates`; each refers to an earlier example.

    A near duplicate is reported once, with the example most similar to it, and linked to all
    examples it is near.
    """
    first: dict[tuple[object, ...], int] = {}
    findings: list[Finding] = []
    links: list[tuple[int, int]] = []
    single: list[int] = []
    for index, example in enumerate(examples):
        if (earlier := first.setdefault(content(example), index)) == index:
            single.append(index)
            continue
        links.append((earlier, index))
        where = examples[earlier].where
        is_instance = where == example.where
        detail = "one of its instances occurs twice" if is_instance else f"same as {where}"
        findings.append(_at(example, Kind.EXACT_DUPLICATE, detail))
    reported = -1
    for match in near_duplicates([whole_text(examples[index]) for index in single]):
        earlier, index = single[match.first], single[match.second]
        links.append((earlier, index))
        if index == reported:
            continue
        reported = index
        where = examples[earlier].where
        detail = (
            f"differs from {where} only in case, whitespace or punctuation"
            if match.similarity >= 1
            else f"nearly the same as {where}"
        )
        findings.append(_at(examples[index], Kind.NEAR_DUPLICATE, detail))
    return findings, links


def _conflicts(examples: Sequence[Example]) -> Iterator[Finding]:
    """Find examples with the prompt of an earlier one but another answer; plain texts have none."""
    answered: dict[str, dict[str, Example]] = {}
    for example in examples:
        if example.is_plain_text:
            continue
        answers = answered.setdefault(question_key(example), {})
        key = normalized(example.answer)
        if answers and key not in answers:
            earlier = next(iter(answers.values()))
            detail = f"same prompt as {earlier.where}, different answer"
            yield _at(example, Kind.CONFLICTING_ANSWERS, detail)
        answers.setdefault(key, example)


def _overlap(exam: Sequence[Example], train: Sequence[Example]) -> list[Finding]:
    """Find exam examples whose question (or nearly that) or group is in the training data."""
    trained: dict[str, Example] = {}
    groups: dict[str, Example] = {}
    for example in train:
        for key in question_keys(example):
            trained.setdefault(key, example)
        if example.group:
            groups.setdefault(example.group, example)
    findings: list[Finding] = []
    new: list[Example] = []
    for example in exam:
        if same := next(filter(None, map(trained.get, question_keys(example))), None):
            detail = f"same question as {same.where}"
            findings.append(_at(example, Kind.OVERLAP, detail))
        elif same := groups.get(example.group):
            detail = f"group {quoted(example.group)} is also in the training data, at {same.where}"
            findings.append(_at(example, Kind.OVERLAP, detail))
        else:
            new.append(example)
    if not new:
        by_group = any(question_key(example) not in trained for example in exam)
        what = "question or its group" if by_group else "question"
        detail = f"every {what} is also in the training data, so the exam measures nothing new"
        return [
            Finding(Kind.OVERLAP, detail, path) for path in dict.fromkeys(it.path for it in exam)
        ]
    distinct = list({id(it): it for it in trained.values()}.values())
    for match in near_matches(
        [_question(example) for example in new], [_question(example) for example in distinct]
    ):
        detail = f"nearly the same question as {distinct[match.second].where}"
        findings.append(_at(new[match.first], Kind.NEAR_OVERLAP, detail))
    return findings


def _question(example: Example) -> str:
    """Return the text that the exam asks; a plain text is its own question."""
    if example.is_plain_text:
        return example.answer
    return "\n".join([*(turn.text for turn in example.earlier), example.instruction, example.input])


def _tags(examples: Sequence[Example]) -> Iterator[Finding]:
    counts = tag_counts(examples)
    first = {example.tag: example for example in reversed(examples)}
    seen: dict[str, str] = {}
    for tag, count in counts.items():
        if count < RARE:
            records = "only 1 record has" if count == 1 else f"only {count} records have"
            yield _at(first[tag], Kind.RARE_TAG, f"{records} the tag {quoted(tag)}")
        other = seen.setdefault(normalized(tag), tag)
        if other != tag:
            detail = f"tags {quoted(other)} and {quoted(tag)} look the same"
            yield _at(first[tag], Kind.SIMILAR_TAGS, detail)


def tag_counts(examples: Sequence[Example]) -> dict[str, int]:
    """Count examples by tag, in the order of the file; those without a tag are left out."""
    return dict(Counter(example.tag for example in examples if example.tag))


def answer_classes(examples: Sequence[Example]) -> dict[str, int]:
    """Count examples by answer, most frequent first; empty unless the answers are a few classes."""
    counts = _answers(examples)
    return dict(counts.most_common()) if 1 < len(counts) <= MOST_CLASSES else {}


def _answers(examples: Sequence[Example]) -> Counter[str]:
    """Count examples by answer; empty where there are too few to judge their balance."""
    counts = Counter(example.answer for example in examples if not example.is_plain_text)
    return counts if counts.total() >= FEWEST_FOR_BALANCE else Counter()


def _balance(examples: Sequence[Example]) -> Iterator[Finding]:
    counts = _answers(examples)
    for answer, count in counts.most_common(1):
        if count > UNBALANCED_SHARE * counts.total():
            first = next(example for example in examples if example.answer == answer)
            detail = f"{count:,} of {counts.total():,} answers are {quoted(answer)}"
            yield _at(first, Kind.UNBALANCED, detail)
            return
    yield from repeated_answer(examples)
