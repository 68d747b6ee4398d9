"""Specification of `fte export`: what is refused before any work, and what lies in the folder."""

from __future__ import annotations

import shutil
from importlib.util import find_spec as real_find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from exports import Exports
from tiny import rows, write_rows

from finetuning_exam.api import export as api
from finetuning_exam.cli import run_command
from finetuning_exam.durable import leftovers, manifest_faults, read_json
from finetuning_exam.errors import DiskError, ModelError, UsageError


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no format was given. Formats: merged, gguf, gguf-adapter, ollama."),
        (["merge", "out"], "merge: no such format. Did you mean merged?"),
        (["gguf"], "no folder was given. Write fte export gguf OUT, where OUT is a new folder."),
        (["gguf", "a", "b"], "unexpected argument 'b'."),
        (["merged", "out", "--outtype", "f16"], "Give --dtype for a merged folder."),
        (["gguf", "out", "--dtype", "float16"], "Give --outtype for a GGUF file."),
        (["gguf", "out", "--outtype", "f64"], "expected auto, f32, bf16, f16 or q8_0, got 'f64'."),
        (
            ["gguf", "out", "--outtype", "Q4_K_M"],
            "llama-quantize OUT/model-f16.gguf OUT/model-q4_k_m.gguf Q4_K_M",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong format, folder or number format is answered with what is right, and code 2."""
    assert run_command("export", words) == 2
    assert line in capsys.readouterr().err


def test_nothing_but_an_export_is_overwritten(exports: Exports, out: Path) -> None:
    """A folder with other files is refused even with --overwrite, an export without it."""
    base = exports.base()
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no export"):
            exports.export(base, "merged", out, verify=False, overwrite=overwrite)
    assert [it.name for it in out.iterdir()] == ["notes.txt"]
    (out / "notes.txt").unlink()
    exports.export(base, "merged", out, verify=False)
    before = read_json(out / "manifest.json")
    with pytest.raises(UsageError, match=r"holds an export\. Give another folder"):
        exports.export(base, "merged", out, verify=False)
    exports.export(base, "merged", out, verify=False, dtype="bfloat16", overwrite=True)
    assert read_json(out / "manifest.json") != before
    assert manifest_faults(out, ("export.json",)) == ()


@pytest.mark.parametrize("place", ["adapter", "base", "file"])
def test_inputs_are_not_overwritten(place: str, exports: Exports, tmp_path: Path) -> None:
    """The adapter, its base and any file are refused as OUT."""
    base = exports.base()
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    places = {"adapter": exports.adapter(base), "base": base, "file": file}
    with pytest.raises(UsageError):
        exports.export(base, "merged", places[place], verify=False, overwrite=True)


def test_a_full_disk_is_noticed_before_writing(
    exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the export is compared with the free space before anything is written."""

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000))
    with pytest.raises(DiskError, match=r"the export takes 0\.1 GB, and 0\.0 GB are free"):
        exports.export(exports.base(), "merged", out, verify=False)
    assert not out.exists()


def test_an_export_that_fails_leaves_nothing(
    exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while writing leaves no part of an export, and an earlier one as it was."""
    from finetuning_exam.exporting import formats

    base = exports.base()
    exports.export(base, "merged", out, verify=False)

    def fail(*more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "write_merged_folder", fail)
    with pytest.raises(DiskError, match="no space left"):
        exports.export(base, "merged", out, verify=False, overwrite=True)
    assert manifest_faults(out, ("model.safetensors",)) == ()
    assert leftovers(out.parent) == ()


@pytest.mark.parametrize(
    ("missing", "verify", "line"),
    [
        ("gguf", True, "pip install gguf"),
        ("gguf", False, "pip install gguf"),
        (
            "xllamacpp",
            True,
            "cannot be verified.*pip install xllamacpp. Or export with --no_verify",
        ),
    ],
)
def test_a_missing_package_is_named(
    missing: str,
    verify: bool,
    line: str,
    exports: Exports,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message says what cannot be done without the package, and how to install it."""

    def find_spec(name: str) -> object:
        return None if name == missing else real_find_spec("json")

    monkeypatch.setattr(api, "find_spec", find_spec)
    with pytest.raises(ModelError, match=line):
        exports.export(exports.base(), "gguf", out, verify=verify)


def test_without_questions_nothing_can_be_verified(exports: Exports, out: Path) -> None:
    """An adapter without an exam needs --eval_file or --no_verify, which the message says."""
    with pytest.raises(UsageError, match="Give some with --eval_file FILE, or export with"):
        exports.export(exports.base(), "merged", out, eval_file=None)


def test_as_many_questions_are_asked_as_wanted(exports: Exports, out: Path, tmp_path: Path) -> None:
    """They are spread over the file."""
    file = write_rows(tmp_path / "many.jsonl", rows(20))
    made = exports.export(exports.base(), "merged", out, eval_file=str(file), verify_examples=7)
    assert made.exported.verification is not None
    assert made.exported.verification.n_questions == 7
