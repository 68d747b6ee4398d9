"""Specification of signals: the first is taken note of, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from finetuning_exam.training.interrupt import Interrupts, Terminated, termination_raised


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_the_first_is_noted_and_the_second_raises(
    number: signal.Signals, error: type[BaseException]
) -> None:
    """What came first is kept and told once; afterwards the handlers are those of before."""
    before = signal.getsignal(number)
    told: list[str] = []
    with Interrupts(lambda: told.append("stopping")) as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert (interrupts.received, told) == (number, ["stopping"])
        with pytest.raises(error):
            os.kill(os.getpid(), number)
        assert told == ["stopping"]
    assert signal.getsignal(number) is before


def test_termination_raises_and_is_then_as_before() -> None:
    """SIGTERM becomes an exception that is handled like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_raised():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_handlers_alone() -> None:
    """Only the main thread may set them; elsewhere nothing is set and nothing fails."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts, termination_raised():
            seen.extend([interrupts.received, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before]
