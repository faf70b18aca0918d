"""Signals that end `bin/run`: SIGINT, SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised in the main thread by the first of these signals."""


def raise_interrupted() -> None:
    """From now on raise Interrupted on the first signal, and ignore later ones so that the shutdown completes."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Deliver signals on exit, so that no child process is started without being recorded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    handlers = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for late in received:
            signal.raise_signal(late)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    ignore()
    raise Interrupted
