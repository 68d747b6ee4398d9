"""Tiny tuned models, and exports of them in this process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from exports import Exports
from tiny import Models


@pytest.fixture(scope="session")
def exports(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Exports adapters of noise on tiny random models."""
    return Exports(models, tmp_path_factory.mktemp("exports"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Libraries warn of what they will rename."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def llama_cpp() -> None:
    """Skip a test where llama.cpp cannot be run."""
    for package in ("gguf", "xllamacpp"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (the extra export)")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder to export to."""
    return tmp_path / "out"
