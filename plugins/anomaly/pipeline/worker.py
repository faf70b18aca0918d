"""Works the records of one task. Each record is a coroutine, from its claim to its end.

One event loop owns all state, so nothing here needs a lock; blocking calls run on the bounded threads of a stage. The detector is the
stage that must never idle: fetching runs ahead of it, archiving and committing run behind. The number of records that hold an image is
bounded, and with it the memory.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anomaly import errors
from anomaly.models.answers import ArchiveKeys
from anomaly.pipeline.chunks import Chunks
from anomaly.pipeline.deduplication import Deduplication
from anomaly.pipeline.detection import DetectionScheduler
from anomaly.pipeline.outcomes import OUTAGES, Outcome, Outcomes
from anomaly.pipeline.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anomaly.models.answers import Answer
    from anomaly.models.records import Claim, Image
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Timings

T = TypeVar("T")
log = logging.getLogger(__name__)

SAMPLE_S = 5.0
"""Seconds between two samples of the gauges."""


class Worker:
    """Works chunks until nothing is due or `stop` is called. Made and used on one event loop."""

    def __init__(self, parts: Parts) -> None:
        settings, self._parts = parts.settings, parts
        self.stopped_by: BaseException | None = None
        self._records: set[asyncio.Task[None]] = set()
        self._paid: set[asyncio.Task[Any] | None] = set()
        self._outages = 0
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._in_memory = asyncio.Semaphore(parts.in_memory_max)
        self._commit = partial(parts.store.commit, config=parts.detector.config, run=parts.run, holder=parts.holder)
        self._fetching = Stage("fetch", workers=settings.fetch_workers)
        self._archiving = Stage("archive", workers=settings.archive_workers)
        self._committing = Stage("commit", workers=settings.commit_workers)
        claiming, finding, sharing = (Stage(name, workers=1) for name in ("claim", "look_up", "share"))
        detecting = Stage("detect", workers=settings.detector_slots)
        self.stages = (self._fetching, self._archiving, self._committing, claiming, finding, sharing, detecting)
        self.chunks = Chunks(parts, stage=claiming)
        check, may_start = self.chunks.check, self._may_start
        write = partial(self._patiently, self._committing)
        keep = partial(self._archiving.run, parts.keep_unreadable)
        self.outcomes = Outcomes(parts, self.chunks, write=write, keep=keep, may_end=self._paid, stop=self.stop)
        self.detection = DetectionScheduler(
            parts,
            refusals=self.outcomes.detector,
            stage=detecting,
            sharing=sharing,
            paid=self._paid,
            may_start=may_start,
            check=check,
        )
        self._deduplication = Deduplication(
            parts,
            patiently=self._patiently,
            finding=finding,
            reading=self._archiving,
            check=check,
            running_low=self.detection.running_low,
            fetching=self._fetching,
            may_start=may_start,
        )

    async def run(self) -> None:
        """Work until nothing is due, or until what may still end after a stop has ended."""
        background = (self._report_gauges, self.detection.quota.renew, self._deduplication.look_up_groups)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._in_background(each)) for each in background]
            async with asyncio.TaskGroup() as records:
                try:
                    async for claim in self.chunks:
                        await self._in_memory.acquire()
                        if self.stopped_by:
                            break
                        task = records.create_task(self._finish(claim))
                        self._records.add(task)
                        task.add_done_callback(self._forget)
                    await self.chunks.idle()
                    self.outcomes.settle()
                except Exception as exc:  # noqa: BLE001  # no chunk can be opened: records in work end, and the task with this error
                    self.stop(exc)
            for task in tasks:
                task.cancel()

    def stop(self, error: BaseException) -> None:
        """Start nothing more. Answers that are paid for may still be archived and committed, for at most `grace_s`."""
        if self.stopped_by is not None:
            return
        log.warning("stopping: %s", error)
        if isinstance(error, errors.DetectorDown):
            self._parts.metrics.breaker_opened()
        self.stopped_by = error
        self.chunks.stop()
        self.detection.close()
        for task in self._records - self._paid:
            task.cancel()
        asyncio.get_running_loop().call_later(self._parts.settings.grace_s, self._abandon)

    def _abandon(self) -> None:
        self.chunks.abandon()
        for task in self._records:
            task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._records.discard(task)
        self._paid.discard(task)
        self._in_memory.release()

    async def _report_gauges(self) -> None:
        while True:
            self.detection.report()
            self._parts.metrics.pool(*self._parts.store.pool_use())
            await asyncio.sleep(SAMPLE_S)

    async def _in_background(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await action()
        except Exception as exc:  # noqa: BLE001  # without it no record can end
            self.stop(exc)

    # ── a record's way

    async def _finish(self, claim: Claim) -> None:
        """Process a record and end it, whatever happens. `Outcomes` chooses how a failed one ends."""
        timings: Timings = {}
        try:
            try:
                outcome = await self._process(claim, timings)
            except BaseExceptionGroup as group:
                outcome = await self.outcomes.of_failure(claim, group.exceptions[0], timings)
            log.debug("record %s id=%d token=%d took_ms=%s", outcome.event, claim.record_id, claim.token, timings)
            await self._deduplication.end(claim, stays_claimed=outcome.event == "unfinished")
            await self.chunks.end(claim, outcome.event, outcome.error, timings)
            self.outcomes.count(outcome)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # the whole run's fault or ours
            self.stop(exc)

    async def _process(self, claim: Claim, timings: Timings) -> Outcome:
        """Fetch the image, get an answer about it, archive both, and commit. Raises a group with the first error in it."""
        parts = self._parts
        async with asyncio.TaskGroup() as steps:
            if claim.is_suspect:
                await self.chunks.mark_alone(claim, alone=True)
            image = await self._fetching.run(parts.images.fetch, claim.image_url, timings=timings)
            self.outcomes.images.accept()
            self.chunks.check(claim)
            image_key = steps.create_task(self._patiently(self._archiving, parts.archive.put_image, image, timings=timings))
            ask = partial(self.detection.ask, claim, partial(parts.ask, image, claim), timings)
            answer = await self._deduplication.answer(claim, image, ask, timings)
            answer_key, heatmap_key = await self._archive_answer(claim, image, answer, timings)
            self.chunks.check(claim)
            archived = ArchiveKeys(image_key=await image_key, answer_key=answer_key, heatmap_key=heatmap_key)
            commit = partial(self._commit, claim, answer, archived, image=image, timings=timings)
            await self._patiently(self._committing, commit, timings=timings)
            self.outcomes.database.accept()
        return Outcome("reused" if answer.reused else "committed")

    async def _archive_answer(self, claim: Claim, image: Image, answer: Answer, timings: Timings) -> tuple[str, str | None]:
        """Archive an answer even if the lease is lost: it is paid for, and the record's next holder finds it. Return its keys."""
        if keys := self._parts.archived_keys(answer):
            return keys
        try:
            return await self._patiently(self._archiving, self._parts.archive_answer, claim, image, answer, timings=timings)
        finally:
            if not answer.reused:
                self.detection.written()

    async def _patiently(self, stage: Stage, call: Callable[..., T], *arguments: Any, **timed: Any) -> T:
        """Run a call on a stage, and again while bucket or database are away. Meanwhile nothing new is asked.

        Raises:
            DetectorDown: it failed for `write_patience_s`.
        """
        parts, failing_since = self._parts, None
        try:
            while True:
                try:
                    return await stage.run(call, *arguments, **timed)
                except OUTAGES as exc:
                    if failing_since is None:
                        failing_since = parts.clock()
                        self._outage(begins=True)
                        log.warning("waiting for the archive or the database: %s", exc)
                    failing_s = parts.clock() - failing_since
                    if failing_s >= parts.settings.write_patience_s:
                        raise errors.DetectorDown(f"gave up after {failing_s:.0f} s: {exc}", delay_s=parts.retry_delay_s()) from exc
                    parts.metrics.retried("archive" if isinstance(exc, errors.ArchiveUnavailable) else "database")
                await asyncio.sleep(parts.rng.uniform(1.0, 1.1) * min(5.0, max(0.2, failing_s)))
        finally:
            if failing_since is not None:
                self._outage(begins=False)

    def _outage(self, *, begins: bool) -> None:
        self._outages += 1 if begins else -1
        if self._outages:
            self._may_start.clear()
        else:
            self._may_start.set()
            self.detection.dispatch()
