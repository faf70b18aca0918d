"""Renews the leases of a task's chunks, and reports those that are lost."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class LeaseRenewer:
    """Renews the leases of chunks at a third of their time, on a thread of its own: a heartbeat.

    It decides by the monotonic clock: without a renewal within the lease the chunk counts as lost, whatever the database answers
    later, because someone else may have claimed the records by then.

    Args:
        renew: renews chunks in the database and returns the numbers of those that this task still holds.
        shut_overdue_calls: ends database calls that take too long, so that a dead network cannot hold up a renewal.
        on_lost: called once with the number of each lost chunk, on the renewer's thread.
    """

    def __init__(
        self,
        *,
        lease_s: float,
        renew: Callable[[set[int]], set[int]],
        shut_overdue_calls: Callable[[], int],
        on_lost: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_s = lease_s
        self._renew = renew
        self._shut_overdue_calls = shut_overdue_calls
        self._on_lost = on_lost
        self._clock = clock
        self._held: dict[int, float] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="lease-renewer", daemon=True),
            threading.Thread(target=self._watch, name="lease-watch", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop renewing. Held chunks stay leased until their lease runs out."""
        self._closed.set()

    def hold(self, chunk: int, *, since: float) -> None:
        """Renew a chunk from now on. Its lease began at *since*, the monotonic time before it was requested."""
        with self._lock:
            self._held[chunk] = since

    def drop(self, chunk: int) -> None:
        """Renew a chunk no longer."""
        with self._lock:
            self._held.pop(chunk, None)

    def renew_once(self) -> bool:
        """Renew the held chunks. A chunk that someone else holds by now is lost.

        Returns:
            False if it has to be tried again soon.
        """
        self.expire()
        asked_at = self._clock()
        with self._lock:
            held = set(self._held)
        if not held:
            return True
        try:
            ours = self._renew(held)
        except AnomalyError as exc:
            log.warning("leases not renewed: %s", exc)
            return False
        with self._lock:
            for chunk in held & ours & set(self._held):
                self._held[chunk] = asked_at
        self._lose(held - ours)
        return True

    def expire(self) -> None:
        """Count each chunk as lost whose lease has run out by the monotonic clock."""
        now = self._clock()
        with self._lock:
            over = {chunk for chunk, since in self._held.items() if now - since >= self._lease_s}
        self._lose(over)

    def _lose(self, chunks: set[int]) -> None:
        with self._lock:
            lost = sorted(chunk for chunk in chunks if self._held.pop(chunk, None) is not None)
        for chunk in lost:
            self._on_lost(chunk)

    def _keep(self) -> None:
        wait_s = self._lease_s / 3
        while not self._closed.wait(wait_s):
            wait_s = self._lease_s / (3 if self.renew_once() else 12)

    def _watch(self) -> None:
        """Expire leases on a second thread, since a renewal that hangs is one of the calls that may have to be shut."""
        while not self._closed.wait(min(1.0, self._lease_s / 10)):
            self._shut_overdue_calls()
            self.expire()
