"""Runs a worker on an event loop of its own, and parks or releases what is left when it ends."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, ChunkIncomplete, DetectorDown, Interrupted
from anomaly.pipeline import runs
from anomaly.pipeline.worker import Worker

if TYPE_CHECKING:
    from anomaly.pipeline.parts import Parts

log = logging.getLogger(__name__)


class Pipeline:
    """One task's work, from its first chunk until nothing is due. Used once, by one thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        self._interrupted = False
        self._failure: BaseException | None = None

    def drain(self) -> None:
        """Work until nothing is due for this run.

        Raises:
            ChunkIncomplete: records are left for the next try of the task; their leases last until then.
            DetectorDown: the same, and nothing more was sent for now.
            Interrupted: `interrupt` was called; records without a verdict are released.
            RunStopped: no record can succeed until a person has changed something; records without a verdict are released.
        """
        try:
            asyncio.run(self._work())
        except BaseException as exc:  # noqa: BLE001  # a fault of ours or a timeout of Airflow's: what is held is released, and it is raised
            log.warning("stopping: %s", exc)
            self._failure = exc
        finally:
            self._loop = None
        if self._worker and self._worker.outcomes.detector.accepted and not self._parts.detector_proven:
            prove = partial(self._parts.store.add_proven_detector, self._parts.detector.reading)
            runs.optional("the detector is not recorded as proven", prove)
        try:
            self._conclude()
        finally:
            if self._worker:
                self._worker.detection.quota.leave()
            self._parts.metrics.throttle(limit=0, in_flight=0, held_s=0.0)
            self._parts.metrics.pool(0, 0)

    def interrupt(self) -> None:
        """Ask to end soon. For any thread and for signal handlers."""
        self._interrupted = True
        if loop := self._loop:
            loop.call_soon_threadsafe(self._stop_if_interrupted)

    def _stop_if_interrupted(self) -> None:
        if self._interrupted and self._worker:
            self._worker.stop(Interrupted("the task was asked to stop", delay_s=self._parts.retry_delay_s()))

    async def _work(self) -> None:
        worker = self._worker = Worker(self._parts)
        self._loop = asyncio.get_running_loop()
        self._stop_if_interrupted()
        worker.chunks.leases.start()
        try:
            await worker.run()
        finally:
            worker.chunks.leases.close()
            for stage in worker.stages:
                stage.close()
        self._failure = worker.stopped_by

    def _conclude(self) -> None:
        """Keep what is left for the next try, or free it, and raise the reason."""
        error, store, holder = self._failure, self._parts.store, self._parts.holder
        if error is None and self._worker and (left := self._worker.chunks.unfinished):
            delay_s = self._parts.retry_delay_s()
            error = ChunkIncomplete(f"{left} records failed for now and are left for the next try", delay_s=delay_s)
        if error is None:
            return
        try:
            if isinstance(error, (ChunkIncomplete, DetectorDown)) and not holder.last_try:
                store.park_chunks(self._parts.run, holder, lease_s=error.delay_s + self._parts.settings.lease_s)
            else:
                store.release_chunks(self._parts.run, holder)
        except AnomalyError as exc:
            log.warning("leases are left to run out: %s", exc)
        raise error
