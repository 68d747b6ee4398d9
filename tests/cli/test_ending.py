"""Specification of how a command ends: full devices, closed pipes, signals and the cursor."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import LEAN, Models, rows, write_rows

from finetuning_exam.cli.ending import CLOSED_OUTPUT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and terminals of Linux"),
    pytest.mark.timeout(300),
]
FTE = [sys.executable, "-m", "finetuning_exam"]
OUTPUTS = {
    "overview": ["--help"],
    "nothing": [],
    "version": ["--version"],
    "help of check": ["check", "--help"],
    "help of train": ["train", "--help"],
    "check": ["check", "d.jsonl"],
    "check as JSON": ["check", "d.jsonl", "--json"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder with data."""
    monkeypatch.chdir(tmp_path)
    write_rows(Path("d.jsonl"), rows(40))


@pytest.fixture(params=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """An environment in which Python writes at once, or only when it must."""
    others = {name: it for name, it in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return others | ({"PYTHONUNBUFFERED": "1"} if request.param == "unbuffered" else {})


def _run(
    arguments: list[str], environment: dict[str, str], output: int
) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is the file with this descriptor."""
    return subprocess.run(
        [*FTE, *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS)
def test_a_full_device_is_one_line(arguments: list[str], environment: dict[str, str]) -> None:
    """Output that cannot be written ends in one line and the exit code of a full disk."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = _run(arguments, environment, full.fileno())
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("fte")
    assert line.endswith("No space left on device.")


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS)
def test_a_closed_pipe_is_one_line(arguments: list[str], environment: dict[str, str]) -> None:
    """A reader that is gone ends the command with one line and the code of a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    done = _run(arguments, environment, writer)
    os.close(writer)
    assert done.returncode == CLOSED_OUTPUT
    (line,) = done.stderr.splitlines()
    assert line.endswith(": stopped, because standard output was closed.")


@pytest.mark.parametrize("redirection", [">&-", "2>/dev/full", "2>&-", ">&- 2>&-"])
def test_an_error_without_a_place_to_show_it_keeps_its_code(redirection: str) -> None:
    """Where standard error cannot be written to, the exit code still tells."""
    command = f"{shlex.join(FTE)} check gone.jsonl {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr


Terminal = Callable[[list[str], bytes, list[int]], tuple[int, str]]


@pytest.fixture
def in_terminal() -> Terminal:
    """Run a command in a terminal, send signals once it has shown some text; its code and text."""

    def run(command: list[str], until: bytes, signals: list[int]) -> tuple[int, str]:
        child, screen = pty.fork()
        if child == 0:
            outside_uv = {key: it for key, it in os.environ.items() if not key.startswith("UV_")}
            os.execvpe(command[0], command, {**outside_uv, "COLUMNS": "100", "TERM": "xterm"})
        shown = b""
        waiting = list(signals)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            ready, _, _ = select.select([screen], [], [], 0.1)
            try:
                piece = os.read(screen, 1 << 16) if ready else None
            except OSError:  # the child has closed its end
                break
            if piece == b"":
                break
            shown += piece or b""
            if waiting and until in shown:
                os.kill(child, waiting.pop(0))
        _, status = os.waitpid(child, 0)
        os.close(screen)
        return os.waitstatus_to_exitcode(status), shown.decode("utf-8", "replace")

    return run


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda it: signal.Signals(it).name)
@pytest.mark.parametrize("until", [b"loading the model", b"estimating"])
def test_a_run_stopped_before_its_first_checkpoint_can_be_started_again(
    in_terminal: Terminal, models: Models, until: bytes, number: int
) -> None:
    """The last line is the command as it was typed, which works; the cursor is shown again."""
    quick = ["--max_steps", "2", "--answered_examples", "0", "--device", "cpu", *LEAN]
    typed = ["train", "d.jsonl", "--output_dir", "it's mine", "--overwrite_output_dir", *quick]
    typed += ["--model", str(models.folder())]
    code, shown = in_terminal([*FTE, *typed], until, [number])
    assert code == SIGNALS[signal.Signals(number)]
    assert "Traceback" not in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > -1
    again = f"python -m finetuning_exam {shlex.join(typed)}"
    assert _last_line(shown) == (
        f"fte train: stopped. Nothing was saved yet. To start again: {again}"
    )
    words = [sys.executable, *shlex.split(again)[1:]]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert (Path("it's mine") / "exam.json").is_file()


@pytest.mark.parametrize("n_signals", [2, 3, 5])
@pytest.mark.parametrize("until", [b"loading the model", b"starting"])
def test_more_signals_are_no_traceback(
    in_terminal: Terminal, models: Models, until: bytes, n_signals: int
) -> None:
    """However often Ctrl-C is pressed, the run ends with the cursor and without a traceback."""
    typed = ["train", "d.jsonl", "--model", str(models.folder()), "--device", "cpu"]
    code, shown = in_terminal([*FTE, *typed], until, [signal.SIGINT] * n_signals)
    assert code == 130
    assert "Traceback" not in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > -1


def test_a_check_that_is_stopped_shows_the_cursor(in_terminal: Terminal) -> None:
    """`fte check` hides the cursor while it reads, and shows it however it ends."""
    write_rows(Path("d.jsonl"), rows(20_000))
    code, shown = in_terminal([*FTE, "check", "d.jsonl"], b"reading the data", [signal.SIGINT])
    assert code in (130, -signal.SIGINT)
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > -1
    assert _last_line(shown) == "fte check: stopped."


def _last_line(shown: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    return plain.strip().splitlines()[-1]
