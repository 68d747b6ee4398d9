"""Specification of plain text files: a text for each paragraph, and a note that says so."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from read_files import AUTO, CHAT, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("folder")

PROSE = b"A tree is a plant.\nIt grows.\n\n \nA bush, too.\n"


def _read(content: bytes, name: str = "d.txt") -> Records:
    return read_records([write_content(content, name)], AUTO)


def _texts(found: Records) -> list[tuple[int, str]]:
    return [(it.line, it.answer) for it in found.examples]


@pytest.mark.parametrize("name", ["d.txt", "D.TXT", "d.text", "d.md", "d.markdown", "d.txt.gz"])
@pytest.mark.parametrize("content", [PROSE, PROSE.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + PROSE])
def test_each_paragraph_is_a_text(name: str, content: bytes) -> None:
    """Blank lines separate them; a note says that all of it is trained."""
    stored = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    found = _read(stored, name)
    assert [it.container for it in found.sources] == ["text file"]
    assert _texts(found) == [(1, "A tree is a plant.\nIt grows."), (5, "A bush, too.")]
    assert all(it.is_plain_text for it in found.examples)
    assert texts_of(found.findings) == [
        f"{name}: each of its 2 paragraphs (what blank lines separate) is read as a text of its "
        "own, and all of it is trained."
    ]


def test_a_file_of_one_paragraph_is_one_text() -> None:
    """The note says so, so that a file of one text per line is not taken for many."""
    found = _read(b"A tree.\nA bush.")
    assert _texts(found) == [(1, "A tree.\nA bush.")]
    assert "its text is read as a text of its own" in texts_of(found.findings)[0]


MARKDOWN = {
    "a heading": ("# Trees\n\nThey grow.\n\nFast.\n", ["# Trees\n\nThey grow.", "Fast."]),
    "headings": ("# A\n\n## B\n\ntext\n", ["# A\n\n## B\n\ntext"]),
    "a block of code": ("Do:\n```py\na\n\nb\n```\n\nDone.", ["Do:\n```py\na\n\nb\n```", "Done."]),
    "another fence": ("~~~\na\n\n```\n\n~~~\n\nDone.", ["~~~\na\n\n```\n\n~~~", "Done."]),
    "an open fence": ("```\na\n\nb\n\n", ["```\na\n\nb"]),
    "a last heading": ("text\n\n# A\n\n", ["text", "# A"]),
}


@pytest.mark.parametrize(("text", "texts"), MARKDOWN.values(), ids=MARKDOWN)
def test_markdown_keeps_together_what_belongs_together(text: str, texts: list[str]) -> None:
    """A heading stays with what follows, and a block of code is whole."""
    assert [it for _, it in _texts(_read(text.encode(), "d.md"))] == texts


@pytest.mark.parametrize(
    "start", [b"[1] A tree is a plant.", b"{curly} text", b"[INST] Hi [/INST]"]
)
def test_a_bracket_does_not_make_text_json(start: bytes) -> None:
    """It is JSON only if it begins as an object or a list does."""
    assert len(_read(start).examples) == 1


@pytest.mark.parametrize("content", [CHAT, b"[" + CHAT.strip() + b"]", b"\n" + CHAT])
@pytest.mark.parametrize("name", ["d.txt", "d.md"])
def test_records_under_the_name_of_a_text_are_read(content: bytes, name: str) -> None:
    """What is in the file counts."""
    (example,) = _read(content, name).examples
    assert (example.instruction, example.answer) == ("e", "f")


def test_a_paragraph_that_is_not_utf8_is_named() -> None:
    """At its line; the others are read."""
    found = _read(b"A tree.\n\nA caf\xe9\nhere.\n\nA bush.\n")
    assert [it for _, it in _texts(found)] == ["A tree.", "A bush."]
    (finding,) = [it for it in found.findings if it.kind is Kind.NOT_UTF8]
    assert str(finding) == "d.txt:3: not valid UTF-8 (0xe9 at byte 6)."


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_a_text_file_without_text_has_no_records(content: bytes) -> None:
    """It is the error of any such file."""
    with pytest.raises(DataError, match="no records found"):
        _read(content)


PIECES = st.sampled_from(["\n", "\n\n", "a", "# b", "```", "~~~", " ", "\r\n", "{", "[", "é", "\t"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(["d.txt", "d.md"]))
def test_no_text_is_lost(text: str, name: str) -> None:
    """Every line with something in it is in exactly one text, in order."""
    said = ""
    try:
        found = _read(text.encode(), name)
    except (UsageError, DataError) as error:
        said = str(error)
    if said or found.sources[0].container != "text file":
        return
    lines = [it.rstrip("\r") for it in text.split("\n")]
    read = [line for _, it in _texts(found) for line in it.split("\n")]
    assert [it for it in read if it.strip()] == [it for it in lines if it.strip()]
