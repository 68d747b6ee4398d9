"""Handle Ctrl-C and SIGTERM: the first stops a run after its step, the second immediately."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised like Ctrl-C so that half-written files are cleaned up."""


@contextmanager
def termination_raised() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` instead of ending the process silently."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interrupts:
    """Context manager that records the first signal and raises at the second.

    The training loop checks `received` at points where it can stop without losing work.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.received: int | None = None
        self._on_first = on_first
        self._before: dict[signal.Signals, object] = {}

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
            signal.signal(number, before)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._on_first()
        else:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
