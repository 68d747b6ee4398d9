"""Specification of the findings about what a text contains: escapes, entities, placeholders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuning_exam.data.check import check_files, check_records
from finetuning_exam.data.contents import content_findings
from finetuning_exam.data.findings import errors
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.settings import CheckSettings


def _found(
    answer: str, instruction: str = "Describe it.", input: str = ""
) -> list[tuple[Kind, str]]:
    example = Example(instruction, answer, 7, "t", input=input)
    return [(it.kind, str(it)) for it in content_findings(example)]


def _kinds(answer: str, instruction: str = "Describe it.") -> set[Kind]:
    return {kind for kind, _ in _found(answer, instruction)}


# Escapes


@pytest.mark.parametrize(
    "text",
    [
        "First line.\nSecond line.",
        "Steps:\n1. Mix.\n2. Bake it.",
        "One paragraph.\n\nAnother one",
        "the first line\nthe second line",
        "Name\tAge\tCity",
        "It says: done.\r\nThen it stops.",
        "**Title**\n\n- a point\n- another",
        'He said "stop" and left.',
        "A café on the corner",
        "It’s late",
        "Red \n2. Green",
        "数える。\n次の行。",
    ],
)
def test_text_that_was_escaped_twice_is_found(text: str) -> None:
    """A text that went through json.dumps once too often is found, in answers and prompts."""
    twice = json.dumps(text)[1:-1]
    assert twice != text
    assert _kinds(twice) == _kinds("So it is.", twice) == {Kind.ESCAPED_TEXT}
    assert _kinds(text) == set()


def test_an_escape_is_named_with_its_place() -> None:
    """The finding names the text, the escape, and the character at which it begins."""
    assert _found("Mix it.\\nBake it.") == [
        (Kind.ESCAPED_TEXT, "t:7: the answer contains \\n as characters, at character 8.")
    ]


@pytest.mark.parametrize(
    "text",
    [
        r'Use print("a\nb") to print two lines.',
        r"printf 'one\ntwo\n'",
        r"It splits at `\n` and at `\t`.",
        r"It replaces \n with a blank.",
        r"Lines end with \r\n on Windows.",
        r"The separator is \t.",
        r"A line matches \w+\n\d*.",
        r"grep -P '^\t' notes.txt",
        r"Open C:\new\table.txt first.",
        r"The files are in D:\notes and in D:\temp",
        r"cd src\new",
        r"The value is $\nabla f \times \theta$.",
        r"It holds that 3\times 4 \neq 13",
        r"M\"uller and K\"onig wrote it",
        "for x in y:\n    print('\\n')\n",
        'sed "s/,/\\n/g"',
        r'echo -e "a\tb" | cut -f 2',
        r"curl -d '{\"a\": 1}' localhost",
        r"\n",
    ],
)
def test_code_and_paths_keep_their_backslashes(text: str) -> None:
    """In code, quotations, regular expressions, LaTeX and paths a backslash means itself."""
    assert _kinds(text) == _kinds("So it is.", text) == set()


# HTML entities


@pytest.mark.parametrize(
    "text",
    [
        "It&#39;s a &quot;test&quot;.",
        "Salt &amp; pepper",
        "a&nbsp;b",
        "First&lt;br&gt;second",
        "caf&eacute; &hellip;",
        "It&#x27;s late",
        "One line.<br>It&rsquo;s another.",
    ],
)
def test_entities_in_prose_are_found(text: str) -> None:
    """An entity in a prompt or an answer that is not about HTML is found once."""
    assert _kinds(text) == _kinds("So it is.", text) == {Kind.HTML_ENTITY}


def test_an_entity_is_named_with_its_place() -> None:
    """The finding names the first entity of the text."""
    assert _found("Salt &amp; pepper &amp; oil") == [
        (Kind.HTML_ENTITY, "t:7: the answer contains &amp; at character 6.")
    ]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How is a non-breaking space written in HTML?", "As &nbsp;."),
        ("Which entity stands for an ampersand?", "&amp;"),
        ("Write a page.", "<div>Salt &amp; pepper</div>"),
        ("What does &lt; mean in XML?", "It is a less-than sign."),
        ("What is written for a blank?", "It is written `&nbsp;`."),
        ("What runs two commands?", "make && make test; it stops at the first error"),
        ("What is AT&T?", "AT&T; a company"),
    ],
)
def test_entities_of_markup_are_meant(question: str, answer: str) -> None:
    """Where a record is about HTML or XML, or an entity is quoted as code, nothing is found."""
    assert _kinds(answer, question) == set()


# Missing values


@pytest.mark.parametrize(
    "answer",
    [
        "nan",
        "NaN",
        "None",
        "null",
        "NULL",
        "N/A",
        "n/a",
        "#N/A",
        "<NA>",
        "undefined",
        "NaT",
        " nan\n",
    ],
)
def test_a_missing_value_as_an_answer_is_found(answer: str) -> None:
    """What a table library writes for a missing value is suspicious as a whole answer."""
    assert _found(answer) == [(Kind.MISSING_VALUE, f"t:7: the answer is {answer.strip()!r}.")]


def test_a_missing_value_as_a_prompt_or_input_is_found() -> None:
    """A prompt or an input that is "nan" would be read by the model as this word."""
    assert _found("Yes.", "nan") == [(Kind.MISSING_VALUE, "t:7: the prompt is 'nan'.")]
    assert _found("Yes.", input="NaN") == [(Kind.MISSING_VALUE, "t:7: the input is 'NaN'.")]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Name the entities, or answer None.", "None"),
        ("What is typeof of a missing key: undefined or null?", "undefined"),
        ("Who ate it?", "Nan ate it."),
        ("What is it?", "None of them."),
        ("What does Nantes have?", "nantes"),
    ],
)
def test_a_word_that_is_asked_for_is_no_missing_value(question: str, answer: str) -> None:
    """A word that the prompt offers, or that is part of a sentence, is an answer."""
    assert _kinds(answer, question) == set()


# Placeholders


@pytest.mark.parametrize(
    "answer",
    [
        "<output>",
        "<your answer>",
        "{answer}",
        "{{ row.output }}",
        "${response}",
        "[insert answer here]",
        "[Your answer here]",
        "[TODO]",
        "TODO",
        "TODO: write this",
        "tbd",
        "TBD.",
        "To be added.",
        "...",
        "…",
        "xxx",
        "???",
        "placeholder",
        "Answer goes here",
        "Insert the answer here.",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor "
        "incididunt ut labore et dolore magna aliqua.",
    ],
)
def test_a_placeholder_as_an_answer_is_found(answer: str) -> None:
    """An answer that only holds the place of one is found."""
    assert _kinds(answer) == {Kind.PLACEHOLDER}
    talk = Example(
        "And?", "So it is.", 1, "t", earlier=(Turn("user", "a"), Turn("assistant", answer))
    )
    (finding,) = content_findings(talk)
    assert finding.detail.startswith("an earlier answer is ")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which HTML element shows a result?", "<output>"),
        ("Which tag holds a label?", "<label>"),
        ("Write 30 in Roman numerals.", "XXX"),
        ("Write a letter.", "Dear [Your Name], thank you."),
        ("What is a TODO?", "A TODO is a note about work that is left."),
        ("Which word marks it, TODO or DONE?", "TODO"),
        ("Give an empty dict.", "{}"),
        ("Give a list.", "[text, label]"),
        ("Give an object.", '{"answer": 5}'),
        ("Which method adds?", "__add__"),
        ("Which key confirms?", "[Enter]"),
        ("Where is the parent?", ".."),
        ("Name the variable.", "%PATH%"),
        ("Which unit is it?", "<unit>"),
    ],
)
def test_an_answer_that_looks_like_a_placeholder_is_meant(question: str, answer: str) -> None:
    """Tags, numerals, code and letters with a slot are answers."""
    assert _kinds(answer, question) == set()


# Empty texts


INVISIBLE = {
    "zero width space": "\u200b",
    "no-break space": "\u00a0",
    "byte-order mark": "\ufeff",
    "ideographic space": "\u3000",
    "control character": "\x07",
    "several": "\u2060 \ufeff\n\u200d",
    "braille blank": "\u2800",
    "Hangul filler": "\u3164",
}


@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE)
def test_a_text_of_invisible_characters_is_empty(tmp_path: Path, text: str) -> None:
    """An answer, a prompt or a turn in which nothing can be seen is an error, as an empty one."""
    sound = {"instruction": "What?", "output": "That."}
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]
    for name, records, kind in (
        ("a", [sound, {**sound, "output": text}], Kind.EMPTY_ANSWER),
        ("b", [sound, {**sound, "instruction": text}], Kind.EMPTY_PROMPT),
        ("c", [{"messages": turns}], Kind.EMPTY_ANSWER),
    ):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(f"{json.dumps(it)}\n" for it in records), encoding="utf-8")
        (error,) = errors(read_records([str(path)], CheckSettings()).findings)
        assert (error.kind, error.line) == (kind, len(records))


def test_the_invisible_character_is_named(tmp_path: Path) -> None:
    """The finding says which character it is, because it cannot be seen in the file."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "a", "output": "\u200b"}\n', encoding="utf-8")
    (error,) = errors(read_records([str(path)], CheckSettings()).findings)
    assert error.detail == "field 'output' contains only invisible characters (U+200B)"


@pytest.mark.parametrize("text", ["👩\u200d👧", "❤\ufe0f", "می\u200cخواهم", "a\u200b", "."])
def test_a_text_with_something_to_see_is_not_empty(tmp_path: Path, text: str) -> None:
    """Emoji and scripts that need joiners and selectors are texts."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"instruction": text, "output": text}) + "\n", encoding="utf-8")
    assert errors(read_records([str(path)], CheckSettings()).findings) == ()


def test_a_byte_order_mark_inside_is_found_in_prompt_and_answer() -> None:
    """U+FEFF within a text is an invisible character, in whichever text it is."""
    for example in (Example("a\ufeffb", "c", 1, "t"), Example("a", "c\ufeff", 1, "t")):
        found = check_records(Records((), (example,), ()), None).findings
        assert [it.kind for it in found] == [Kind.INVISIBLE_CHARACTER]


def test_the_example_data_has_no_such_finding() -> None:
    """The data that comes with the project has nothing of the kind."""
    root = Path(__file__).parents[2]
    settings = CheckSettings(data=(str(root / "train.jsonl"),), eval_file=str(root / "exam.jsonl"))
    new = {
        Kind.ESCAPED_TEXT,
        Kind.HTML_ENTITY,
        Kind.MISSING_VALUE,
        Kind.PLACEHOLDER,
        Kind.CUT_ANSWERS,
        Kind.REPEATED_ANSWER,
    }
    assert not new & {it.kind for it in check_files(settings).findings}
