"""One small project that all tests of crashes disturb."""

from __future__ import annotations

import pytest
from children import Project, make_project
from tiny import Models, rows, write_rows


@pytest.fixture(scope="session")
def project(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Sixty rows, and the run of twelve steps that nobody disturbs."""
    folder = tmp_path_factory.mktemp("faults")
    data = write_rows(folder / "rows.jsonl", rows(60))
    return make_project(folder, models.folder(), data)
