"""Specification of the Python API: the examples of its guide run as they are printed."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest

import finetuning_exam

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "api.md"
PLACES = ("key", "lamp", "ladder", "kettle", "drill", "globe", "map", "rope", "saw", "tent")


def _write(name: str, places: tuple[str, ...]) -> None:
    lines = [
        json.dumps(
            {"instruction": f"Where is the {place} number {n}?", "output": f"On shelf {n} {place}."}
        )
        for n, place in enumerate(places, 1)
    ]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of docs/guide/api.md gives what it prints: it checks, trains three steps, takes
    an exam, compares and streams.
    """
    monkeypatch.chdir(tmp_path)
    _write("faq.jsonl", (*PLACES, *PLACES, *PLACES[:4]))
    _write("faq_exam.jsonl", PLACES[:4])
    test = doctest.DocTestParser().get_doctest(
        GUIDE.read_text(encoding="utf-8"), {}, "api.md", str(GUIDE), 0
    )
    assert len(test.examples) > 20
    report: list[str] = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_public_name_is_there() -> None:
    """What the package lists can be imported from it, and nothing else is invented."""
    for name in finetuning_exam.__all__:
        assert getattr(finetuning_exam, name).__name__ == name
    assert set(finetuning_exam.__all__) <= set(dir(finetuning_exam))
    with pytest.raises(AttributeError, match="has no attribute 'tune'"):
        finetuning_exam.tune  # noqa: B018 - the access is what is tested


def test_importing_the_package_imports_next_to_nothing() -> None:
    """The import loads no other module of the package, and nothing but the standard library."""
    code = (
        "import sys; before = set(sys.modules); import finetuning_exam; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [it for it in loaded if it.split(".")[0] not in sys.stdlib_module_names] == [
        "finetuning_exam"
    ]
    assert len(loaded) < 10
