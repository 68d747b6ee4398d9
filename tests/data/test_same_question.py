"""Specification of examples that ask the same question."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import normalized, overlap, prompt_key, question_key, split_examples


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("What is ls?", "what  is LS", True),
        ("What is ls?", "What is ls .", True),
        ("ﬁle", "file", True),
        ("Straße", "STRASSE", True),
        ("What is ls?", "What is cd?", False),
        ("a.b", "ab", False),
        ("?", "!", False),
    ],
)
def test_prompts_that_differ_in_form_only_are_the_same(
    left: str, right: str, is_same: bool
) -> None:
    """Unicode form, case, whitespace and a final mark do not make another question."""
    assert (normalized(left) == normalized(right)) is is_same


def test_the_same_instruction_on_another_input_is_another_question() -> None:
    """The keys of a prompt contain its input."""
    one, two = Example("Sort", "a", 1, "d"), Example("Sort", "a", 2, "d", input="3 1 2")
    assert prompt_key(one) != prompt_key(two)
    assert question_key(one) != question_key(two)


def test_a_question_in_another_format_is_the_same() -> None:
    """Instruction and input are joined as for a chat template, so a conversation that asks
    "instruction, empty line, input" has the same keys.
    """
    record = Example("Sort these.", "1 3", 1, "d", input="3 1")
    joined = Example("Sort these.\n\n3 1", "1 3", 1, "e")
    assert question(record) == question(joined)
    assert question_key(record) == question_key(joined)
    assert (
        prompt_key(record)
        == prompt_key(joined)
        == prompt_key(replace(record, instruction="sort These"))
    )
    assert overlap([joined], [record]) == (joined,)
    assert overlap([record], [joined]) == (record,)


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("What is ls?", " what\n is  ls", True),
        ("What is ls?", "What is ls.", True),
        ("café", "cafe\u0301", True),
        ("ls क्या है?", "ls क्या है", True),
        ("What does ls -a do?", "What does ls -A do?", False),
        ("What is ls?", "What is LS?", False),
        ("What is ls?", "What is ls??", False),
        ("cd ..", "cd .", False),
        ("git add .", "git add", False),
        ("chmod 7.", "chmod 7", False),
        ("x²", "x2", False),
        ("ﬁle", "file", False),
        ("", "?", False),
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_the_same_question_is_the_same_to_the_letter(
    left: str, right: str, is_same: bool, is_text: bool
) -> None:
    """Only whitespace, the first letter's case and one mark after the last letter may differ in the
    same question or plain text.
    """
    one, two = (
        Example("" if is_text else text, text if is_text else "x", 1, "d") for text in (left, right)
    )
    assert (question_key(one) == question_key(two)) is is_same
    assert bool(overlap([one], [two])) is is_same


SIMILAR = st.text(alphabet="aAßİﬁ².?! \n\u0301ि", max_size=6)


@settings(deadline=None, max_examples=300)
@given(
    text=SIMILAR, space=st.sampled_from([" ", "\n\n", "\t "]), mark=st.sampled_from(["", *".?!"])
)
def test_the_same_question_has_the_same_loose_key(text: str, space: str, mark: str) -> None:
    """Examples that are left out of an exam file would have been kept together in a split."""
    edited = text[:1].swapcase() + text[1:].replace(" ", space) + mark
    one, two = Example("q " + text, "", 1, "d"), Example("Q " + edited, "", 1, "d")
    bare, other = Example("", text, 1, "d"), Example("", edited, 1, "d")
    for left, right in ((one, two), (bare, other)):
        if question_key(left) == question_key(right):
            assert prompt_key(left) == prompt_key(right)


def test_plain_texts_are_not_one_question() -> None:
    """A plain text is its own key: equal texts are kept together, others are split freely."""
    rows = tuple(Example("", f"text {line // 2}", line, "d.txt") for line in range(100))
    split = split_examples(rows, None, 0.1, 42)
    assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)
    assert overlap(split.exam, split.train) == ()
    assert prompt_key(rows[0]) == prompt_key(rows[1]) != prompt_key(rows[2])
    assert prompt_key(Example("a", "b", 1, "d")) != prompt_key(Example("", "a", 1, "d"))


def test_a_question_after_another_conversation_is_another_question() -> None:
    """The key of a conversation contains every turn before the question, with its role."""
    turns = (Turn("user", "Hello!"), Turn("assistant", "Hi."))
    key = prompt_key(Example("And now?", "a", 1, "d", earlier=turns))
    assert key != prompt_key(Example("And now?", "a", 1, "d"))
    assert key != prompt_key(Example("And now?", "a", 1, "d", earlier=turns[:1]))
    system = (Turn("system", "Hello!"), turns[1])
    assert key != prompt_key(Example("And now?", "a", 1, "d", earlier=system))
    again = (Turn("user", "hello"), Turn("assistant", " hi"))
    assert key == prompt_key(Example("and NOW", "b", 2, "d", earlier=again))
