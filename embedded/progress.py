"""The terminal output of `bin/run`: a line for each service that is ready, the progress of the run, the summary."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console

from anomaly.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.status import Status

PLAIN_EVERY_S, UNCHANGED_EVERY_S = 5.0, 30.0


class Progress:
    """Updates one line in place on a terminal; elsewhere prints plain lines at intervals."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._shown = ""

    def print(self, line: str) -> None:
        self._console.print(escaped(line), markup=False)

    @contextlib.contextmanager
    def starting(self, name: str) -> Iterator[None]:
        """Show that *name* is starting; on exit print the seconds since the start of `bin/run`."""
        with self._console.status(f"starting {name} …") if self._console.is_terminal else contextlib.nullcontext():
            yield
        self.print(f"{time.monotonic() - self._started:5.1f} s  {name} ready")

    def records(self, ended: int, waiting: int, *, rate: float | None) -> None:
        """Show the number of records that are done and waiting, and the rate in records a second, None if it is not known yet."""
        speed = "" if rate is None else f", {rate:.1f} records/s"
        left = f", about {waiting / rate:.0f} s left" if rate and waiting else ""
        self._show(f"records: {ended} of {ended + waiting} done{speed}{left}")

    def stopping(self, claimed: int, left_s: float) -> None:
        """Show how many records are in work, and for how long their tasks may still commit answers."""
        self._show(f"stopping: {claimed} records in work have {left_s:.0f} s to get their answers committed; the rest stays due")

    def _show(self, line: str) -> None:
        if self._console.is_terminal:
            self._status = self._status or self._console.status(line)
            self._status.start()
            self._status.update(line)
        elif time.monotonic() - self._shown_at >= (PLAIN_EVERY_S if line != self._shown else UNCHANGED_EVERY_S):
            self._shown_at, self._shown = time.monotonic(), line
            self.print(line)

    def clear(self) -> None:
        """Remove the line that is updated in place."""
        if self._status:
            self._status.stop()
            self._status = None
