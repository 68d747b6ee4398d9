"""One small project that all tests of crashes disturb, and commands in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from children import Project, make_project
from fault_commands import Said
from tiny import Models, rows, write_rows


@pytest.fixture(scope="session")
def project(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Sixty rows, and the run of twelve steps that nobody disturbs."""
    folder = tmp_path_factory.mktemp("faults")
    data = write_rows(folder / "rows.jsonl", rows(60))
    return make_project(folder, models.folder(), data)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs commands and keeps what they say."""
    return Said(capsys)
