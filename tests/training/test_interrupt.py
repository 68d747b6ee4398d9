"""The first signal is recorded; the second stops the process immediately."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from finetuning_exam.training.interrupt import Interrupts, Terminated, termination_raised


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


def test_sigterm_raises_and_its_handler_is_restored() -> None:
    """SIGTERM raises an exception that is handled like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_raised():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_handlers_alone() -> None:
    """Only the main thread may set handlers; other threads set none and do not fail."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts, termination_raised():
            seen.extend([interrupts.received, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before]
