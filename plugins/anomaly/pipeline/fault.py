"""Decides whether a failure concerns one record, or the detector, the image hosts or a setting and with that the whole run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, DetectorFailed, DetectorOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.answers import Answer
    from anomaly.pipeline.stages import Stage

log = logging.getLogger(__name__)


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


class Breaker:
    """A circuit breaker: opens after a number of failures in a row."""

    def __init__(self, *, failures: int) -> None:
        self._limit = failures
        self._in_a_row = 0

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self) -> bool:
        """Count a failure; return True if that opens the breaker."""
        self._in_a_row += 1
        return self._in_a_row >= self._limit


class ControlRequest:
    """Finds out whether the detector is down, by a request that should succeed. Records that fail meanwhile share it.

    Args:
        request: the request to send: about a plain image at first, later the last one that was answered.
    """

    def __init__(self, stage: Stage, request: Callable[[], Answer]) -> None:
        self._stage = stage
        self.request = request
        self._task: asyncio.Task[bool] | None = None

    @property
    def in_flight(self) -> bool:
        return self._task is not None and not self._task.done()

    async def is_answered(self) -> bool:
        """Return whether the detector answers at all, whatever it answers."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())
        return await asyncio.shield(self._task)

    async def _send(self) -> bool:
        try:
            await self._stage.run(self.request)
        except (DetectorFailed, DetectorOverloaded) as exc:
            log.info("the detector does not answer a control request: %s", exc)
            return False
        except AnomalyError as exc:
            log.info("the detector answers a control request: %s", exc)
        return True
