"""Who asks the detector, and when: as many at once as it can take, again after a failure, and not while it asks for a pause."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from anomaly import backoff
from anomaly.errors import AnomalyError, ArchiveUnavailable, DatabaseUnavailable, DetectorDown, DetectorOverloaded, Retryable, Throttled
from anomaly.models.quota import tokens_of
from anomaly.pipeline.quota import Sharing
from anomaly.pipeline.stages import Step
from anomaly.pipeline.throttle import Breaker, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from anomaly.metrics import Metrics
    from anomaly.pipeline.quota import Fleet
    from anomaly.pipeline.record import Work
    from anomaly.pipeline.stages import Loop
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

MOST_JITTER = 1.1


class Ends(Protocol):
    """What becomes of a record that is not asked for any more; the pipeline decides."""

    def goes_on(self, work: Work) -> bool: ...
    def answered(self, work: Work) -> None: ...
    def give_back(self, work: Work, error: Throttled) -> None: ...
    def failed_for_now(self, work: Work, error: AnomalyError) -> None: ...
    def failed(self, step: Step, work: Work, error: BaseException) -> None: ...
    def stop(self, error: BaseException) -> None: ...
    def retry_delay_s(self, *, hint_s: float) -> float: ...


class Asking:
    """Records that have their image and wait for an answer. For the loop's thread.

    Args:
        blamed: ids of records that failed while the detector answered for others; grows here, and is kept for the task's next try.
    """

    def __init__(
        self,
        *,
        ask: Callable[[Work], None],
        ends: Ends,
        fleet: Fleet,
        loop: Loop,
        blamed: set[int],
        last_try: bool,
        settings: Settings,
        metrics: Metrics,
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        self._ends = ends
        self._loop = loop
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._throttle = Throttle(slots=settings.detector_slots, quota=fleet.quota, clock=clock)
        self._sharing = Sharing(fleet=fleet, throttle=self._throttle, loop=loop, held=self._hold, stop=ends.stop, clock=clock)
        self._breaker = Breaker(failures=settings.breaker_failures)
        self._blamed = blamed
        self._last_try = last_try
        self._works_since = float("-inf")
        """When the latest request began that was answered."""
        self._waiting: deque[Work] = deque()
        self._step = Step("detect", loop.stage("detect", workers=settings.detector_slots), ask, self._answered, self._not_answered)

    @property
    def in_flight(self) -> int:
        """Requests that have no answer yet."""
        return self._throttle.in_flight

    @property
    def wait_s(self) -> float:
        """Seconds for which the detector asked not to be asked."""
        return self._throttle.wait_s()

    @property
    def hungry(self) -> bool:
        """Whether it may run out of records before a request has come back."""
        return 2 * len(self._waiting) < self._settings.detector_slots

    def add(self, work: Work) -> None:
        """Ask for this record when its turn comes."""
        if self.wait_s > MOST_JITTER * self._settings.detector_hold_s:
            self._ends.give_back(work, Throttled("the detector asks for a longer pause than a task waits", retry_after_s=self.wait_s))
        else:
            self._waiting.append(work)

    def start(self, *, in_flight_max: int) -> None:
        """Send as many requests as there are free slots, while so many are not in flight."""
        while self._waiting and self.in_flight < in_flight_max and self._throttle.try_acquire():
            work = self._waiting.popleft()
            work.asked_at = self._clock()
            if self._ends.goes_on(work):
                self._step.stage.submit(self._step, work)
            else:
                self._throttle.give_back()
        self._sharing.go_on(waiting=len(self._waiting))

    def tell(self) -> None:
        """Say how many requests may be in flight, how many are, and for how long none may start."""
        self._metrics.throttle(limit=self._throttle.limit, in_flight=min(self.in_flight, self._settings.detector_slots), held_s=self.wait_s)

    def leave(self) -> None:
        """Leave this task's part of the detector to the others; blocks."""
        self._sharing.leave()

    def clear(self) -> list[Work]:
        """Ask for none of those that wait, and return them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _answered(self, work: Work, _result: None) -> None:
        answer = work.answer
        self._throttle.answered(began=work.asked_at, tokens=tokens_of(answer.verdict.usage) if answer else None)
        self._breaker.succeeded()
        self._works_since = max(self._works_since, work.asked_at)
        if answer and answer.pause_s:
            self._pause(answer.pause_s)
        self._ends.answered(work)

    def _not_answered(self, work: Work, error: BaseException) -> None:
        if overloaded := isinstance(error, Throttled | DetectorOverloaded):
            self._metrics.throttled(error)
        self._throttle.failed(began=work.asked_at, overloaded=overloaded)
        match error:
            case Throttled():
                self._hold_back(work, error)
            case Retryable() if not isinstance(error, ArchiveUnavailable | DatabaseUnavailable):
                self._ask_again(work, error)
            case _:
                self._ends.failed(self._step, work, error)

    def _hold_back(self, work: Work, error: Throttled) -> None:
        """A short pause is waited for in here, a long one gives the records back; neither is an attempt."""
        now = self._clock()
        log.info("detector asks to hold back for %.1f s", error.retry_after_s)
        work.throttled_since = now if work.throttled_since is None else work.throttled_since
        if now - work.throttled_since >= self._settings.throttle_patience_s:
            for each in (work, *self.clear()):
                self._ends.give_back(each, error)
        else:
            self._waiting.appendleft(work)
        self._pause(error.retry_after_s)

    def _pause(self, pause_s: float) -> None:
        """The detector wants a pause, which the others hear of."""
        self._sharing.tell(pause_s)
        self._hold(pause_s)

    def _hold(self, pause_s: float) -> None:
        wait_s = pause_s * self._rng.uniform(1.0, MOST_JITTER)
        self._throttle.hold(wait_s)
        self.tell()  # it may be over before the next time
        if pause_s > self._settings.detector_hold_s:
            error = Throttled("the detector asks for a longer pause than a task waits", retry_after_s=pause_s)
            for each in self.clear():
                self._ends.give_back(each, error)
        else:
            self._loop.call_later(wait_s, lambda: None)  # so that the loop looks around when the pause is over

    def _ask_again(self, work: Work, error: Retryable) -> None:
        work.failures += 1
        work.failing_since = self._clock() if work.failing_since is None else work.failing_since
        if self._works_since > work.failing_since:
            self._blamed.add(work.claim.record_id)
        blamed = work.claim.record_id in self._blamed
        given_up = work.failures > self._settings.detector_retries
        # Whose fault it was is known by who else was answered. Where nobody was, no record may pay for it with an attempt.
        if not blamed and (self._breaker.failed() or (given_up and self._last_try)):
            delay_s = self._ends.retry_delay_s(hint_s=self.wait_s)
            self._ends.stop(DetectorDown(f"the detector failed again and again: {error}", delay_s=delay_s))
        elif given_up:
            self._ends.failed_for_now(work, error)
        else:
            wait_s = backoff.delay_s(work.failures, base_s=self._settings.detector_backoff_s, cap_s=60.0, rng=self._rng)
            self._metrics.retried("detector")
            log.info("detector is asked again id=%d in_s=%.1f: %s", work.claim.record_id, wait_s, error)
            self._loop.call_later(wait_s, lambda: self.add(work) if self._ends.goes_on(work) else None)
