"""Specification of the findings about the examples of a training and an exam file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning_exam.data.check import (
    Check,
    answer_classes,
    check_files,
    check_records,
    tag_counts,
    whole_text,
)
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import overlap, split_examples
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CheckSettings

QUESTIONS = (
    "Which command lists every file in the folder?",
    "How do I see the last ten commits of this branch?",
    "What stops a running container by its name?",
    "Where does the cluster keep its secrets?",
    "Why would somebody rebase instead of merging?",
    "When is it safe to delete the old image?",
)


def _row(
    line: int,
    instruction: str,
    answer: str = "",
    *,
    input: str = "",
    tag: str = "",
    earlier: tuple[Turn, ...] = (),
) -> Example:
    answer = answer or f"Answer {line}."
    return Example(instruction, answer, line, "t", input=input, tag=tag, earlier=earlier)


def _check(train: Sequence[Example], exam: Sequence[Example] | None = None) -> Check:
    exam_records = None if exam is None else Records((), tuple(exam), ())
    return check_records(Records((), tuple(train), ()), exam_records)


def _found(
    train: Sequence[Example], exam: Sequence[Example] | None = None
) -> list[tuple[Kind, str]]:
    """Return each finding as its kind and its line."""
    return [(it.kind, str(it)) for it in _check(train, exam).findings]


SOUND = tuple(_row(line, question) for line, question in enumerate(QUESTIONS, start=1))


def test_valid_examples_have_no_findings() -> None:
    """Different questions with different answers have no findings, nor does a different exam."""
    check = _check(SOUND[:4], SOUND[4:])
    assert (check.findings, check.links) == ((), ())


# Duplicates


def test_an_exact_duplicate_names_the_first() -> None:
    """Each duplicate is reported with the first of them, and linked to it for the split."""
    rows = (*SOUND, _row(7, QUESTIONS[1], "Answer 2."), _row(8, QUESTIONS[1], "Answer 2."))
    check = _check(rows)
    assert [(it.kind, str(it)) for it in check.findings] == [
        (Kind.EXACT_DUPLICATE, "t:7: same as t:2."),
        (Kind.EXACT_DUPLICATE, "t:8: same as t:2."),
    ]
    assert check.links == ((1, 6), (1, 7))


@pytest.mark.parametrize(
    "other",
    [
        _row(2, "q", "a", input="i"),
        _row(2, "q", "a", earlier=(Turn("system", "s"),)),
        _row(2, "q", "A"),
        _row(2, "Q", "a"),
        _row(2, "q ", "a"),
    ],
)
def test_different_examples_are_not_exact_duplicates(other: Example) -> None:
    """Question, input, answer and earlier turns must be the same, letter by letter."""
    assert Kind.EXACT_DUPLICATE not in [kind for kind, _ in _found([_row(1, "q", "a"), other])]


def test_tag_and_group_do_not_matter() -> None:
    """Examples that differ only in what is not trained are duplicates."""
    pair = [replace(_row(1, "q", "a", tag="x"), group="g"), _row(2, "q", "a", tag="y")]
    assert (Kind.EXACT_DUPLICATE, "t:2: same as t:1.") in _found(pair)


def test_a_repeated_instance_is_reported_without_a_place() -> None:
    """Several examples of one record share one place, which would be no help."""
    rows = [_row(1, "q", "a", input=part) for part in ("one", "one", "two")]
    assert _found(rows) == [
        (Kind.EXACT_DUPLICATE, "t:1: one of its instances occurs twice."),
    ]


def test_a_near_duplicate_names_an_earlier_one() -> None:
    """It is reported with its similarity, and linked; an exact duplicate of either is not compared
    again.
    """
    first = _row(1, "Which command lists every file in this folder, hidden ones too?", "Use ls -a.")
    nearly = _row(
        2, "Which command lists every file in this folder, hidden ones also?", first.answer
    )
    case = _row(3, first.instruction.upper(), first.answer)
    copy = replace(first, line=9)
    check = _check([first, copy, nearly, case, copy])
    near = [str(it) for it in check.findings if it.kind is Kind.NEAR_DUPLICATE]
    assert near == [
        "t:2: nearly the same as t:1.",
        "t:3: differs from t:1 only in case, whitespace or punctuation.",
    ]
    assert set(check.links) == {(0, 1), (0, 2), (0, 3), (0, 4)}


def test_near_duplicates_of_one_record_stay_together() -> None:
    """An example near two others is reported once, with the nearer one, and linked to both, so that
    a split keeps all three together.
    """
    asked = "Which command lists every single file in this folder, hidden ones of others too?"
    one, two = asked.replace("Which command", "What"), asked.replace("others too", "mine")
    rows = [_row(1, one, "ls -a."), _row(2, two, "ls -a."), _row(3, asked, "ls -a.")]
    assert _check(rows[:2]).links == ()
    check = _check(rows)
    assert sorted(check.links) == [(0, 2), (1, 2)]
    best = check.links[0][0] + 1
    assert [str(it) for it in check.findings] == [f"t:3: nearly the same as t:{best}."]
    for seed in range(10):
        others = [_row(line, f"Other {line}", f"Answer {line}.") for line in range(4, 40)]
        split = split_examples([*rows, *others], None, 0.2, seed, check.links)
        assert {len(set(rows) & set(part)) for part in (split.train, split.exam)} == {0, 3}


def test_duplicates_of_the_exam_are_reported_but_not_linked() -> None:
    """The exam file is checked too; only training examples are linked."""
    check = _check(SOUND, [_row(11, "Who?", "I."), _row(12, "Who?", "I.")])
    assert [str(it) for it in check.findings] == ["t:12: same as t:11."]
    assert check.links == ()


@pytest.mark.timeout(60)
def test_many_duplicates_take_linear_time() -> None:
    """A hundred thousand copies of a record and as many tags are checked in seconds."""
    rows = [_row(line, "q?", "a", tag=f"tag {line}") for line in range(1, 100_001)]
    kinds = [it.kind for it in _check(rows).findings]
    assert kinds.count(Kind.EXACT_DUPLICATE) == 99_999
    assert kinds.count(Kind.RARE_TAG) == 100_000


# One prompt with several answers


def test_another_answer_to_a_prompt_names_the_first() -> None:
    """Each new answer is reported once, with the first example of the prompt."""
    rows = [
        _row(1, "Is it on?", "Yes."),
        _row(2, "is it  on", "No."),
        _row(3, "Is it on?", "No"),
        _row(4, "Is it on?", "Perhaps."),
    ]
    conflicts = [message for kind, message in _found(rows) if kind is Kind.CONFLICTING_ANSWERS]
    assert conflicts == [
        "t:2: same prompt as t:1, different answer.",
        "t:4: same prompt as t:1, different answer.",
    ]


@pytest.mark.parametrize(
    "other",
    [
        _row(2, "Is it on?", "YES"),
        _row(2, "Is it ON?", "No."),
        _row(2, "Is it on ?", "No."),
        _row(2, "Is it on?", "No.", input="the lamp"),
        _row(2, "Is it on?", "No.", earlier=(Turn("system", "Be brief."),)),
    ],
)
def test_the_same_answer_or_another_prompt_is_not_a_conflict(other: Example) -> None:
    """Case and a final mark do not make another answer; case after the first letter, an input or a
    system turn make another prompt.
    """
    kinds = [kind for kind, _ in _found([_row(1, "Is it on?", "Yes."), other])]
    assert Kind.CONFLICTING_ANSWERS not in kinds


def test_plain_texts_have_no_prompt() -> None:
    """Plain texts do not conflict as answers to one empty question."""
    assert _found([_row(1, "", "Once upon a time."), _row(2, "", "The end of it all.")]) == []


# The exam


def test_a_trained_question_is_reported() -> None:
    """An exam question in the training file is reported with its first place there."""
    train = (*SOUND[:5], _row(7, QUESTIONS[0], "Another."))
    exam = [Example(QUESTIONS[0].rstrip("?"), "x", 1, "e"), replace(SOUND[5], path="e")]
    messages = [message for kind, message in _found(train, exam) if kind is Kind.OVERLAP]
    assert messages == ["e:1: same question as t:1."]


def test_a_trained_question_in_another_format_is_reported() -> None:
    """Instruction and input as one turn of a conversation are the same question."""
    train = [*SOUND[:5], _row(7, "Sort these numbers.", input="3 1 2")]
    exam = [Example("Sort these numbers.\n\n3 1 2", "x", 1, "e"), replace(SOUND[5], path="e")]
    assert _found(train, exam) == [(Kind.OVERLAP, "e:1: same question as t:7.")]


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        ("What does ls -a do?", "What does ls -A do?"),
        ("cd ..", "cd ."),
        ("Explain: git add .", "Explain: git add"),
        ("Compute x²", "Compute x2"),
    ],
)
def test_a_difference_in_form_may_be_another_question(trained: str, asked: str) -> None:
    """A question that differs in case, marks or Unicode form is reported as nearly trained, stays
    in the exam, and may have another answer.
    """
    exam = [Example(asked, "x", 1, "e")]
    assert _found([*SOUND, _row(7, trained)], exam) == [
        (Kind.NEAR_OVERLAP, "e:1: nearly the same question as t:7.")
    ]
    assert overlap(exam, [_row(7, trained)]) == ()
    kinds = [kind for kind, _ in _found([_row(1, trained, "One."), _row(2, asked, "Two.")])]
    assert Kind.CONFLICTING_ANSWERS not in kinds


def test_a_trained_group_is_reported() -> None:
    """An exam example of a group of the training file is reported, whatever its question."""
    train = [replace(row, group="g1" if row.line > 1 else "") for row in SOUND[:4]]
    exam = [
        replace(row, path="e", group=group)
        for row, group in zip(SOUND[4:], ["g1", "g2"], strict=True)
    ]
    assert _found(train, exam) == [
        (Kind.OVERLAP, "e:5: group 'g1' is also in the training data, at t:2.")
    ]


def test_an_exam_of_trained_questions_is_reported_once() -> None:
    """If every question, or its group, is trained on, each exam file has one finding."""
    train = [replace(row, group="g") for row in SOUND[:4]]
    same = [replace(row, path="e") for row in SOUND[:3]]
    detail = "is also in the training data, so the exam measures nothing new."
    assert _found(train, same) == [(Kind.OVERLAP, f"e: every question {detail}")]
    group = replace(SOUND[5], path="e", group="g")
    assert _found(train, [*same, group]) == [
        (Kind.OVERLAP, f"e: every question or its group {detail}")
    ]


def test_a_nearly_trained_question_is_reported() -> None:
    """A similar question has another kind of finding; the answers do not matter."""
    asked = "Which command lists every file in this folder, hidden ones too?"
    exam = [Example(asked.replace("too", "also"), "Something else.", 1, "e")]
    assert _found([_row(1, asked), *SOUND[1:]], exam) == [
        (Kind.NEAR_OVERLAP, "e:1: nearly the same question as t:1.")
    ]


def test_conflicts_tags_and_balance_are_of_the_training_file() -> None:
    """The exam is not trained on: its tags and answers have no findings."""
    exam = [_row(11, "Who are you?", "A.", tag="one"), _row(12, "Who are you?", "B.", tag="One")]
    assert Kind.CONFLICTING_ANSWERS not in [kind for kind, _ in _found(SOUND, exam)]
    assert Kind.RARE_TAG not in [kind for kind, _ in _found(SOUND, exam)]


# Texts


def test_texts_of_both_files_are_checked() -> None:
    """Unintended characters, answers that repeat the prompt and outer whitespace are reported."""
    train = [_row(1, "Say hi.", "say  HI"), _row(2, "How are you?", " Fine\n")]
    exam = [Example("Where\u200b?", "Here.", 1, "e")]
    assert _found(train, exam) == [
        (Kind.ANSWER_IS_PROMPT, "t:1: the answer is the same as the prompt."),
        (Kind.OUTER_SPACE, "t:2: the answer has leading or trailing whitespace."),
        (
            Kind.INVISIBLE_CHARACTER,
            "e:1: the prompt contains U+200B (zero width space) at character 6.",
        ),
    ]


def test_whitespace_around_a_plain_text_is_not_reported() -> None:
    """A plain text may end with a line feed."""
    assert _found([_row(1, "", "Once upon a time.\n")]) == []


def test_the_whole_text_has_all_parts() -> None:
    """Earlier turns, question, input and answer, in this order."""
    row = _row(1, "q", "a", input="i", earlier=(Turn("user", "u"), Turn("assistant", "b")))
    assert whole_text(row) == "u\nb\nq\ni\na"


# Tags and classes


def _tagged(counts: dict[str, int]) -> list[Example]:
    """Return examples with these tags, of different questions."""
    words = ("cat", "dog", "cow", "hen", "owl", "bee", "ant", "fox", "bat", "elk")
    tags = [tag for tag, count in counts.items() for _ in range(count)]
    return [
        _row(n, f"{words[n % 10]} {words[n // 10]}", f"{words[n // 10]}!", tag=tag)
        for n, tag in enumerate(tags)
    ]


@pytest.mark.parametrize(
    ("count", "message"), [(1, "only 1 record has"), (4, "only 4 records have")]
)
def test_a_rare_tag_is_reported_at_its_first_record(count: int, message: str) -> None:
    """A tag with fewer than five records is reported with their number."""
    assert (Kind.RARE_TAG, f"t:5: {message} the tag 'few'.") in _found(
        _tagged({"many": 5, "few": count})
    )


def test_five_records_are_enough_for_a_tag() -> None:
    """A tag with five records has no finding, nor has a record without a tag."""
    assert _found(_tagged({"many": 5, "": 1})) == []


def test_similar_tags_are_reported() -> None:
    """Tags that differ only in case or whitespace are reported at the later one's first record."""
    rows = _tagged({"Shell": 5, "git": 5, "shell ": 5})
    assert _found(rows) == [
        (Kind.SIMILAR_TAGS, "t:10: tags 'Shell' and 'shell ' look the same."),
    ]


def test_tags_are_counted_in_the_order_of_the_file() -> None:
    """Each tag has its number of records; records without one are left out."""
    assert list(tag_counts(_tagged({"b": 2, "": 3, "a": 4})).items()) == [("b", 2), ("a", 4)]


def _answered(counts: dict[str, int]) -> list[Example]:
    answers = [answer for answer, count in counts.items() for _ in range(count)]
    return [_row(n, f"Question {n}?", answer) for n, answer in enumerate(answers, start=1)]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"no": 5, "yes": 46}, "t:6: 46 of 51 answers are 'yes'."),
        ({"no": 5, "yes": 45}, None),
        ({"no": 1, "yes": 48}, None),
        ({"yes": 1000}, "t:1: 1,000 of 1,000 answers are 'yes'."),
        ({"x" * 1000: 50}, f"t:1: 50 of 50 answers are '{'x' * 40}…'."),
        ({"yes": 950} | {str(n): 1 for n in range(50)}, "t:1: 950 of 1,000 answers are 'yes'."),
    ],
)
def test_a_dominant_answer_is_reported(counts: dict[str, int], message: str | None) -> None:
    """From fifty answers on, one with a share of more than nine tenths is reported at its first
    record.
    """
    found = [it for kind, it in _found(_answered(counts)) if kind is Kind.UNBALANCED]
    assert found == ([] if message is None else [message])


@pytest.mark.parametrize(
    ("counts", "classes"),
    [
        ({"no": 10, "yes": 40}, {"yes": 40, "no": 10}),
        ({"no": 10, "yes": 39}, {}),
        ({"yes": 60}, {}),
        ({str(n): 3 for n in range(20)}, {str(n): 3 for n in range(20)}),
        ({str(n): 3 for n in range(21)}, {}),
    ],
)
def test_a_few_answers_are_classes(counts: dict[str, int], classes: dict[str, int]) -> None:
    """From fifty answers on, two to twenty distinct ones are classes, the most frequent first."""
    assert list(answer_classes(_answered(counts)).items()) == list(classes.items())


def test_plain_texts_are_not_classes() -> None:
    """Plain texts are not answers, and do not count next to answers either."""
    texts = [_row(n, "", "Again and again.") for n in range(100)]
    assert answer_classes(texts) == {}
    assert Kind.UNBALANCED not in [kind for kind, _ in _found(texts)]
    mixed = [*texts, *_answered({"yes": 60})]
    assert any(kind is Kind.UNBALANCED for kind, _ in _found(mixed))


# Files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write train.jsonl and exam.jsonl with one faulty and one valid record each."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "exam"):
        record = json.dumps({"instruction": f"What is {name}ing?", "output": "Work."})
        Path(f"{name}.jsonl").write_text(f"{record}\nx\n", encoding="utf-8")
    return tmp_path


def test_training_and_exam_file_are_read(files: Path) -> None:
    """The exam file is found by its name; the findings of the reader come first."""
    check = check_files(CheckSettings(data=("train.jsonl",)))
    assert check.exam is not None
    assert [it.where for it in check.findings] == ["train.jsonl:2", "exam.jsonl:2"]
    assert [it.path for it in check.exam.examples] == ["exam.jsonl"]


def test_the_exam_file_of_the_flag_is_read(files: Path) -> None:
    """`--eval_file` names another file; a missing one is an error."""
    check = check_files(CheckSettings(data=("exam.jsonl",), eval_file="train.jsonl"))
    assert check.exam is not None
    assert check.exam.path == "train.jsonl"
    with pytest.raises(UsageError, match=r"^gone: no such file\."):
        check_files(CheckSettings(data=("train.jsonl",), eval_file="gone"))


def test_a_file_under_another_name_has_no_exam(files: Path) -> None:
    """Without an exam file the result has none."""
    assert check_files(CheckSettings(data=("exam.jsonl",))).exam is None


def test_duplicates_are_found_across_files(files: Path) -> None:
    """Several training files are one: a record of the second may repeat one of the first."""
    Path("more.csv").write_text("instruction,output\nWhat is training?,Work.\n", encoding="utf-8")
    check = check_files(CheckSettings(data=("train.jsonl", "more.csv")))
    assert "more.csv:2: same as train.jsonl:1." in [str(it) for it in check.findings]
