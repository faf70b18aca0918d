"""Decides if refusals of an image host or a detector concern single records or the whole run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.errors import AnomalyError


class Refusals:
    """Refusals of one service, such as a 422, which may mean a bad record or a wrong setting.

    Once the service has accepted a record of this try, a refusal concerns its record. Until then refused records wait. After *limit* of
    them the run is at fault. When nothing else is left to be accepted, a *proven* configuration puts the records at fault.
    """

    def __init__(self, *, limit: int, proven: bool) -> None:
        self._limit = limit
        self.proven = proven
        self.accepted = False
        self.probes = 0
        """Requests in flight, and those that were refused."""
        self._count = 0
        self._run_at_fault = False
        self._decided = asyncio.Event()

    def accept(self) -> None:
        """Record that the service accepted a record."""
        self.accepted = True
        self._decided.set()

    def settle(self) -> None:
        """Decide with what is known, because nothing else is left to be accepted."""
        self._run_at_fault = self._run_at_fault or not (self.accepted or self.proven)
        self._decided.set()

    @property
    def may_probe(self) -> bool:
        """False if *limit* requests, refused ones included, are with a service that has accepted nothing yet."""
        return self.accepted or self.proven or self.probes < self._limit

    async def concerns_run(self, error: AnomalyError) -> bool:
        """Return whether *error* means that a setting of the run is wrong. Waits until that is known."""
        if self.accepted or not error.may_concern_run:
            return False
        self._count += 1
        if self._count >= self._limit:
            self._run_at_fault = True
            self._decided.set()
        await self._decided.wait()
        return self._run_at_fault
