"""Limits requests to the detector: concurrency, quota and pauses, and a circuit breaker."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from anomaly.models.quota import Demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.quota import Quota, Share

SLOW_FACTOR = 2.0
"""Answers that take this many times as long as the baseline mean that the detector has a queue, which more requests only lengthen."""
SLOW_MIN_S = 0.1
"""A smaller difference from the baseline may come from the network or from this machine."""
SOFT_DECREASE = 0.9
HARD_DECREASE = 0.5
PREFETCH_RATIO = 8
"""One request waits ahead for this many slots; otherwise a slot would be idle until the event loop has handled its answer."""
BASELINE_DRIFT = 1.02
"""The baseline grows by this factor with each window, so that a detector that stays slower is accepted."""


class Limit:
    """Limits the requests in flight: adds one after each window in which all went well, and takes a share off after one that did not.

    Additive increase and multiplicative decrease lead those who share a resource to equal parts of it without knowing of each
    other (Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion Avoidance, 1989). A window is as many
    answers as may be in flight. Begins at its ceiling, for that is what the settings say the detector can do.
    """

    def __init__(self, *, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(ceiling)
        self._window: list[float] = []
        self._baseline_s: float | None = None
        self._reached = False
        self._fell_at = float("-inf")

    def __int__(self) -> int:
        return max(1, int(self._limit))

    def started(self, in_flight: int) -> None:
        """Record a request that began, with which *in_flight* are under way."""
        self._reached = self._reached or in_flight >= int(self)

    def answered(self, took_s: float) -> None:
        """Record a request that was answered in *took_s* seconds."""
        self._window.append(took_s)
        if len(self._window) < int(self):
            return
        took_s = median(self._window)
        baseline_s = self._baseline_s or took_s
        self._baseline_s = min(took_s, baseline_s * BASELINE_DRIFT)
        if took_s > max(SLOW_FACTOR * baseline_s, baseline_s + SLOW_MIN_S):
            self._limit = max(1.0, self._limit * SOFT_DECREASE)
        elif self._reached:  # what was not tried says nothing about more
            self._limit = min(self._ceiling, self._limit + 1.0)
        self._begin_window()

    def overloaded(self, *, began: float, now: float) -> None:
        """Record a request that was refused for lack of capacity. Requests that were under way together count once."""
        if began > self._fell_at:
            self._limit = max(1.0, self._limit * HARD_DECREASE)
            self._fell_at = now
            self._begin_window()

    def _begin_window(self) -> None:
        self._window.clear()
        self._reached = False


class Throttle:
    """Decides if a request to the detector may start now. Never waits. For one thread."""

    def __init__(self, *, slots: int, quota: Quota, clock: Callable[[], float]) -> None:
        self._limit = Limit(ceiling=slots)
        self._slots = slots
        self._ahead = 0 if quota.stated else slots // PREFETCH_RATIO
        self._quota = quota
        self._clock = clock
        self._held_until = clock()
        self._share_until = float("-inf")
        self._concurrency = 0
        self._requests = 0
        self._started = 0
        self._most_in_flight = slots
        self._tokens = _Tokens(quota)
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        if self._quota.concurrency is None:
            return int(self._limit)
        return min(int(self._limit), self._concurrency) if self._clock() < self._share_until else 0

    def try_acquire(self) -> bool:
        """Take a slot if one is free, this task's share of the quota allows it, and the detector did not ask for a pause.

        At full concurrency a few more slots are given than there are: as many threads as slots send the requests, and the first one that
        has its answer begins with the next request at once.
        """
        limit = self.limit
        most = limit + self._ahead if limit == self._slots else limit
        if self.in_flight >= most or self.wait_s() > 0 or (self._quota.counts_requests and self._requests < 1):
            return False
        self.in_flight += 1
        self._requests -= 1
        self._started += 1
        self._most_in_flight = max(self._most_in_flight, self.in_flight)
        self._limit.started(self.in_flight)
        return True

    def give_back(self) -> None:
        """Return a slot that was not used."""
        self.in_flight -= 1
        self._requests += 1
        self._started -= 1

    def answered(self, *, began: float, tokens: float | None) -> None:
        """Record a request that was answered: when it began, and the tokens that the detector counts for it."""
        self.in_flight -= 1
        self._tokens.used(tokens)
        self._limit.answered(self._clock() - began)

    def failed(self, *, began: float, overloaded: bool) -> None:
        """Record a request that failed: when it began, and if the detector refused it for lack of capacity."""
        self.in_flight -= 1
        if overloaded:
            self._limit.overloaded(began=began, now=self._clock())

    def hold(self, seconds: float) -> None:
        """Start nothing for *seconds*. Never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Return the seconds until requests may start again; 0 if they may."""
        return max(0.0, self._held_until - self._clock())

    # ── the quota that all tasks share

    def demand(self, *, waiting: int, hold_s: float) -> Demand:
        """Return the demand for the next share while *waiting* records wait. The rest of the last share goes back with it."""
        busy = max(self._most_in_flight, self._started) + waiting
        demand = Demand(
            wanted=min(int(self._limit), busy + 1),
            in_flight=self.in_flight,
            requests=min(2 * int(self._limit), busy) if self._quota.counts_requests else 0,
            unused=max(0, self._requests),
            tokens_each=self._tokens.each,
            tokens_back=self._tokens.settle(unused=max(0, self._requests)),
            hold_s=hold_s,
        )
        self._requests = self._started = 0
        self._most_in_flight = self.in_flight
        return demand

    def take(self, share: Share, *, until: float) -> None:
        """Use a share until a time of the clock."""
        self._concurrency, self._share_until = share.concurrency, until
        self._requests = share.requests
        self._tokens.granted(share.requests)


class _Tokens:
    """Estimates the tokens of a request from the last answers; before the first one, one request a second uses the quota."""

    def __init__(self, quota: Quota) -> None:
        self.each = max(1.0, (quota.tokens_per_minute or 60.0) / 60.0)
        self._granted_each = self.each
        self._known = False
        self._back = 0.0

    def granted(self, requests: int) -> None:
        self._granted_each = self.each if requests else self._granted_each

    def used(self, tokens: float | None) -> None:
        if tokens is None:
            return
        self._back += self._granted_each - tokens
        self.each = max(1.0, 0.8 * self.each + 0.2 * tokens if self._known else tokens)
        self._known = True

    def settle(self, *, unused: int) -> float:
        """Return the tokens that were granted and not used since the last call."""
        back, self._back = self._back + unused * self._granted_each, 0.0
        return back


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
