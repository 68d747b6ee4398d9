"""Specification of reading a Hub dataset as raw records; no network is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import datasets
import pytest

from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.errors import DataError, UsageError

FORM = "Write hub:owner/name or hub:owner/name:split."


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The arguments the library was called with; it returns two records."""
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[object, ...]] = []

    def load(*args: object, **settings: object) -> list[dict[str, object]]:
        calls.append((*args, settings))
        return [{"b": "y", "a": "x"}, {"a": None, "b": "z"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UsageError) as caught:
        read_file("hub:o/n")
    return str(caught.value)


def test_records_are_numbered_and_hashed(asked: list[tuple[object, ...]]) -> None:
    """The train split is read unless another is given; no code of the dataset is trusted."""
    read = read_file("hub:o/n")
    assert asked == [("o/n", {"split": "train"})]
    assert read.container == "hub dataset"
    assert read.records == (
        RawRecord(1, 0, {"a": "x", "b": "y"}),
        RawRecord(2, 0, {"a": None, "b": "z"}),
    )
    dump = "".join(json.dumps(row.value, sort_keys=True) + "\n" for row in read.records)
    assert read.sha256 == hashlib.sha256(dump.encode()).hexdigest()
    read_file("hub:o/n-1.x:test[:10%]")
    assert asked[1] == ("o/n-1.x", {"split": "test[:10%]"})


@pytest.mark.parametrize(
    "spec", ["hub:", "hub:n", "hub:o/n:", "hub:o/n/m", "hub:../n", "hub:/n", "hub:o/n:a b"]
)
def test_a_malformed_name_is_refused(spec: str, asked: list[tuple[object, ...]]) -> None:
    """Only an owner, a dataset and at most a split are passed to the library."""
    with pytest.raises(UsageError) as caught:
        read_file(spec)
    assert str(caught.value) == f"{spec} is not a valid name of a Hub dataset. {FORM}"
    assert asked == []


def test_a_folder_of_the_same_name_is_never_read(asked: list[tuple[object, ...]]) -> None:
    """Datasets would read a local folder o/n instead of o/n on the Hub; that is refused."""
    Path("o/n").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"^hub:o/n: a local file or folder named o/n shadows the Hub dataset"
    ):
        read_file("hub:o/n")
    assert asked == []


def test_offline_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, the error says so and how to get the dataset."""
    hint = (
        "Load it once while online (without HF_HUB_OFFLINE), or download its file and give "
        "that file's path."
    )
    assert _fail_with(monkeypatch, ValueError("no cache\nmore")) == (
        f"hub:o/n cannot be loaded: HF_HUB_OFFLINE is set. {hint}"
    )
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert _fail_with(monkeypatch, ConnectionError()) == (
        f"hub:o/n cannot be loaded: the Hub is unreachable. {hint}"
    )


def test_any_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception of the library becomes one line."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert _fail_with(monkeypatch, KeyError("gone")) == (
        "hub:o/n cannot be loaded: unexpected KeyError. "
        "Check its name, its splits and whether it requires a login on the Hugging Face Hub."
    )


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            ValueError("Unknown split \"dev\". Should be one of ['train', 'test']."),
            "hub:o/n has no split 'train'. Name one of its splits (train, test).",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found n.py"),
            "hub:o/n cannot be loaded: it needs code of its own, which is never run. "
            "Download its data as a file and give that file's path.",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'o/n' doesn't exist on the Hub"),
            "hub:o/n cannot be loaded: no such dataset, or it requires a login. "
            "Check its name, its splits and whether it requires a login on the Hugging Face Hub.",
        ),
    ],
)
def test_a_known_failure_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, what: str
) -> None:
    """A missing split or dataset, and a dataset that is a program, are described in our words."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert _fail_with(monkeypatch, error) == what


def test_an_empty_split_has_no_records(
    asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty split is an empty file."""
    assert asked == []
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [])
    with pytest.raises(DataError, match=r"^hub:o/n: no records found\."):
        read_file("hub:o/n")
