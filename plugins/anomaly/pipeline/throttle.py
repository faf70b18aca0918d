"""Holds back: how much may be in flight, a pause when the detector asks for one, and a breaker for what is down."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from anomaly.models.quota import Demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.quota import Quota, Share

GROWN = 2.0
"""A detector whose answers take so many times as long as usual has a queue, which more requests only make longer."""
NOTICEABLY_S = 0.1
"""Less than that is the network's, or ours."""
GENTLY = 0.9
SHARPLY = 0.5
AHEAD_OF = 8
"""For so many slots one more request waits for whichever is free first; else a slot would be idle until the loop has heard of it."""
FORGETS = 1.02
"""What is usual grows by so much with each window, so that a detector that is slower for good is accepted."""


class Limit:
    """How many requests may be in flight: one more after each window in which all went well, a part of it after one that did not.

    Additive increase and multiplicative decrease lead those who share a resource to equal parts of it without knowing of each
    other (Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion Avoidance, 1989). A window is as many
    answers as may be in flight. Begins at its ceiling, for that is what the settings say the detector can do.
    """

    def __init__(self, *, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(ceiling)
        self._window: list[float] = []
        self._usual_s: float | None = None
        self._reached = False
        self._fell_at = float("-inf")

    def __int__(self) -> int:
        return max(1, int(self._limit))

    def started(self, in_flight: int) -> None:
        """With this request so many are in flight."""
        self._reached = self._reached or in_flight >= int(self)

    def answered(self, took_s: float) -> None:
        """A request was answered in so many seconds."""
        self._window.append(took_s)
        if len(self._window) < int(self):
            return
        took_s = median(self._window)
        usual_s = self._usual_s or took_s
        self._usual_s = min(took_s, usual_s * FORGETS)
        if took_s > max(GROWN * usual_s, usual_s + NOTICEABLY_S):
            self._limit = max(1.0, self._limit * GENTLY)
        elif self._reached:  # what was not tried says nothing about more
            self._limit = min(self._ceiling, self._limit + 1.0)
        self._begin_window()

    def overloaded(self, *, began: float, now: float) -> None:
        """A request that began then was refused for lack of time. Those that were under way together count once."""
        if began > self._fell_at:
            self._limit = max(1.0, self._limit * SHARPLY)
            self._fell_at = now
            self._begin_window()

    def _begin_window(self) -> None:
        self._window.clear()
        self._reached = False


class Throttle:
    """Says when the next request to the detector may start. For one thread, which never waits in here."""

    def __init__(self, *, slots: int, quota: Quota, clock: Callable[[], float]) -> None:
        self._limit = Limit(ceiling=slots)
        self._slots = slots
        self._ahead = 0 if quota.stated else slots // AHEAD_OF
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
        """Take a slot if one is free, the fleet's quota allows it, and nobody asked to hold back.

        While all is well a few more are given than there are slots: as many threads as slots send the requests, and the one that has its
        answer first begins with the next one at once.
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
        """The slot was not used."""
        self.in_flight -= 1
        self._requests += 1
        self._started -= 1

    def answered(self, *, began: float, tokens: float | None) -> None:
        """A request that began then has its answer, for which the detector counts so many tokens."""
        self.in_flight -= 1
        self._tokens.used(tokens)
        self._limit.answered(self._clock() - began)

    def failed(self, *, began: float, overloaded: bool) -> None:
        """A request that began then has none."""
        self.in_flight -= 1
        if overloaded:
            self._limit.overloaded(began=began, now=self._clock())

    def hold(self, seconds: float) -> None:
        """Start nothing for so many seconds; never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Seconds until requests may start again; 0 when they may."""
        return max(0.0, self._held_until - self._clock())

    # ── the fleet

    def demand(self, *, waiting: int, hold_s: float) -> Demand:
        """What to ask of the fleet while so many records wait; what was left of the last share goes back."""
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
        """Go by this share up to a time of the clock."""
        self._concurrency, self._share_until = share.concurrency, until
        self._requests = share.requests
        self._tokens.granted(share.requests)


class _Tokens:
    """What requests take of the quota of tokens, as the last answers tell; a request a second before the first one does."""

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
        """Tokens that were granted and not used, since the last time."""
        back, self._back = self._back + unused * self._granted_each, 0.0
        return back


class Breaker:
    """Opens after so many failures in a row."""

    def __init__(self, *, failures: int) -> None:
        self._limit = failures
        self._in_a_row = 0

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self) -> bool:
        """Count a failure; true when that makes it too many."""
        self._in_a_row += 1
        return self._in_a_row >= self._limit
