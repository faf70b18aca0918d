"""Holds a task's chunks: opens them ahead, keeps their leases, counts how their records end, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, DatabaseUnavailable, LeaseLost
from anomaly.metrics import Tally
from anomaly.pipeline.chunk_source import chunk_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.models.records import Claim
    from anomaly.pipeline.chunk_source import OpenChunk
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Stage, Timings

log = logging.getLogger(__name__)

UNFINISHED_MAX = 3
"""A task that has left records of so many chunks unfinished claims no more: something is wrong for now."""


@dataclass(slots=True, eq=False)
class _Held:
    number: int
    left: int
    unfinished: int = 0
    lost: bool = False
    tally: Tally = field(default_factory=Tally)


class Chunks:
    """An asynchronous iterator over the claims of a task's chunks, until nothing is due or `close` is called.

    Suspects, whose workers died, come last, and each one only when no other record is in work.

    Args:
        stage: one thread for statements on chunks.
    """

    def __init__(self, parts: Parts, *, stage: Stage) -> None:
        self._parts = parts
        self._source = chunk_source(parts)
        self._stage = stage
        loop = asyncio.get_running_loop()

        def on_lost(number: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task is over
                loop.call_soon_threadsafe(self._lost, number)

        self.leases = parts.lease_renewer(on_lost)
        self._held: dict[int, _Held] = {}
        self._waiting: deque[Claim] = deque()
        self._suspects: deque[Claim] = deque()
        self._alone: Claim | None = None
        self._in_work = 0
        self._ended = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closed = asyncio.Event()
        self._stopped = False

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> Claim:
        while not self._waiting:
            self._open_ahead()
            if self._opening:
                await asyncio.wait([self._opening])
            elif self._failure:
                raise self._failure
            elif self._in_work and (self._suspects or not self._closed.is_set()):
                self._ended.clear()
                await self._ended.wait()
            elif self._suspects:
                self._alone = self._suspects.popleft()
                self._waiting.append(self._alone)
            else:
                raise StopAsyncIteration
        self._in_work += 1
        claim = self._waiting.popleft()
        self._open_ahead()
        return claim

    def _open_ahead(self) -> None:
        if self._opening and self._opening.done():
            self._opening = None
        enough = len(self._waiting) >= 2 * self._parts.settings.detector_slots
        if self._closed.is_set() or self._opening or self._suspects or self._alone or enough:
            return
        if sum(held.unfinished > 0 for held in self._held.values()) >= UNFINISHED_MAX:
            self._closed.set()
        else:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            chunk = await self._next()
        except Exception as exc:  # noqa: BLE001  # raised by the iterator
            self._failure, chunk = exc, None
        if chunk is None:
            self._closed.set()
            return
        self._held[chunk.number] = _Held(chunk.number, left=len(chunk.claims))
        self.leases.hold(chunk.number, since=chunk.since)
        if not self._closed.is_set():
            for claim in chunk.claims:
                (self._suspects if claim.is_suspect else self._waiting).append(claim)

    async def _next(self) -> OpenChunk | None:
        """Open the next chunk, and again while the database is away: chunks that are claimed would stay unopened.

        Returns None if nothing is due, or after `close`.

        Raises:
            DatabaseUnavailable: it was away for `write_patience_s`.
        """
        began_s = time.monotonic()
        while True:
            try:
                return await self._stage.run(self._source.next)
            except DatabaseUnavailable as exc:
                log.warning("no chunk opened: %s", exc)
                failing_s = time.monotonic() - began_s
                if failing_s >= self._parts.settings.write_patience_s:
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), min(5.0, max(0.2, failing_s)))
                return None

    def close(self) -> list[Claim]:
        """Open no further chunk; return the claims that were not begun, whose ends the caller may report."""
        self._closed.set()
        self._ended.set()
        not_begun = [*self._waiting, *self._suspects]
        self._waiting.clear()
        self._suspects.clear()
        self._in_work += len(not_begun)
        return not_begun

    def stop(self) -> None:
        """Close, and wait no longer for records to end."""
        self._stopped = True
        self.close()

    def abandon(self) -> None:
        """Wait no longer for a chunk that is being opened."""
        if self._opening:
            self._opening.cancel()

    def check(self, claim: Claim) -> None:
        """Raise LeaseLost if the record's chunk is held by someone else by now, or may be."""
        if self._held[claim.chunk].lost:
            raise LeaseLost(f"the lease of chunk {claim.chunk} is lost")

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Do not count a record as in work while it waits for what becomes of the others."""
        self._in_work -= 1
        self._ended.set()
        try:
            yield
        finally:
            self._in_work += 1

    async def idle(self) -> None:
        """Wait until no record is in work, or `stop` is called."""
        while self._in_work and not self._stopped:
            self._ended.clear()
            await self._ended.wait()

    async def mark_alone(self, claim: Claim, *, alone: bool) -> None:
        """Write down whether a suspect is the only record in work; raises LeaseLost if someone else holds the chunk."""
        try:
            await self._stage.run(partial(self._parts.store.mark_alone, claim, self._parts.holder, alone=alone))
        except LeaseLost:
            self._lost(claim.chunk)
            raise

    async def end(self, claim: Claim, event: str, error: AnomalyError | None, timings: Timings) -> None:
        """Count how a record ended, and end its chunk after its last one; `unfinished` leaves it claimed for the task's next try."""
        held, parts = self._held[claim.chunk], self._parts
        held.unfinished += event == "unfinished"
        worked = self._count(held, event, error, timings)
        try:
            if claim is self._alone:
                await self.mark_alone(claim, alone=False)
            if worked and not (held.unfinished or held.lost):
                await self._stage.run(partial(parts.store.end_chunk, parts.run, held.number, parts.holder, tally=held.tally.as_json()))
        except AnomalyError as exc:
            log.warning("chunk %d stays open until its lease runs out: %s", held.number, exc)
        finally:
            if claim is self._alone:
                self._alone = None
            self._in_work -= 1
            self._ended.set()

    def _count(self, held: _Held, event: str, error: AnomalyError | None, timings: Timings) -> bool:
        """Count a record that ended; return whether it was the chunk's last one."""
        held.tally.end(event, error_code=error.code if error else None, timings=timings)
        held.left -= 1
        if held.left:
            return False
        log.info("chunk worked number=%d %s", held.number, held.tally)
        log.debug("database pool: in_use=%d open=%d", *self._parts.store.pool_use())
        if not held.unfinished:  # else it stays leased until it is parked
            self.leases.drop(held.number)
            del self._held[held.number]
        self._parts.on_worked(held.tally)
        return True

    def _lost(self, number: int) -> None:
        """Drop the claims that wait; those in work find out at their next `check`."""
        held = self._held.get(number)
        if held is None or held.lost:
            return
        self._parts.metrics.lease_lost()
        log.warning("lease of chunk %d lost with %d records in work", number, held.left)
        held.lost = True
        for queue in (self._waiting, self._suspects):
            for claim in [claim for claim in queue if claim.chunk == number]:
                queue.remove(claim)
                self._count(held, LeaseLost.code, None, {})

    @property
    def unfinished(self) -> int:
        """Records that are left for the task's next try."""
        return sum(held.unfinished for held in self._held.values() if not held.lost)
