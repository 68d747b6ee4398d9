"""A small project that the crash tests disturb, and commands in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from children import Project, make_project
from fault_commands import Said
from tiny import Models, rows, write_rows


@pytest.fixture(scope="session")
def project(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return sixty rows and an undisturbed run of twelve steps."""
    folder = tmp_path_factory.mktemp("faults")
    data = write_rows(folder / "rows.jsonl", rows(60))
    return make_project(folder, models.folder(), data)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, so that paths in messages are bare names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Return an object that runs commands and captures their output."""
    return Said(capsys)
