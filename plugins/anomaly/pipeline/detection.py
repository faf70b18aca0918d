"""Asks the detector: as many requests at once as it can take, again after a failure, and none while it asks for a pause."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from anomaly import backoff
from anomaly.errors import AnomalyError, DetectorAnswerInvalid, DetectorDown, DetectorOverloaded, LeaseLost, Retryable, Throttled
from anomaly.models.quota import tokens_of
from anomaly.pipeline.fault import Breaker, ControlRequest
from anomaly.pipeline.quota import QuotaSharing
from anomaly.pipeline.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.answers import Answer
    from anomaly.models.records import Claim
    from anomaly.pipeline.fault import Refusals
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Stage, Timings

log = logging.getLogger(__name__)

MAX_JITTER = 1.1
INVALID_RETRIES = 1  # further requests after an unreadable answer, which most likely comes again


class DetectionScheduler:
    """Decides which record asks the detector, and when. For the event loop's thread.

    Args:
        refusals: limits the first requests to a detector that has not answered yet.
        stage: as many threads as slots.
        sharing: one thread for the statement that shares the detector's quota.
        paid: tasks whose request is in flight or answered; they may end after a stop.
        may_start: cleared while nothing new may be asked.
        check: raises LeaseLost if a record is held by someone else.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        refusals: Refusals,
        stage: Stage,
        sharing: Stage,
        paid: set[asyncio.Task[Any] | None],
        may_start: asyncio.Event,
        check: Callable[[Claim], None],
    ) -> None:
        self._parts, self._settings = parts, parts.settings
        self._refusals = refusals
        self._stage = stage
        self._paid = paid
        self._may_start = may_start
        self._check = check
        self._throttle = Throttle(slots=self._settings.detector_slots, quota=parts.fleet.quota, clock=parts.clock)
        self._breaker = Breaker(failures=self._settings.breaker_failures)
        self._waiting: deque[asyncio.Future[Throttled | None]] = deque()
        self.quota = QuotaSharing(parts, throttle=self._throttle, stage=sharing, waiting=self._waiting, on_share=self._shared)
        self._unwritten = 0
        # Requests in flight and answers that are not archived yet: a killed task has to ask for these again.
        self._unwritten_max = self._settings.detector_slots + max(self._settings.detector_slots, self._settings.archive_workers)
        self._answered_began_at = float("-inf")
        """When the latest request began that was answered."""
        self._control = ControlRequest(stage, parts.ask_control)
        self._wake: asyncio.TimerHandle | None = None
        self._closed = False

    def running_low(self) -> bool:
        """Return whether the detector may run out of records before a request is answered."""
        return 2 * len(self._waiting) < self._settings.detector_slots

    async def ask(self, claim: Claim, request: Callable[[], Answer], timings: Timings) -> Answer:
        """Return the detector's answer to a record's request; the caller calls `written` once it is archived.

        Raises:
            Throttled: the detector asks for a longer pause than a task waits.
            DetectorDown: the detector failed again and again, for whatever record.
            Retryable: this record failed after all its retries.
        """
        failures, invalid, failing_since, throttled_since = 0, 0, 0.0, None
        while True:
            await self._slot(claim, first=throttled_since is not None)
            began = self._throttle.begin()
            try:
                answer = await self._stage.run(request, timings=timings)
            except Throttled as exc:
                exc.retry_after_s = min(exc.retry_after_s, self._settings.detector_pause_max_s)
                self._free_slot(began, exc)
                log.info("detector asks to hold back for %.1f s", exc.retry_after_s)
                throttled_since = self._parts.clock() if throttled_since is None else throttled_since
                self._pause(exc.retry_after_s)
                if self._parts.clock() - throttled_since >= self._settings.throttle_patience_s:
                    self._give_back_waiting(exc.retry_after_s)
                    raise
            except DetectorAnswerInvalid as exc:
                self._free_slot(began, exc)
                self._breaker.succeeded()
                invalid += 1
                if invalid > INVALID_RETRIES or not self._refusals.accepted:
                    raise
            except Retryable as exc:
                self._free_slot(began, exc)
                failing_since = failing_since if failures else self._parts.clock()
                failures += 1
                await self._judge(claim, exc, failures, failing_since)
                wait_s = backoff.delay_s(failures, base_s=self._settings.detector_backoff_s, cap_s=60.0, rng=self._parts.rng)
                self._parts.metrics.retried("detector")
                log.info("detector is asked again id=%d in_s=%.1f: %s", claim.record_id, wait_s, exc)
                await asyncio.sleep(wait_s)
            except BaseException as exc:
                self._free_slot(began, exc)
                raise
            else:
                self._unwritten += 1
                self._throttle.answered(began=began, took_s=answer.latency_ms / 1000, tokens=tokens_of(answer.verdict.usage))
                self._breaker.succeeded()
                self._refusals.accept()
                self._control.request = request
                self._answered_began_at = max(self._answered_began_at, began)
                self.quota.report_answer()
                if answer.pause_s:
                    self._pause(min(answer.pause_s, self._settings.detector_pause_max_s))
                self.dispatch()
                return answer

    def written(self) -> None:
        """Count an answer as archived, or as one that will not be."""
        self._unwritten -= 1
        self.dispatch()

    async def _judge(self, claim: Claim, error: Retryable, failures: int, failing_since: float) -> None:
        """Raise if a failed record is not asked about again: its own error, or DetectorDown.

        The record is at fault if the detector, after the record's first failure, answered for another one or for the control image.
        Otherwise the detector is, and no record pays for it with an attempt.
        """
        if self._answered_began_at > failing_since:
            self._parts.blamed.add(claim.record_id)
        given_up = failures > self._settings.detector_retries
        if claim.record_id not in self._parts.blamed and (self._breaker.failed() or (given_up and self._parts.holder.last_try)):
            began = self._parts.clock()
            if not await self._control.is_answered():
                delay_s = self._parts.retry_delay_s(hint_s=self._throttle.wait_s())
                raise DetectorDown(f"the detector failed again and again: {error}", delay_s=delay_s)
            self._parts.blamed.add(claim.record_id)
            self._breaker.succeeded()
            self._answered_began_at = max(self._answered_began_at, began)
            self.dispatch()
        if given_up:
            raise error

    # ── slots

    async def _slot(self, claim: Claim, *, first: bool) -> None:
        """Wait for a free slot, in the order of the calls; *first* goes before all that wait."""
        if self._throttle.wait_s() > MAX_JITTER * self._settings.detector_hold_s:
            raise _pause_too_long(self._throttle.wait_s())
        turn: asyncio.Future[Throttled | None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        self.dispatch()
        try:
            if error := await turn:
                raise error
            self._check(claim)
        except (asyncio.CancelledError, LeaseLost):
            if not turn.cancelled() and turn.result() is None:
                self._throttle.give_back()
                self._refusals.probes -= 1
                self.dispatch()
            raise
        self._paid.add(asyncio.current_task())

    def dispatch(self) -> None:
        """Let the records that wait longest ask, as far as slots, quota and unwritten answers allow."""
        throttle = self._throttle
        while self._waiting and self._may_start.is_set() and throttle.in_flight + self._unwritten < self._unwritten_max:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif self._refusals.may_probe and not self._control.in_flight and throttle.try_acquire():
                self._refusals.probes += 1
                self._waiting.popleft().set_result(None)
            else:
                self._wake_at_next_start()
                return

    def _wake_at_next_start(self) -> None:
        if (wait_s := self._throttle.next_start_s()) and (self._wake is None or self._wake.when() <= asyncio.get_running_loop().time()):
            self._wake = asyncio.get_running_loop().call_later(wait_s, self.dispatch)

    def _free_slot(self, began: float, error: BaseException) -> None:
        if isinstance(error, Throttled | DetectorOverloaded):
            self._parts.metrics.throttled(error)
        self._throttle.failed(began=began, overloaded=isinstance(error, Throttled | DetectorOverloaded))
        self._paid.discard(asyncio.current_task())
        if not (isinstance(error, AnomalyError) and error.may_concern_run):
            self._refusals.probes -= 1
        if self._closed and isinstance(error, Retryable):
            raise asyncio.CancelledError  # it would be asked again
        self.dispatch()

    def close(self) -> None:
        """Start no further request."""
        self._closed = True
        self._waiting.clear()

    # ── pauses

    def _pause(self, pause_s: float) -> None:
        """Hold back as long as the detector asks, and let the other tasks know."""
        self.quota.report_pause(pause_s)
        self._hold(pause_s)

    def _hold(self, pause_s: float) -> None:
        wait_s = pause_s * self._parts.rng.uniform(1.0, MAX_JITTER)
        self._throttle.hold(wait_s)
        self.report()  # a short pause may be over before the next sample
        if pause_s > self._settings.detector_hold_s:
            self._give_back_waiting(pause_s)
        asyncio.get_running_loop().call_later(wait_s, self.dispatch)

    def _give_back_waiting(self, pause_s: float) -> None:
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_result(_pause_too_long(pause_s))

    def _shared(self, hold_s: float) -> None:
        if hold_s > max(0.1, self._throttle.wait_s()):
            self._hold(hold_s)
        self.report()
        self.dispatch()

    def report(self) -> None:
        """Send the gauges: requests that may be in flight, that are, and seconds for which none may start."""
        in_flight = min(self._throttle.in_flight, self._settings.detector_slots)
        self._parts.metrics.throttle(limit=self._throttle.limit, in_flight=in_flight, held_s=self._throttle.wait_s())


def _pause_too_long(pause_s: float) -> Throttled:
    return Throttled("the detector asks for a longer pause than a task waits", retry_after_s=pause_s)
