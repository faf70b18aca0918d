"""Holds back: a limit on what is in flight, a pause when the detector asks for one, and a breaker for what is down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """Says when the next request to the detector may start. For one thread, which never waits in here."""

    def __init__(self, *, slots: int, clock: Callable[[], float]) -> None:
        self._slots = slots
        self._clock = clock
        self._held_until = clock()
        self.in_flight = 0

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody asked to hold back."""
        if self.in_flight >= self._slots or self.wait_s() > 0:
            return False
        self.in_flight += 1
        return True

    def release(self) -> None:
        """Give a slot back, whatever came of its request."""
        self.in_flight -= 1

    def hold(self, seconds: float) -> None:
        """Start nothing for so many seconds; never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Seconds until requests may start again; 0 when they may."""
        return max(0.0, self._held_until - self._clock())


class Breaker:
    """Opens after so many failures in a row."""

    def __init__(self, *, failures: int) -> None:
        self._limit = failures
        self._in_a_row = 0

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self) -> bool:
        """Count a failure; true when that makes it too many."""
        self._in_a_row += 1
        return self._in_a_row >= self._limit
