"""Holds a task's chunks: opens them ahead, keeps their leases, counts and ends them, and parks or releases what is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, DatabaseUnavailable, LeaseLost
from anomaly.metrics import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.pipeline.feed import Feed, OpenChunk
    from anomaly.pipeline.lease import Keeper
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
        keeper: makes the keeper of the leases, given a function to call with each lost chunk.
        on_worked: called with the tally of each chunk whose records have all ended.
    """

    def __init__(
        self,
        parts: Parts,
        feed: Feed,
        *,
        stage: Stage,
        keeper: Callable[[Callable[[int], None]], Keeper],
        on_worked: Callable[[Tally], None],
    ) -> None:
        self._run, self._holder, self._store = parts.run, parts.holder, parts.store
        self._feed = feed
        self._stage = stage
        self._ahead = 2 * parts.settings.detector_slots
        self._patience_s = parts.settings.write_patience_s
        self._on_worked = on_worked
        self._metrics = parts.metrics
        self._clock = parts.clock
        loop = asyncio.get_running_loop()

        def on_lost(number: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task is over
                loop.call_soon_threadsafe(self._lost, number)

        self.keeper = keeper(on_lost)
        self._held: dict[int, _Held] = {}
        self._waiting: deque[Claim] = deque()
        self._suspects: deque[Claim] = deque()
        self._alone: Claim | None = None
        self._in_work = 0
        self._ended = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._resting = False
        self._failure: BaseException | None = None
        self._drained = False

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> Claim:
        while True:
            self._open_ahead()
            if self._waiting:
                self._in_work += 1
                return self._waiting.popleft()
            if self._opening:
                await asyncio.wait([self._opening])
            elif self._failure:
                raise self._failure
            elif self._in_work and (self._suspects or not self._drained):
                self._ended.clear()
                await self._ended.wait()
            elif self._suspects:
                self._in_work += 1
                self._alone = self._suspects.popleft()
                return self._alone
            else:
                raise StopAsyncIteration

    # ── opening

    def _open_ahead(self) -> None:
        if self._opening and self._opening.done():
            self._opening = None
        if self._drained or self._opening or self._suspects or self._alone or len(self._waiting) >= self._ahead:
            return
        if sum(held.unfinished > 0 for held in self._held.values()) >= UNFINISHED_MAX:
            self._drained = True
        else:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Open the next chunk. Repeats while the database is away, since claimed chunks would stay unopened."""
        failing_since: float | None = None
        while True:
            try:
                self._opened(await self._stage.run(self._feed.next))
            except DatabaseUnavailable as exc:
                log.warning("no chunk opened: %s", exc)
                failing_since = self._clock() if failing_since is None else failing_since
                failing_s = self._clock() - failing_since
                if failing_s >= self._patience_s or self._drained:
                    self._drained, self._failure = True, exc
                    return
                self._resting = True
                await asyncio.sleep(min(5.0, max(0.2, failing_s)))
                self._resting = False
            except Exception as exc:  # noqa: BLE001  # raised by the iterator
                self._drained, self._failure = True, exc
                return
            else:
                return

    def _opened(self, chunk: OpenChunk | None) -> None:
        if chunk is None:
            self._drained = True
            return
        self._held[chunk.number] = _Held(chunk.number, left=len(chunk.claims))
        self.keeper.hold(chunk.number, since=chunk.since)
        if not self._drained:
            for claim in chunk.claims:
                (self._suspects if claim.is_suspect else self._waiting).append(claim)

    def close(self) -> list[Claim]:
        """Open no further chunk; return the claims that were not begun."""
        self._drained = True
        not_begun = [*self._waiting, *self._suspects]
        self._waiting.clear()
        self._suspects.clear()
        self._in_work += len(not_begun)
        self._ended.set()
        if self._resting:
            self.abandon()
        return not_begun

    def abandon(self) -> None:
        """Wait no longer for a chunk that is being opened."""
        if self._opening:
            self._opening.cancel()

    # ── a record

    def check(self, claim: Claim) -> None:
        """Raise LeaseLost if the record's chunk is held by someone else by now, or may be."""
        if self._held[claim.chunk].lost:
            raise LeaseLost(f"the lease of chunk {claim.chunk} is lost")

    async def begin_alone(self, claim: Claim) -> None:
        """Write down that a suspect is the only record in work.

        Raises:
            LeaseLost: the chunk is held by someone else.
            DatabaseUnavailable: it is not written down, so the record must not be worked.
        """
        await self._stage.run(partial(self._store.mark_alone, claim, self._holder, alone=True))

    async def end(self, claim: Claim, event: str, error: AnomalyError | None, timings: Timings) -> None:
        """Count how a record ended, and end its chunk after its last one; `unfinished` leaves it claimed for the task's next try."""
        held = self._held[claim.chunk]
        held.tally.end(event, error_code=error.code if error else None, timings=timings)
        held.unfinished += event == "unfinished"
        held.left -= 1
        if claim is self._alone:
            try:
                await self._stage.run(partial(self._store.mark_alone, claim, self._holder, alone=False))
            except AnomalyError as exc:
                log.warning("record id=%d is still marked as worked alone: %s", claim.record_id, exc)
            self._alone = None
        if held.left == 0:
            await self._worked(held)
        self._in_work -= 1
        self._ended.set()

    async def _worked(self, held: _Held) -> None:
        self._count(held)
        if held.unfinished:
            return  # it stays leased until it is parked
        self.keeper.drop(held.number)
        del self._held[held.number]
        if held.lost:
            return
        try:
            await self._stage.run(lambda: self._store.end_chunk(self._run, held.number, self._holder, tally=held.tally.as_json()))
        except AnomalyError as exc:
            log.warning("chunk %d not ended; its lease runs out: %s", held.number, exc)

    def _count(self, held: _Held) -> None:
        log.info("chunk worked number=%d %s", held.number, held.tally)
        log.debug("database pool: in_use=%d open=%d", *self._store.pool_use())
        self._on_worked(held.tally)

    def _lost(self, number: int) -> None:
        """Drop the claims that wait; those in work find out at their next `check`."""
        held = self._held.get(number)
        if held is None or held.lost or held.left == 0:
            return
        self._metrics.lease_lost()
        log.warning("lease of chunk %d lost with %d records in work", number, held.left)
        held.lost = True
        for queue in (self._waiting, self._suspects):
            for claim in [claim for claim in queue if claim.chunk == number]:
                queue.remove(claim)
                held.tally.end(LeaseLost.code, error_code=None, timings={})
                held.left -= 1
        if held.left == 0:
            self._count(held)
            del self._held[number]

    # ── the end of the task

    @property
    def unfinished(self) -> int:
        """Records that are left for the task's next try."""
        return sum(held.unfinished for held in self._held.values() if not held.lost)
