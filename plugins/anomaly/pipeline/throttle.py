"""Decides when requests to the detector may start: concurrency, quota and pauses."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

from anomaly.models.quota import LATE_S, Demand
from anomaly.pipeline.limit import Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.quota import Quota, Share

PREFETCH_RATIO = 8
"""One request waits ahead for this many slots; otherwise a slot would be idle until the event loop has handled its answer."""
LONGEST_HORIZON_S = 2.0
"""A task asks for no more starts than it can use in this time."""


class Grant(NamedTuple):
    """Permission to start a request within a time of this machine's clock."""

    earliest: float
    latest: float
    start: float
    """Time of the database, for which the start was granted."""
    tokens: float


class Throttle:
    """Decides if a request to the detector may start now. Never waits. For one thread."""

    def __init__(self, *, slots: int, quota: Quota, clock: Callable[[], float]) -> None:
        self._limit = Limit(ceiling=slots)
        self._slots = slots
        self._ahead = 0 if quota.stated else slots // PREFETCH_RATIO
        self._quota = quota
        self._needs_grants = quota.counts_requests
        self._clock = clock
        self._held_until = clock()
        self._share_until = float("-inf")
        self._concurrency = 0
        self._at_most: int | None = 0
        self.answers = False
        """True if the detector has answered the single request after a long pause, and the other tasks do not know it yet."""
        self._grants: list[Grant] = []
        self._acquired: list[Grant] = []
        self._started = 0
        self._most_in_flight = slots
        self._began = float("-inf")
        self._latency_s = 0.0
        self._tokens = _Tokens(quota)
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        limit = self._limit.current
        if self._quota.concurrency is not None:
            limit = min(limit, self._concurrency) if self._clock() < self._share_until else 0
        return limit if self._at_most is None else min(limit, self._at_most)

    def try_acquire(self) -> bool:
        """Take a slot if one is free, this task's share of the quota allows it, and the detector did not ask for a pause.

        At full concurrency a few more slots are given than there are: as many threads as slots send the requests, and the first one that
        has its answer begins with the next request at once.
        """
        limit = self.limit
        most = limit + self._ahead if limit == self._slots else limit
        if self.in_flight >= most or self.wait_s() > 0:
            return False
        if self._needs_grants:
            if self.next_start_s() != 0:
                return False
            self._acquired.append(self._grants.pop(0))
        self.in_flight += 1
        self._started += 1
        self._most_in_flight = max(self._most_in_flight, self.in_flight)
        return True

    def next_start_s(self) -> float | None:
        """Return the seconds until the next granted start; None if there is none, or if none is needed."""
        now = self._clock()
        while self._grants and self._grants[0].latest < now:
            del self._grants[0]
        return max(0.0, self._grants[0].earliest - now) if self._grants else None

    def give_back(self) -> None:
        """Return a slot that was not used."""
        self.in_flight -= 1
        self._started -= 1
        if self._acquired:
            self._grants.insert(0, self._acquired.pop())

    def begin(self) -> float:
        """Record that a request begins in a slot that was taken, and return the time, which differs from that of each other request."""
        self._began = max(self._clock(), self._began + 1e-6)
        self._limit.started(self._began, in_flight=self.in_flight)
        self._tokens.began(self._began, self._acquired.pop(0).tokens if self._acquired else None)
        return self._began

    def answered(self, *, began: float, took_s: float, tokens: float | None) -> None:
        """Record a request that was answered: the detector's time for it, and the tokens that it counts."""
        self.in_flight -= 1
        self._tokens.used(began, tokens)
        self._latency_s = 0.8 * self._latency_s + 0.2 * took_s if self._latency_s else took_s
        self._limit.answered(began, took_s)
        if self._at_most == 1:
            self._at_most, self.answers = None, True

    def failed(self, *, began: float, overloaded: bool) -> None:
        """Record a request that failed, and if the detector refused it for lack of capacity."""
        self.in_flight -= 1
        self._tokens.used(began, None)
        self._limit.dropped(began)
        if overloaded:
            self._limit.overloaded(began=began, now=max(self._clock(), self._began))

    def hold(self, seconds: float) -> None:
        """Start nothing for *seconds*. Never shortens an earlier hold."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Return the seconds until requests may start again; 0 if they may."""
        return max(0.0, self._held_until - self._clock())

    # ── the quota that all tasks share

    def demand(self, *, waiting: int, hold_s: float) -> Demand:
        """Return the demand for the next share while *waiting* records wait. Starts that will not be used go back with it."""
        wanted = min(self._limit.current, max(self._most_in_flight, self._started) + waiting + 1)
        starts = 0
        if self._needs_grants:
            in_time = self._limit.current * max(1.0, LONGEST_HORIZON_S / self._latency_s) if self._latency_s else self._limit.current
            starts = min(self._started + waiting, int(in_time)) if waiting else self._started
        self.next_start_s()  # drops those that are over
        returned, self._grants = self._grants[starts:], self._grants[:starts]
        demand = Demand(
            wanted=wanted,
            in_flight=self.in_flight,
            requests=starts - len(self._grants),
            returned=tuple(grant.start for grant in returned),
            tokens_each=self._tokens.each,
            tokens_back=self._tokens.settle(),
            hold_s=hold_s,
            answers=self.answers,
        )
        self._started, self.answers = 0, False
        self._most_in_flight = self.in_flight
        return demand

    def take(self, share: Share, *, asked_at: float, expires_s: float) -> None:
        """Use a share that was asked for at a time of the clock.

        The database's clock was read between then and now, so a start neither begins before its time nor ends after it.
        """
        now = self._clock()
        self._concurrency, self._share_until = share.concurrency, asked_at + expires_s
        if self._at_most != 1 or share.at_most is None or share.hold_s:  # else this task's single request is still under way
            self._at_most = share.at_most
        for start in share.starts:
            after_s = start - share.now_s
            insort(self._grants, Grant(now + after_s, asked_at + after_s + LATE_S, start, self._tokens.each))

    def leave(self) -> Demand:
        """Return the demand of a task that ends: none."""
        returned, self._grants = tuple(grant.start for grant in self._grants), []
        return Demand(returned=returned, tokens_back=self._tokens.settle(), tokens_each=self._tokens.each, answers=self.answers)


class _Tokens:
    """Estimates the tokens of a request from the last answers; before the first one, one request a second uses the quota."""

    def __init__(self, quota: Quota) -> None:
        self.each = max(1.0, (quota.tokens_per_minute or 60.0) / 60.0)
        self._reserved: dict[float, float] = {}
        self._known = False
        self._back = 0.0

    def began(self, request: float, reserved: float | None) -> None:
        if reserved is not None:
            self._reserved[request] = reserved

    def used(self, request: float, tokens: float | None) -> None:
        reserved = self._reserved.pop(request, None)
        if tokens is None:
            return
        self._back += 0.0 if reserved is None else reserved - tokens
        self.each = max(1.0, 0.8 * self.each + 0.2 * tokens if self._known else tokens)
        self._known = True

    def settle(self) -> float:
        """Return the tokens that were reserved and not used since the last call; negative if more were used."""
        back, self._back = self._back, 0.0
        return back
