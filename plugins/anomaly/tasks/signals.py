"""Interrupts a task's work on SIGTERM and SIGINT. Airflow's own handler would return and let it run until SIGKILL."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Termination:
    """Calls a subscriber when the task is asked to stop, also if that was before it subscribed."""

    def __init__(self) -> None:
        self._requested = False
        self._callback: Callable[[], None] = lambda: None

    def notify(self) -> None:
        self._requested = True
        self._callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        if self._requested:
            callback()


@contextlib.contextmanager
def handle_termination() -> Iterator[Termination]:
    """Notify the subscriber of SIGTERM and SIGINT inside the block. The previous handler of SIGTERM is called as well.

    Outside the main thread, where Python handles no signals, it does nothing.
    """
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        termination.notify()
        handler = previous[signal.Signals(number)]
        if number == signal.SIGTERM and callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield termination
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
