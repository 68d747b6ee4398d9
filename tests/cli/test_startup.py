"""Specification of what a command sets before heavy libraries are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.cli.startup import LIBRARIES_MAP, SPIN_COUNT, prepare_process


def test_the_users_own_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the user has set stay, but telemetry is off whatever is set."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    prepare_process(COMMANDS["train"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": SPIN_COUNT, "KMP_BLOCKTIME": "0"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "0"}),
        ({"KMP_BLOCKTIME": "9"}, {"GOMP_SPINCOUNT": SPIN_COUNT, "KMP_BLOCKTIME": "9"}),
        ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": None}),
    ],
    ids=["nothing", "GNU's", "LLVM's", "the standard's"],
)
def test_waiting_threads_sleep_soon(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: dict[str, str | None]
) -> None:
    """Spinning is bounded for whichever OpenMP torch brings; GNU's would rather obey its own
    variable than the standard's, so that is left alone if the user has set either.
    """
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    prepare_process(COMMANDS["train"])
    assert {name: os.environ.get(name) for name in expected} == expected


@pytest.mark.skipif(
    sys.platform != "linux" or find_spec("nvidia") is None, reason="needs torch's CUDA libraries"
)
@pytest.mark.parametrize(("command", "code"), [("train", 2), ("check", 0)])
def test_a_limit_on_addresses_below_the_libraries_is_an_error(command: str, code: int) -> None:
    """Under a `ulimit -v` in which the libraries hang or abort, the error comes at once; the check
    needs none of them.
    """
    from resource import RLIMIT_AS, setrlimit

    line = "import sys; from finetuning_exam.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", line, command, "train.jsonl"],
        preexec_fn=lambda: setrlimit(RLIMIT_AS, (LIBRARIES_MAP - 1,) * 2),
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert ("ulimit -v unlimited" in done.stderr) == (code == 2)
