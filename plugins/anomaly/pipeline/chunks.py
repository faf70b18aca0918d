"""The chunks that a task holds: opened early enough, kept leased, counted, ended, and freed or parked at the end."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from anomaly.errors import AnomalyError, LeaseLost, Retryable
from anomaly.metrics import Tally
from anomaly.pipeline.record import Work
from anomaly.pipeline.stages import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.models.runs import Holder, Run
    from anomaly.pipeline.feed import Feed, OpenChunk
    from anomaly.pipeline.lease import Keeper
    from anomaly.pipeline.stages import Loop

log = logging.getLogger(__name__)

UNFINISHED_MAX = 3
"""A task that could not finish so many chunks claims no more: something is wrong for now."""
SUSPECT_LOST = 2
"""A record during whose work so many workers died is worked last and alone."""


class ChunkStore(Protocol):
    """What becomes of chunks in the database. Nothing changes where someone else holds them by now."""

    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None: ...
    def end_chunk(self, run: Run, number: int, holder: Holder, *, tally: dict[str, Any]) -> bool: ...
    def park_chunks(self, run: Run, holder: Holder, *, lease_s: float) -> None: ...
    def release_chunks(self, run: Run, holder: Holder) -> None: ...
    def pool_use(self) -> tuple[int, int]: ...


@dataclass(slots=True, eq=False)
class _Held:
    number: int
    left: int
    unfinished: int = 0
    lost: bool = False
    tally: Tally = field(default_factory=Tally)


class Chunks:
    """For the loop's thread.

    Args:
        keeper: makes the keeper of the leases, given whom to tell when a chunk is lost.
        failed: is told why no further chunk can be opened.
        patience_s: how long it is tried again to open one while the database is away.
        worked: is given the tally of each chunk that was worked.
        lost: is told of each chunk that was lost.
    """

    def __init__(
        self,
        *,
        run: Run,
        holder: Holder,
        feed: Feed,
        store: ChunkStore,
        loop: Loop,
        keeper: Callable[[Callable[[int], None]], Keeper],
        failed: Callable[[BaseException], None],
        worked: Callable[[Tally], None],
        lost: Callable[[], None],
        patience_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._holder = holder
        self._store = store
        self._tell_failed = failed
        self._tell_worked = worked
        self._tell_lost = lost
        self._patience_s = patience_s
        self._clock = clock
        self._loop = loop
        self.keeper = keeper(lambda number: loop.call_soon(lambda: self._lost(number)))
        self._held: dict[int, _Held] = {}
        self._fed = False
        self.feeding = False
        self._resting = False
        self._failing_since: float | None = None
        self._alone: Work | None = None
        self.waiting: deque[Work] = deque()
        self._suspects: deque[Work] = deque()
        claiming = loop.stage("claim", workers=1)
        self._open = Step("open", claiming, lambda _: feed.next(), self._opened, self._not_opened)
        self._end = Step("end", claiming, self._end_held, lambda _held, _result: None, self._not_ended)
        self._mark = Step("mark", claiming, self._mark_alone, self._marked, self._not_marked)

    # ── opening

    def feed_more(self, *, below: int) -> None:
        """Open the next chunk when fewer records than *below* wait, but none while a suspect is to be worked alone."""
        if self._fed or self.feeding or self._resting or self._suspects or self._alone or len(self.waiting) >= below:
            return
        if sum(held.unfinished > 0 for held in self._held.values()) >= UNFINISHED_MAX:
            self._fed = True
            return
        self.feeding = True
        self._open.stage.submit(self._open, None)

    def feed_no_more(self) -> list[Work]:
        """Open no further chunk; returns what was not begun yet."""
        self._fed = True
        not_begun = [*self.waiting, *self._suspects]
        self.waiting.clear()
        self._suspects.clear()
        return not_begun

    @property
    def drained(self) -> bool:
        """Whether nothing more will come."""
        return self._fed and not (self.feeding or self.waiting or self._suspects)

    def _opened(self, _subject: None, chunk: OpenChunk | None) -> None:
        self.feeding = False
        self._failing_since = None
        if chunk is None:
            self._fed = True
            return
        self._held[chunk.number] = _Held(chunk.number, left=len(chunk.claims))
        self.keeper.hold(chunk.number, since=chunk.since)
        for claim in chunk.claims:
            (self._suspects if claim.lost >= SUSPECT_LOST else self.waiting).append(Work(claim))

    def _not_opened(self, _subject: None, error: BaseException) -> None:
        """A database that is away for a moment is no reason to leave a window half drained, and chunks unopened."""
        self.feeding = False
        log.warning("no chunk opened: %s", error)
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        failing_s = now - self._failing_since
        if isinstance(error, Retryable) and failing_s < self._patience_s:
            self._resting = True
            self._loop.call_later(min(5.0, max(0.2, failing_s)), self._rested)
        else:
            self._fed = True
            self._tell_failed(error)

    def _rested(self) -> None:
        self._resting = False

    # ── suspects

    def next_suspect(self, begin: Callable[[Work], None]) -> None:
        """Begin the next suspect, once the database knows that it is worked alone."""
        if self._suspects and not self.feeding and not self._alone:
            self._alone = self._suspects.popleft()
            self._mark.stage.submit(self._mark, (self._alone, begin))

    def _mark_alone(self, subject: tuple[Work, Callable[[Work], None] | None]) -> None:
        work, begin = subject
        self._store.mark_alone(work.claim, self._holder, alone=begin is not None)

    def _marked(self, subject: tuple[Work, Callable[[Work], None] | None], _result: None) -> None:
        work, begin = subject
        if begin is None:
            self._alone = None
        else:
            begin(work)

    def _not_marked(self, subject: tuple[Work, Callable[[Work], None] | None], error: BaseException) -> None:
        work, begin = subject
        log.warning("record id=%d not marked as worked alone: %s", work.claim.record_id, error)
        self._alone = None
        if isinstance(error, LeaseLost):
            self._lost(work.claim.chunk)
        if begin is not None:
            event = LeaseLost.code if self.is_lost(work) else "unfinished"
            self.close(work, event, error if isinstance(error, AnomalyError) else None)

    # ── ending

    def is_lost(self, work: Work) -> bool:
        """Whether the record's chunk is someone else's by now."""
        return self._held[work.claim.chunk].lost

    def close(self, work: Work, event: str, error: AnomalyError | None = None) -> None:
        """The record is no longer ours to work; `unfinished` leaves it claimed for the next try of the task."""
        work.ended = True
        work.image = work.answer = None
        held = self._held[work.claim.chunk]
        held.tally.end(event, error_code=error.code if error else None, timings=work.timings)
        held.unfinished += event == "unfinished"
        held.left -= 1
        if work is self._alone:
            self._mark.stage.submit(self._mark, (work, None))
        if held.left == 0:
            self._worked(held)

    def _worked(self, held: _Held) -> None:
        log.info("chunk worked number=%d %s", held.number, held.tally)
        log.debug("database pool: in_use=%d open=%d", *self._store.pool_use())
        self._tell_worked(held.tally)
        if held.unfinished:
            return  # it stays leased until it is parked
        self.keeper.drop(held.number)
        del self._held[held.number]
        if not held.lost:
            self._end.stage.submit(self._end, held)

    def _end_held(self, held: _Held) -> None:
        self._store.end_chunk(self._run, held.number, self._holder, tally=held.tally.as_json())

    def _not_ended(self, held: _Held, error: BaseException) -> None:
        log.warning("chunk %d not ended, which its lease will do: %s", held.number, error)

    def _lost(self, number: int) -> None:
        """What waits is dropped now, what is under way at its next step."""
        held = self._held.get(number)
        if held is None or held.lost:
            return
        self._tell_lost()
        log.warning("lease of chunk %d lost with %d records under way", number, held.left)
        held.lost = True
        for queue in (self.waiting, self._suspects):
            for work in [work for work in queue if work.claim.chunk == number]:
                queue.remove(work)
                self.close(work, LeaseLost.code)

    @property
    def unfinished(self) -> int:
        """Records that are left for the next try."""
        return sum(held.unfinished for held in self._held.values() if not held.lost)

    def park(self, *, delay_s: float, margin_s: float) -> None:
        """Keep what is left claimed until the next try begins."""
        self._store.park_chunks(self._run, self._holder, lease_s=delay_s + margin_s)

    def release(self) -> None:
        """Give what is left back, untouched."""
        self._store.release_chunks(self._run, self._holder)
