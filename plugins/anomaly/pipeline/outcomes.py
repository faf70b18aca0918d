"""Decides and writes down how a record without a verdict ends, and stops a run in which too many records fail."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from anomaly import errors
from anomaly.pipeline.fault import Refusals
from anomaly.pipeline.runs import FAILED_EVENTS, failure_rate_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anomaly.models.records import Claim
    from anomaly.pipeline.chunks import Chunks
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Timings

log = logging.getLogger(__name__)

JUDGED_AFTER = 50
"""Records after which the failure rate is judged while the run works."""
OUTAGES = (errors.ArchiveUnavailable, errors.DatabaseUnavailable)
"""Failures of what every record needs: they are waited for, and no record pays for them with an attempt."""


class Outcome(NamedTuple):
    """The end of a record: an event of the tally, and the error that led to it."""

    event: str
    error: errors.AnomalyError | None = None


class Outcomes:
    """For the event loop's thread.

    Args:
        write: runs a statement, and again while the database is away.
        keep: archives an unreadable answer, and returns its error with the key.
        may_end: tasks that may end after a stop.
        stop: stops the task.
    """

    def __init__(
        self,
        parts: Parts,
        chunks: Chunks,
        *,
        write: Callable[[Callable[[], str]], Awaitable[str]],
        keep: Callable[[errors.DetectorAnswerInvalid], Awaitable[errors.DetectorAnswerInvalid]],
        may_end: set[asyncio.Task[Any] | None],
        stop: Callable[[BaseException], None],
    ) -> None:
        self._parts = parts
        self._chunks = chunks
        self._write_down = write
        self._keep = keep
        self._may_end = may_end
        self._stop = stop
        limit = parts.settings.refusals_max
        self.images = Refusals(limit=limit, proven=parts.detector_proven)
        self.detector = Refusals(limit=limit, proven=parts.detector_proven)
        self.database = Refusals(limit=limit, proven=parts.detector_proven)
        self._worked = self._failed = 0

    def count(self, outcome: Outcome) -> None:
        """Count how a record ended; stop the task if too many failed."""
        failed = outcome.event in FAILED_EVENTS
        self._failed += failed
        self._worked += failed or outcome.event in {"committed", "reused"}
        if self._worked >= JUDGED_AFTER and (error := failure_rate_error(self._parts.run, failed=self._failed, worked=self._worked)):
            self._stop(error)

    def settle(self) -> None:
        """Decide about the refusals that wait, because no other record is in work."""
        self.images.settle()
        self.detector.settle()
        self.database.settle()

    async def of_failure(self, claim: Claim, error: BaseException, timings: Timings) -> Outcome:
        """Write down how a failed record ends, and return it. Raises an error that concerns the whole run.

        Any other exception is a fault of ours with this record: it fails for now, and the others are worked.
        """
        if not isinstance(error, errors.AnomalyError):
            if not isinstance(error, Exception):
                raise error
            log.warning("record id=%d failed with an unexpected error", claim.record_id, exc_info=error)
            error = errors.InternalError(f"{type(error).__name__}: {error}")
        log.debug("record failed id=%d: %s: %s", claim.record_id, error.code, error)
        match error:
            case errors.LeaseLost():
                return Outcome(errors.LeaseLost.code)
            case errors.Throttled():
                for waiting in self._chunks.close():
                    given_back = await self._give_back(waiting, error)
                    await self._chunks.end(waiting, given_back.event, given_back.error, {})
                return await self._give_back(claim, error)
            case errors.RecordRejected() | errors.DetectorAnswerInvalid() | errors.ResultRefused():
                return await self._refused(claim, error, timings)
            case errors.Retryable() if self._parts.holder.last_try and not isinstance(error, OUTAGES):
                return await self._defer(claim, error, timings)
            case errors.Retryable():
                log.info("record left for the next try id=%d %s: %s", claim.record_id, error.code, error)
                return Outcome("unfinished", error)
            case _:
                raise error

    async def _refused(self, claim: Claim, error: errors.AnomalyError, timings: Timings) -> Outcome:
        self._may_end.add(asyncio.current_task())
        if isinstance(error, errors.DetectorAnswerInvalid):
            error = await self._keep(error)
        with self._chunks.set_aside():
            run_at_fault = await self._service(error).concerns_run(error)
        if run_at_fault:
            self._stop(error.run_error(f"{error}; no other record was accepted, so the run stops and nothing is quarantined"))
            # A configuration that has worked before is less likely to be wrong. Each refusal counts, so that bad records that are left
            # alone end in quarantine.
            proven = self._service(error).proven and error.run_error is errors.Misconfigured
            return await (self._defer(claim, error, timings) if proven else self._release(claim, error))
        if isinstance(error, errors.Retryable):
            return await self._defer(claim, error, timings)
        quarantine = partial(self._parts.store.quarantine, claim, error=error, timings=dict(timings))
        return await self._write(claim, "quarantined", error, quarantine)

    def _service(self, error: errors.AnomalyError) -> Refusals:
        """Return the refusals of the service that *error* comes from."""
        match error:
            case errors.ImageDenied() | errors.AddressBlocked():
                return self.images
            case errors.ResultRefused():
                return self.database
            case _:
                return self.detector

    async def _defer(self, claim: Claim, error: errors.AnomalyError, timings: Timings) -> Outcome:
        return await self._write(claim, "deferred", error, partial(self._parts.store.defer, claim, error=error, timings=dict(timings)))

    async def _release(self, claim: Claim, error: errors.AnomalyError) -> Outcome:
        """Make the record due again with the reason, and count no attempt."""
        return await self._write(claim, "released", error, partial(self._parts.store.give_back, claim, error=error, not_before_s=0.0))

    async def _give_back(self, claim: Claim, error: errors.Throttled) -> Outcome:
        give_back = partial(self._parts.store.give_back, claim, error=error, not_before_s=error.retry_after_s)
        return await self._write(claim, "throttled", error, give_back)

    async def _write(self, claim: Claim, event: str, error: errors.AnomalyError, write: Callable[[], str]) -> Outcome:
        try:
            status = await self._write_down(write)
        except errors.LeaseLost:
            return Outcome(errors.LeaseLost.code)
        log.warning("record %s id=%d status=%s %s: %s", event, claim.record_id, status, error.code, error)
        return Outcome("quarantined" if status == "quarantined" else event, error)
