"""What the person at the terminal sees: one line a part, one line of progress, the summary."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.status import Status

PLAIN_EVERY_S, UNCHANGED_EVERY_S = 5.0, 30.0


class Screen:
    """Redraws one line on a terminal; elsewhere it prints plain lines, and progress only now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._shown = ""

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows that *what* is starting, and then when it was ready, counted from our own start."""
        with self._console.status(f"starting {what} …") if self._console.is_terminal else contextlib.nullcontext():
            yield
        self.say(f"{time.monotonic() - self._started:5.1f} s  {what} ready")

    def progress(self, ended: int, waiting: int, *, rate: float) -> None:
        """Records brought to an end, records that wait, records a second."""
        left = f", about {waiting / rate:.0f} s left" if rate > 0 and waiting else ""
        line = f"records: {ended} of {ended + waiting} done, {rate:.1f} records/s{left}"
        if self._console.is_terminal:
            self._status = self._status or self._console.status(line)
            self._status.start()
            self._status.update(line)
        elif time.monotonic() - self._shown_at >= (PLAIN_EVERY_S if line != self._shown else UNCHANGED_EVERY_S):
            self._shown_at, self._shown = time.monotonic(), line
            self.say(line)

    def clear(self) -> None:
        """End the line of progress."""
        if self._status:
            self._status.stop()
            self._status = None
