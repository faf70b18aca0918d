"""SIGTERM and SIGINT reach the work of a task; Airflow's own handler would return and let it run on until SIGKILL."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Signals:
    """Remembers that it came, for work that has not begun yet."""

    def __init__(self) -> None:
        self._came = False
        self._interrupt: Callable[[], None] = lambda: None

    def come(self) -> None:
        self._came = True
        self._interrupt()

    def interrupt(self, work: Callable[[], None]) -> None:
        """From here on a signal interrupts this; at once if it has come."""
        self._interrupt = work
        if self._came:
            work()


@contextlib.contextmanager
def told() -> Iterator[Signals]:
    """Within it, SIGTERM and SIGINT interrupt the work that is named; the former handler of SIGTERM is called, too."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        signals.come()
        before = former[signal.Signals(number)]
        if number == signal.SIGTERM and callable(before):
            before(number, frame)

    for number in former:
        signal.signal(number, handle)
    try:
        yield signals
    finally:
        for number, before in former.items():
            signal.signal(number, before)
