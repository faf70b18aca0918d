"""Drives the records of a task through overlapping steps, and decides how each of them ends.

One event loop owns all state and decides by what comes back from the stages' threads, so nothing in here needs a lock.
The detector is the stage that must never idle: fetching runs ahead of it, archiving and committing run behind. The
number of records that hold an image is bounded, and with it the memory.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from anomaly import backoff
from anomaly.errors import (
    AnomalyError,
    ArchiveUnavailable,
    ChunkIncomplete,
    DatabaseUnavailable,
    DetectorDown,
    Interrupted,
    LeaseLost,
    RecordRejected,
    Retryable,
    Throttled,
)
from anomaly.metrics import SILENT
from anomaly.pipeline.chunks import Chunks, ChunkStore
from anomaly.pipeline.deduplication import Reuse
from anomaly.pipeline.detection import Asking
from anomaly.pipeline.outcomes import Ending, Endings, EndingStore
from anomaly.pipeline.stages import Loop, Stage, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from anomaly.metrics import Metrics, Tally
    from anomaly.models.runs import Holder, Run
    from anomaly.pipeline.feed import Feed
    from anomaly.pipeline.lease import Keeper
    from anomaly.pipeline.quota import Fleet
    from anomaly.pipeline.record import Steps, Work
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

SAMPLE_S = 5.0
"""How often it is told how much is in use."""
OBJECTS = 2
"""A commit waits until so many writes to the archive are over: the image, and the answer with its heat map."""


class Store(ChunkStore, EndingStore, Protocol):
    """What the pipeline asks of the records database."""


class Pipeline:
    """One task's work, from its first chunk until nothing is due. Used once, by one thread.

    Args:
        blamed: ids of records that failed while the detector answered for others; what this try adds is for the task's next one.
        keeper: makes the keeper of the leases, given whom to tell when a chunk is lost.
        worked: is given the tally of each chunk that was worked.
    """

    def __init__(
        self,
        *,
        run: Run,
        holder: Holder,
        feed: Feed,
        steps: Steps,
        store: Store,
        fleet: Fleet,
        blamed: set[int],
        keeper: Callable[[Callable[[int], None]], Keeper],
        worked: Callable[[Tally], None],
        settings: Settings,
        rng: Random,
        metrics: Metrics = SILENT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holder = holder
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._sample_at = float("-inf")
        self._rng = rng
        self._clock = clock
        self._loop = Loop(clock=clock)
        self._asking = Asking(
            ask=steps.detect,
            ends=self,
            fleet=fleet,
            loop=self._loop,
            blamed=blamed,
            last_try=holder.last_try,
            settings=settings,
            metrics=metrics,
            rng=rng,
            clock=clock,
        )
        self._chunks = Chunks(
            run=run,
            holder=holder,
            feed=feed,
            store=store,
            loop=self._loop,
            keeper=keeper,
            failed=self.stop,
            worked=worked,
            lost=metrics.lease_lost,
            patience_s=settings.write_patience_s,
            clock=clock,
        )
        self._lay_steps(steps)

        self._under_way: set[Work] = set()
        self._blocked: set[Work] = set()
        self._unwritten: set[Work] = set()
        """Whose answer is there, and not written down yet: what dies with us is asked for again."""
        self._unwritten_max = settings.detector_slots + max(settings.detector_slots, settings.archive_workers)
        self._under_way_max = 2 * settings.detector_slots + settings.fetch_workers + settings.archive_workers
        self._stopped_by: BaseException | None = None
        self._stop_at = float("inf")

    def _lay_steps(self, steps: Steps) -> None:
        settings, stage = self._settings, self._loop.stage
        archiving = stage("archive", workers=settings.archive_workers)
        committing = stage("commit", workers=settings.commit_workers)
        self._fetch = self._step("fetch", stage("fetch", workers=settings.fetch_workers), steps.fetch, self._fetched)
        self._keep_image = self._step("archive", archiving, steps.archive_image, self._archived)
        self._keep_answer = self._step("archive", archiving, steps.archive_answer, self._answer_kept)
        self._end = self._step("archive", archiving, steps.end, self._answer_kept)
        self._commit = self._step("commit", committing, steps.commit, self._committed)
        self._reuse = Reuse(
            find=self._metrics.timed("look_up")(steps.look_up),
            drop=steps.release_ask,
            read=steps.reuse,
            reading=archiving,
            then=self,
            loop=self._loop,
            clock=self._clock,
        )
        self._endings = Endings(store=self._store, stage=committing, ended=self._close, failed=self.failed)

    def _step(self, name: str, stage: Stage, action: Callable[[Work], None], then: Callable[[Work], None]) -> Step:
        step = Step(name, stage, action, lambda work, _result: then(work), lambda work, error: self.failed(step, work, error))
        return step

    # ── the loop

    def drain(self) -> None:
        """Work until nothing is due for this run.

        Raises:
            ChunkIncomplete: records are left for the next try of the task; their leases last until then.
            DetectorDown: the same, and nothing more was sent for now.
            Interrupted: `interrupt` was called; what had no verdict yet is released.
            RunStopped: going on makes no sense; what had no verdict yet is released.
        """
        self._chunks.keeper.start()
        try:
            while not self._over():
                self._sample()
                if self._stopped_by is None:
                    self._chunks.feed_more(below=2 * self._settings.detector_slots)
                    self._start_fetching()
                    if not self._blocked:
                        self._reuse.start(hungry=self._asking.hungry, fetching=self._fetch.stage.busy > 0)
                        self._asking.start(in_flight_max=self._unwritten_max - len(self._unwritten))
                self._loop.run_once()
        except BaseException as exc:  # noqa: BLE001  # a fault of ours or a timeout of Airflow's: what is held is released, and it is raised
            self.stop(exc)
        finally:
            self._chunks.keeper.close()
            self._loop.close()
        try:
            self._conclude()
        finally:
            self._asking.leave()
            self._metrics.throttle(limit=0, in_flight=0, held_s=0.0)
            self._metrics.pool(0, 0)

    def _sample(self) -> None:
        """Tell once in a while how much is in use right now."""
        if (now := self._clock()) < self._sample_at:
            return
        self._sample_at = now + SAMPLE_S
        self._asking.tell()
        self._metrics.pool(*self._store.pool_use())

    def interrupt(self) -> None:
        """Ask to end soon; for any thread and for signal handlers."""
        self._loop.call_soon(lambda: self.stop(Interrupted("the task was asked to stop", delay_s=self.retry_delay_s())))

    def _over(self) -> bool:
        if self._stopped_by is None:
            return self._chunks.drained and not (self._under_way or self._loop.busy)
        answers = self._asking.in_flight or any(work.answer for work in self._under_way)
        return self._clock() >= self._stop_at or not (answers or self._chunks.feeding)

    def _start_fetching(self) -> None:
        waiting = self._chunks.waiting
        while waiting and len(self._under_way) < self._under_way_max:
            self._begin(waiting.popleft())
        if not waiting and not self._under_way:
            self._chunks.next_suspect(self._begin)

    def _begin(self, work: Work) -> None:
        if self._stopped_by is None:
            self._under_way.add(work)
            self._submit(self._fetch, work)

    def _submit(self, step: Step, subject: Any) -> None:
        step.stage.submit(step, subject)

    # ── a record's way

    def _fetched(self, work: Work) -> None:
        if not self.goes_on(work):
            return
        if work.answer is not None:
            self._submit(self._keep_image, work)
            self._submit(self._keep_answer, work)
        elif self._stopped_by is not None:
            self._under_way.discard(work)
        else:
            self._submit(self._keep_image, work)
            self._reuse.add(work)

    def unanswered(self, work: Work) -> None:
        """The detector has not said anything about this image."""
        if self._stopped_by is None:
            self._asking.add(work)
        else:
            self._under_way.discard(work)

    def answered(self, work: Work) -> None:
        """It is paid for, so it is written down even where the lease is lost: whoever holds the record next finds it."""
        self._reuse.settle(work)
        if not work.ended:
            self._unwritten.add(work)
            self._submit(self._keep_answer if self._chunks.is_lost(work) else self._end, work)

    def _answer_kept(self, work: Work) -> None:
        self._unwritten.discard(work)
        if work.committed:
            self._committed(work)
        else:
            self._archived(work)

    def _archived(self, work: Work) -> None:
        self._unblock(work)
        work.objects += 1
        if work.objects == OBJECTS and self.goes_on(work):
            self._submit(self._commit, work)

    def _committed(self, work: Work) -> None:
        log.debug("record committed id=%d token=%d took_ms=%s", work.claim.record_id, work.claim.token, work.timings)
        self._close(work, "reused" if work.answer and work.answer.reused else "committed")

    def goes_on(self, work: Work) -> bool:
        """After a step that succeeded: false when the record has ended, or its chunk is someone else's by now."""
        self._unblock(work)
        if not work.ended and self._chunks.is_lost(work):
            self._close(work, LeaseLost.code)
        return not work.ended

    def _unblock(self, work: Work) -> None:
        self._blocked.discard(work)
        work.blocked_since = None

    def _close(self, work: Work, event: str, error: AnomalyError | None = None) -> None:
        self._under_way.discard(work)
        self._blocked.discard(work)
        self._unwritten.discard(work)
        if not work.ended:
            self._reuse.settle(work, left=event == "unfinished")
            self._chunks.close(work, event, error)

    # ── what follows from a failure

    def failed(self, step: Step, subject: Work | Ending, error: BaseException) -> None:
        """The one place that decides what follows when a step of a record fails."""
        work = subject.work if isinstance(subject, Ending) else subject
        if work.ended:
            return
        log.debug("record %s failed id=%d: %s: %s", step.name, work.claim.record_id, getattr(error, "code", type(error).__name__), error)
        match error:
            case LeaseLost():
                self._close(work, LeaseLost.code)
            case ArchiveUnavailable() | DatabaseUnavailable():
                self._wait_and_repeat(step, work, subject, error)
            case RecordRejected():
                self._endings.quarantine(work, error)
            case Retryable():
                self.failed_for_now(work, error)
            case _:
                self.stop(error)

    def _wait_and_repeat(self, step: Step, work: Work, subject: Any, error: AnomalyError) -> None:
        """What is in hand is kept, and no new request to the detector starts, until this succeeds or patience ends."""
        now = self._clock()
        if work.blocked_since is None:
            work.blocked_since = now
        if not self._blocked:
            log.warning("waiting for the archive or the database: %s", error)
        self._blocked.add(work)
        blocked_s = now - work.blocked_since
        if blocked_s >= self._settings.write_patience_s:
            self.stop(DetectorDown(f"gave up after {blocked_s:.0f} s: {error}", delay_s=self.retry_delay_s()))
        else:
            self._metrics.retried("archive" if isinstance(error, ArchiveUnavailable) else "database")
            self._loop.call_later(self._rng.uniform(1.0, 1.1) * min(5.0, max(0.2, blocked_s)), partial(self._submit, step, subject))

    def give_back(self, work: Work, error: Throttled) -> None:
        """The detector has no time for it; nothing that has not begun is begun any more."""
        for each in self._chunks.feed_no_more():
            self.give_back(each, error)
        self._under_way.add(work)
        self._endings.give_back(work, error)

    def failed_for_now(self, work: Work, error: AnomalyError) -> None:
        if self._holder.last_try:
            self._endings.defer(work, error)
        else:
            log.info("record left for the next try id=%d %s: %s", work.claim.record_id, error.code, error)
            self._close(work, "unfinished", error)

    # ── the end

    def stop(self, error: BaseException) -> None:
        """Start nothing more; answers that are paid for may still be written down and committed for a short while."""
        if self._stopped_by is not None:
            return
        log.warning("stopping: %s", error)
        if isinstance(error, DetectorDown):
            self._metrics.breaker_opened()
        self._stopped_by = error
        self._stop_at = self._clock() + self._settings.grace_s
        self._chunks.feed_no_more()
        self._under_way.difference_update(self._asking.clear())

    def retry_delay_s(self, *, hint_s: float = 0.0) -> float:
        """Until the task's next try."""
        return backoff.delay_s(
            self._holder.try_number,
            base_s=self._settings.task_backoff_s,
            cap_s=self._settings.task_backoff_cap_s,
            rng=self._rng,
            hint_s=hint_s,
        )

    def _conclude(self) -> None:
        """Keep what is left for the next try, or free it, and say why."""
        error = self._stopped_by
        if error is None and (left := self._chunks.unfinished):
            error = ChunkIncomplete(f"{left} records failed for now and are left for the next try", delay_s=self.retry_delay_s())
        if error is None:
            return
        try:
            if isinstance(error, (ChunkIncomplete, DetectorDown)) and not self._holder.last_try:
                self._chunks.park(delay_s=error.delay_s, margin_s=self._settings.lease_s)
            else:
                self._chunks.release()
        except AnomalyError as exc:
            log.warning("leases are left to run out: %s", exc)
        raise error
