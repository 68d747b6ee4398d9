"""Specification of reading several files as one."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from read_files import ALPACA, AUTO, CHAT, QA, texts_of, write_content

from finetuning_exam.data.findings import errors
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading import hub
from finetuning_exam.data.reading.read import read_records
from finetuning_exam.errors import UsageError

pytestmark = pytest.mark.usefixtures("folder")


def test_several_files_are_read_as_one() -> None:
    """Files of different containers and layouts follow one another in the order given."""
    paths = [
        write_content(gzip.compress(CHAT, mtime=0), "c.gz"),
        write_content(b"question,answer\nc,d\n", "b.csv"),
        write_content(b"[" + ALPACA.strip() + b"]", "a.json"),
    ]
    records = read_records(paths, AUTO)
    assert [it.where for it in records.examples] == ["c.gz:1", "b.csv:2", "a.json:1"]
    assert [it.answer for it in records.examples] == ["f", "d", "b"]
    assert [(it.container, it.layout, it.n_records) for it in records.sources] == [
        ("JSON lines", "messages (role, content)", 1),
        ("CSV", "question → answer", 1),
        ("JSON array", "instruction → output", 1),
    ]
    assert records.path == "c.gz, b.csv, a.json"


def test_the_hash_of_files_is_of_their_bytes_and_order() -> None:
    """One file has its own SHA-256; several have that of all their hashes, in order."""
    one, two = write_content(ALPACA, "one"), write_content(QA, "two")
    hashes = [hashlib.sha256(content).hexdigest() for content in (ALPACA, QA)]
    assert read_records([one], AUTO).sha256 == hashes[0]
    assert [it.sha256 for it in read_records([one, two], AUTO).sources] == hashes
    both = read_records([one, two], AUTO).sha256
    assert both == hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert both != read_records([two, one], AUTO).sha256


def test_a_file_named_twice_is_read_once() -> None:
    """The same path twice, in any spelling, gives each record once, and a note says so."""
    records = read_records([write_content(ALPACA), "./d.jsonl", "d.jsonl"], AUTO)
    assert (len(records.examples), len(records.sources)) == (1, 1)
    assert texts_of(records.findings) == [
        "d.jsonl: the file is listed 3 times (also as './d.jsonl', 'd.jsonl') but read once."
    ]
    assert records.findings[0].kind is Kind.NAMED_TWICE


def test_faults_of_several_files_come_in_their_order() -> None:
    """Findings are reported file by file, each in order of its lines."""
    paths = [write_content(b"x\n" + ALPACA, "z"), write_content(ALPACA + b"x\ny\n", "a")]
    found = [it.where for it in read_records(paths, AUTO).findings]
    assert found == ["z:1", "a:2", "a:3"]


def test_one_unreadable_file_ends_the_reading() -> None:
    """Any file that cannot be read at all is an error."""
    with pytest.raises(UsageError, match=r"^gone: no such file\. "):
        read_records([write_content(ALPACA), "gone"], AUTO)


def test_no_file_is_an_error() -> None:
    """No file, as from an empty list in YAML, is an error and not an empty result."""
    with pytest.raises(UsageError, match=r"^No data file given\. "):
        read_records([], AUTO)


def test_a_hub_dataset_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub name can be given next to files; its records are numbered."""
    rows: list[dict[str, object]] = [{"question": "c", "answer": "d"}, {"question": "c"}]
    monkeypatch.setattr(hub, "_load", lambda name, split: rows)
    records = read_records(["hub:me/data:test", write_content(ALPACA)], AUTO)
    assert [it.where for it in records.examples] == ["hub:me/data:test:1", "d.jsonl:1"]
    assert errors(records.findings)[0].where == "hub:me/data:test:2"
    assert records.sources[0].container == "hub dataset"
