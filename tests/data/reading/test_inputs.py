"""Specification of paths that stand for files: folders, patterns and standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from read_files import ALPACA, AUTO, CHAT, QA

from finetuning_exam.data.check import Check, check_files
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading import stdin
from finetuning_exam.data.reading.hub import absolute_path
from finetuning_exam.data.reading.inputs import find_inputs
from finetuning_exam.data.reading.read import read_records
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import CheckSettings

pytestmark = pytest.mark.usefixtures("folder")


def _make(*names: str, folder: str = "data") -> None:
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CHAT)


def _found(*names: str) -> tuple[list[str], str | None, str]:
    _make(*names)
    inputs = find_inputs(["data"], with_exam=True)
    exam = os.path.basename(inputs.exam) if inputs.exam else None
    return [os.path.basename(it) for it in inputs.files], exam, inputs.notes[0].detail


FOLDERS: dict[str, tuple[list[str], list[str], str | None]] = {
    "train alone": (["train.jsonl"], ["train.jsonl"], None),
    "train and test": (["test.csv", "train.csv"], ["train.csv"], "test.csv"),
    "all three": (["test.json", "train.json", "validation.json"], ["train.json"], "test.json"),
    "validation": (["train.json", "validation.json"], ["train.json"], "validation.json"),
    "eval": (["eval.jsonl", "train.jsonl"], ["train.jsonl"], "eval.jsonl"),
    "exam first": (["exam.jsonl", "test.jsonl", "train.jsonl"], ["train.jsonl"], "exam.jsonl"),
    "no train": (["a.jsonl", "b.csv"], ["a.jsonl", "b.csv"], None),
    "no train, but test": (["a.jsonl", "test.jsonl"], ["a.jsonl"], "test.jsonl"),
    "test alone": (["test.jsonl"], ["test.jsonl"], None),
    "others beside train": (["more.jsonl", "train.jsonl"], ["train.jsonl"], None),
    "parts": (
        ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"],
        ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"],
        "test-00000-of-00001.jsonl",
    ),
    "compressed": (["train.jsonl.gz", "val.jsonl.zst"], ["train.jsonl.gz"], "val.jsonl.zst"),
    "capitals": (["Train.JSONL", "Test.JSONL"], ["Train.JSONL"], "Test.JSONL"),
    "documents": (["README.md", "LICENSE.txt", "dataset_info.json", "a.jsonl"], ["a.jsonl"], None),
    "hidden files": ([".train.jsonl", "._a.jsonl", "a.jsonl"], ["a.jsonl"], None),
    "texts": (["a.txt", "b.md", "README.md"], ["a.txt", "b.md"], None),
    "records before texts": (["a.txt", "b.jsonl"], ["b.jsonl"], None),
    "a last word": (["x_exam.csv", "x_train.csv"], ["x_train.csv"], "x_exam.csv"),
    "a first word": (["test-set.json", "train_v2.json"], ["train_v2.json"], "test-set.json"),
    "a word inside": (
        ["my_test_notes.json", "latest.json"],
        ["latest.json", "my_test_notes.json"],
        None,
    ),
    "a trainer's file": (["trainer_log.jsonl", "train.jsonl"], ["train.jsonl"], None),
}


@pytest.mark.parametrize(("names", "train", "exam"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_stands_for_its_files(
    names: list[str], train: list[str], exam: str | None
) -> None:
    """`train.*` is trained, else all data files; the exam is a held-out file; a note says so."""
    files, found, said = _found(*names)
    assert (files, found) == (train, exam)
    assert all(repr(name) in said for name in train)
    assert (f"and the exam is {exam!r}" in said) == (exam is not None)


def test_what_a_folder_has_besides_is_named() -> None:
    """No data file is passed over in silence, and the line is short whatever there is."""
    _make("train.jsonl", "test.jsonl", "dev.jsonl", "notes.csv")
    said = "the training data is 'train.jsonl', and the exam is 'test.jsonl'"
    notes = find_inputs(["data"], with_exam=True).notes
    assert [str(it) for it in notes] == [
        f"data: {said}.",
        f"{os.path.join('data', 'dev.jsonl')}: it is not used: {said}.",
        f"{os.path.join('data', 'notes.csv')}: it is not used: {said}.",
    ]
    _make(*(f"part{it}.jsonl" for it in range(9)), folder="many")
    (note,) = find_inputs(["many"], with_exam=True).notes
    assert note.detail.endswith("'part4.jsonl' and 4 more")


def test_an_exam_file_that_is_given_counts() -> None:
    """Then the folder's own is named as not used; several folders have none, either."""
    _make("train.jsonl", "test.jsonl")
    inputs = find_inputs(["data"], with_exam=False)
    assert inputs.exam is None
    assert [it.path for it in inputs.notes[1:]] == [os.path.join("data", "test.jsonl")]
    _make("train.jsonl", "test.jsonl", folder="more")
    both = find_inputs(["data", "more"], with_exam=True)
    assert both.exam is None
    assert both.files == (os.path.join("data", "train.jsonl"), os.path.join("more", "train.jsonl"))


def _check(**changes: object) -> Check:
    return check_files(CheckSettings(**changes))  # type: ignore[arg-type]


def test_a_folder_is_checked_with_its_exam() -> None:
    """The files are read as if they had been given one by one."""
    Path("data").mkdir()
    Path("data/train.jsonl").write_bytes(ALPACA)
    Path("data/test.jsonl").write_bytes(QA)
    checked = _check(data=("data",))
    assert [it.instruction for it in checked.train.examples] == ["a"]
    assert checked.exam
    assert [it.instruction for it in checked.exam.examples] == ["c"]
    assert [it.kind for it in checked.findings] == [Kind.FOUND_FILES]


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["train.csv", "train.jsonl"], "data has several training files: 'train.csv', 'train.jso"),
        (["train.jsonl", "train-1.jsonl"], "data has several training files:"),
        (["notes.pdf"], "data is a folder without data files. Give the path of a data file"),
        (["in/train.jsonl"], "Its subfolders are not looked into: give data/in."),
        (["data-0.arrow", "state.json"], "datasets.load_from_disk('data').to_json("),
    ],
)
def test_a_folder_that_is_not_clear_is_told(names: list[str], what: str) -> None:
    """Nothing is guessed, and the hint names the way on."""
    _make(*names)
    with pytest.raises(UsageError) as caught:
        find_inputs(["data"], with_exam=True)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "n_files"),
    [("data/*.jsonl", 2), ("data/?.jsonl", 2), ("data/[ab].*", 3), ("**/*.csv", 1), ("*.md", 0)],
)
def test_a_pattern_stands_for_the_files_that_fit(pattern: str, n_files: int) -> None:
    """Sorted; a pattern that nothing fits is an error."""
    _make("a.jsonl", "b.jsonl", "b.csv")
    Path("data/b.csv").write_bytes(b"question,answer\nc,d\n")
    if n_files:
        found = read_records([pattern], AUTO)
        assert len(found.sources) == n_files
        assert [it.path for it in found.sources] == sorted(it.path for it in found.sources)
    else:
        with pytest.raises(UsageError, match=r"no file fits this pattern"):
            read_records([pattern], AUTO)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    """What exists is no pattern."""
    Path("d[1].jsonl").write_bytes(CHAT)
    Path("d1.jsonl").write_bytes(ALPACA)
    assert [it.path for it in read_records(["d[1].jsonl"], AUTO).sources] == ["d[1].jsonl"]


def test_an_exam_file_is_one_file() -> None:
    """A pattern that several files fit is refused."""
    _make("a.jsonl", "b.jsonl", "train.jsonl")
    with pytest.raises(UsageError, match=r"--eval_file data/\?.jsonl: 2 files fit this pattern"):
        _check(data=("data/train.jsonl",), eval_file="data/?.jsonl")
    checked = _check(data=("data/train.jsonl",), eval_file="data/a*")
    assert checked.exam
    assert checked.exam.path == os.path.join("data", "a.jsonl")


class _Input(io.TextIOWrapper):
    """Standard input with a content."""

    def __init__(self, content: bytes, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def unread() -> Iterator[None]:
    """Let each test read a standard input of its own."""
    stdin.spooled.cache_clear()
    yield
    stdin.spooled.cache_clear()


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("content", [CHAT, b"[" + CHAT.strip() + b"]", b"\n\n" + CHAT])
def test_a_dash_is_standard_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once, named <stdin>, and a note says that a repetition needs it again."""
    monkeypatch.setattr(sys, "stdin", _Input(content))
    for _ in range(2):
        found = read_records(["-"], AUTO)
        assert [it.where.rstrip("0123456789") for it in found.examples] == ["<stdin>:"]
        assert [str(it) for it in found.findings] == [
            "<stdin>: the data is not kept; to resume or repeat a run, pipe the same data again."
        ]
    assert absolute_path(found.path) == "<stdin>"


TABLES = {
    "CSV": b'instruction,output\nWhat is it?,"A plant,\nor two"\nWhy?,So.\n',
    "TSV": b"instruction\toutput\r\nWhat is it?\tA plant,\r\n",
    "CSV with semicolons": b"sep=;\ninstruction;output\nWhat is it?;A plant,\n",
    "CSV with vertical bars": b"\xef\xbb\xbfid|instruction|output\n7|What is it?|A plant,",
}


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("container", TABLES)
def test_a_table_can_be_piped(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input has no name that says so; its first lines do."""
    monkeypatch.setattr(sys, "stdin", _Input(TABLES[container]))
    found = read_records(["-"], AUTO)
    assert found.sources[0].container == container
    first = found.examples[0]
    assert (first.instruction, first.answer[:8]) == ("What is it?", "A plant,")
    assert first.where == f"<stdin>:{3 if b'sep=' in TABLES[container] else 2}"


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    "content",
    [b"instruction,output\n", b"Once, upon a time\nthere was.\n", b"a\nb\nc\n", b"a,a\nb,c\nd,e\n"],
)
def test_what_is_piped_and_is_no_table_is_told(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint says what a piped table looks like; it has no name that could end in .csv."""
    monkeypatch.setattr(sys, "stdin", _Input(content))
    try:
        said = " ".join(map(str, read_records(["-"], AUTO).findings))
    except (UsageError, DataError) as error:
        said = str(error)
    assert "not valid JSON" in said or "none of its" in said
    assert ".csv" not in said
    assert ("as many cells in each line below" in said) == (content.count(b"\n") > 1)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("given", "what"),
    [
        (None, "standard input is closed."),
        (_Input(CHAT, is_terminal=True), "standard input is a terminal, not data."),
    ],
)
def test_standard_input_without_data_is_told(
    given: object, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command does not wait for somebody to type records."""
    monkeypatch.setattr(sys, "stdin", given)
    with pytest.raises(UsageError) as caught:
        read_records(["-"], AUTO)
    assert str(caught.value).startswith(what)
    assert "cat FILE | fte check -" in str(caught.value)


@pytest.mark.usefixtures("unread")
def test_the_name_of_standard_input_is_no_path() -> None:
    """It stands for data only in the command that was given a dash."""
    with pytest.raises(UsageError, match=r"<stdin>: no such file"):
        read_records(["<stdin>"], AUTO)


def test_data_can_be_piped_into_a_check() -> None:
    """The command itself reads it, and leaves no file behind."""
    code = "import sys; from finetuning_exam.cli import main; sys.exit(main(['check', '-']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=CHAT,
        capture_output=True,
        check=True,
        env={**os.environ, "TMPDIR": str(Path.cwd())},
    )
    assert b"<stdin>: 1 record (JSON lines, messages (role, content))" in done.stdout
    assert not list(Path().glob("fte-stdin-*"))
