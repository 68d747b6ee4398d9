"""Fixtures that every test may use. Nothing here imports torch before a test asks for a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tiny import Models

# One commit gives one result: the same examples are drawn in every run. A search draws new ones.
# How long an example takes says nothing on a busy machine.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")
settings.register_profile(
    "fuzz", settings.get_profile("tests"), derandomize=False, max_examples=20_000
)
"""For a long search: `just fuzz`."""

# The models are tiny: a second thread would only wait, and `-n logical` needs the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Set before any library of the hub is imported: tests use no network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Folders of tiny random models, each made once in a test session."""
    from tiny import Models

    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' caches, in processes that they start too, apart from the user's."""
    os.environ["FTE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
