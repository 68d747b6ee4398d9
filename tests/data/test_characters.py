"""Specification of the search for unintended characters."""

from __future__ import annotations

import pytest

from finetuning_exam.data.characters import character_findings
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn


def _found(text: str) -> list[tuple[Kind, str]]:
    example = Example(instruction="What?", answer=text, line=7, path="a.jsonl")
    return [(finding.kind, finding.detail) for finding in character_findings(example)]


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        ("ring\x07", Kind.CONTROL_CHARACTER, "the answer contains U+0007 at character 5"),
        ("\x1b[31mred", Kind.CONTROL_CHARACTER, "the answer contains U+001B at character 1"),
        ("nul \x00", Kind.CONTROL_CHARACTER, "the answer contains U+0000 at character 5"),
        ("one\r\ntwo\r\n", Kind.CARRIAGE_RETURN, "the answer contains U+000D at character 4"),
        ("one\rtwo", Kind.CARRIAGE_RETURN, "the answer contains U+000D at character 4"),
        ("é\r", Kind.CARRIAGE_RETURN, "the answer contains U+000D at character 2"),
        ("a\u202eb", Kind.BIDI_CONTROL, "(right-to-left override) at character 2"),
        ("a\u2066b", Kind.BIDI_CONTROL, "(left-to-right isolate) at character 2"),
        ("a\u200bb", Kind.INVISIBLE_CHARACTER, "(zero width space) at character 2"),
        ("\ufeffa", Kind.INVISIBLE_CHARACTER, "(zero width no-break space) at character 1"),
        ("a\u00adb", Kind.INVISIBLE_CHARACTER, "(soft hyphen) at character 2"),
        ("a\U000e0041", Kind.INVISIBLE_CHARACTER, "(tag latin capital letter a) at character 2"),
        ("lost \ufffd", Kind.REPLACEMENT_CHARACTER, "(replacement character) at character 6"),
        ("cafÃ©", Kind.MOJIBAKE, "the answer contains 'Ã©', which should be 'é'"),
        ("itâ€™s", Kind.MOJIBAKE, "the answer contains 'â€™', which should be '’'"),
        ("Ð¿Ñ€", Kind.MOJIBAKE, "the answer contains 'Ð¿', which should be 'п'"),
        ("fine ðŸ˜€", Kind.MOJIBAKE, "which should be '😀'"),
    ],
)
def test_each_kind_is_named_with_its_character_and_place(
    text: str, kind: Kind, detail: str
) -> None:
    """An unintended character is found once, with its code point, name and position."""
    ((found, message),) = _found(text)
    assert found is kind
    assert message.endswith(detail)


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII\twith tabs\nand lines",
        "Ceci n’est pas « une pipe » à 5 €",
        "ÄÖÜ ß São Paulo AÇÃO CAFÉ»",
        "مرحبا \u200fبالعالم\u200e",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧 e\u0301",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "日本語 ไทย Привет",
    ],
)
def test_text_of_every_language_is_left_alone(text: str) -> None:
    """Letters, marks, joiners and emoji of real languages are not findings."""
    assert _found(text) == []


def test_every_text_of_an_example_is_checked() -> None:
    """Findings name the prompt, the input, the answer or the earlier turn."""
    example = Example(
        instruction="a\x07",
        input="b\x07",
        answer="c\x07",
        earlier=(Turn("system", "d\x07"), Turn("user", "e\x07"), Turn("assistant", "f\x07")),
        line=1,
        path="a.jsonl",
    )
    names = [finding.detail.partition(" contains")[0] for finding in character_findings(example)]
    assert names == [
        "the system turn",
        "an earlier question",
        "an earlier answer",
        "the prompt",
        "the input",
        "the answer",
    ]


def test_a_kind_is_reported_once_per_text() -> None:
    """A text full of control characters is one finding, not hundreds."""
    assert len(_found("\x07" * 100)) == 1
