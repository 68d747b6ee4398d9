"""Handle Ctrl-C and SIGTERM: the first stops a run after its step, the second immediately."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised like Ctrl-C so that half-written files are cleaned up."""


@contextmanager
def signals_raised(on_exit: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make the first Ctrl-C or SIGTERM raise, and the next one end the process.

    The next one ends it at once and without a traceback, also while the first is being answered;
    only `on_exit` is called before. Once Python itself shuts down, no signal changes the exit code.
    Without a signal, the handlers are restored at the end.
    """
    is_ending = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        if is_ending:
            on_exit()
            os._exit(128 + number)
        else:
            is_ending = True
            atexit.register(_ignore_signals)
            _raise(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        with interrupts_uncovered():
            yield
    finally:
        if not is_ending:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Make every Ctrl-C raise, for work that ends with it without ending the process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupts_uncovered() -> Iterator[None]:
    """Raise a KeyboardInterrupt again that a library has turned into another error.

    Transformers reports whatever fails while it imports a module as a missing module, for one.
    """
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, KeyboardInterrupt):
            behind = behind.__cause__ or behind.__context__
        if behind is None:
            raise
        raise type(behind)(*behind.args) from error


class Interrupts:
    """Context manager that records the first signal and raises at the second.

    The training loop checks `received` at points where it can stop without losing work.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.received: int | None = None
        self._on_first = on_first
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._on_first()
            return
        before = self._before[number]
        if callable(before):  # it may have more to do than to raise
            before(number, frame)
        else:
            _raise(number)


def _ignore_signals() -> None:
    """Ignore all signals from here on: as it shuts down, Python restores their default actions."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
