"""A deadline for each call to the database."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Calls:
    """The calls that are under way. libpq has no read timeout: a keeper shuts the socket of one past its deadline."""

    def __init__(self, *, deadline_s: float, clock: Callable[[], float]) -> None:
        self._deadline_s = deadline_s
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[socket.socket, float] = {}

    @contextlib.contextmanager
    def timed(self, line: socket.socket) -> Iterator[None]:
        """A call on the connection of that line."""
        self._started[line] = self._clock()
        try:
            yield
        finally:
            with self._lock:  # whoever shuts it, shuts no later call
                self._started.pop(line, None)

    def shut_overdue(self) -> int:
        """Shut the sockets of calls past their deadline; each of them fails at once. How many they were."""
        with self._lock:
            overdue = [line for line, started in list(self._started.items()) if self._clock() - started > self._deadline_s]
            for line in overdue:
                del self._started[line]
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
        return len(overdue)
