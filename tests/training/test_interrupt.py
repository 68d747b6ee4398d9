"""The first signal is recorded; the second stops the process immediately."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from finetuning_exam.errors import ModelError
from finetuning_exam.training.interrupt import (
    SIGNALS,
    Interrupts,
    Terminated,
    interrupts_raised,
    interrupts_uncovered,
    signals_raised,
)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_the_first_is_recorded_and_the_second_raises(
    number: signal.Signals, error: type[BaseException]
) -> None:
    """The first signal is kept and reported once; afterwards the old handlers are restored."""
    before = signal.getsignal(number)
    reports: list[str] = []
    with Interrupts(lambda: reports.append("stopping")) as interrupts:
        received = interrupts.received
        assert received is None
        os.kill(os.getpid(), number)
        assert (interrupts.received, reports) == (number, ["stopping"])
        with pytest.raises(error):
            os.kill(os.getpid(), number)
        assert reports == ["stopping"]
    assert signal.getsignal(number) is before


@pytest.fixture
def exit_codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes with which the process would have ended; the handlers are restored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(atexit, "register", lambda _: None)  # pytest's own exit stays as it is
    yield codes
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_first_raises_and_the_second_ends_the_process(
    number: signal.Signals, second: signal.Signals, exit_codes: list[int]
) -> None:
    """Both signals raise once; after that the process leaves, even while it is cleaning up."""
    ends: list[str] = []
    with pytest.raises(KeyboardInterrupt), signals_raised(lambda: ends.append("cursor")):
        os.kill(os.getpid(), number)
    assert (exit_codes, ends) == ([], [])
    os.kill(os.getpid(), second)
    assert (exit_codes, ends) == ([128 + second], ["cursor"])


def test_the_second_of_a_training_goes_to_the_handler_before(exit_codes: list[int]) -> None:
    """In a command, the first is recorded, the second raises, the third ends the process."""
    with signals_raised(), Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    assert exit_codes == [130]


SIGNALLED_IN_SHUTDOWN = """
import os, signal
from finetuning_exam.training.interrupt import signals_raised

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT):
        kill(pid, number)

late = Late()
code = 0
try:
    with signals_raised():
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    code = 130
raise SystemExit(code)
"""


def test_a_signal_during_the_shutdown_of_python_keeps_the_exit_code() -> None:
    """The run has ended and said so; a Ctrl-C that comes later changes nothing."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED_IN_SHUTDOWN], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_handlers_are_restored_where_no_signal_came(exit_codes: list[int]) -> None:
    """Work that ends, or fails for another reason, leaves the handlers as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with signals_raised():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    with pytest.raises(ValueError, match="mine"), signals_raised():
        raise ValueError("mine")
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_an_answer_that_is_stopped_does_not_end_the_process(exit_codes: list[int]) -> None:
    """Where Ctrl-C ends a part of the work, the next one is the first again."""
    with signals_raised():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), interrupts_raised():
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert exit_codes == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize("is_cause", [True, False])
def test_a_signal_that_a_library_turned_into_an_error_is_a_signal(
    kind: type[KeyboardInterrupt], is_cause: bool
) -> None:
    """An import that is interrupted is reported as a missing module, whose cause is the signal."""

    def library() -> None:
        try:
            raise kind("hint")
        except KeyboardInterrupt as error:
            raise ModuleNotFoundError("Could not import") from (error if is_cause else None)

    @interrupts_uncovered()
    def load() -> None:
        try:
            library()
        except ModuleNotFoundError as error:
            raise ModelError("config.json does not describe a model.", "Copy it.") from error

    with pytest.raises(kind, match="hint"):
        load()


def test_another_error_stays_itself() -> None:
    """An error that no signal is behind passes, with its causes."""

    @interrupts_uncovered()
    def load() -> None:
        try:
            raise OSError("gone")
        except OSError as error:
            raise ModelError("damaged", "Copy it.") from error

    with pytest.raises(ModelError, match="damaged"):
        load()


def test_another_thread_leaves_the_handlers_alone() -> None:
    """Only the main thread may set handlers; other threads set none and do not fail."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts, signals_raised():
            seen.extend([interrupts.received, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before]
