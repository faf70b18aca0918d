"""The number of requests in flight falls where fewer of them lose nothing, and nowhere else. A simulated detector, and its clock."""

from __future__ import annotations

import heapq
from random import Random
from typing import TYPE_CHECKING

import pytest

from anomaly.pipeline.limit import Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    Latency = Callable[[float, int], float]
    """Seconds that an answer takes, by the time at which the request is sent and its number."""

SLOTS = 32


class Fixed:
    """As many requests as slots, whatever happens."""

    current = SLOTS

    def started(self, request: int, *, in_flight: int) -> None: ...
    def answered(self, request: int, took_s: float) -> None: ...


class Detector:
    """Answers *workers* requests at once, by default any number, each after its latency; the others wait in a queue."""

    def __init__(self, latency: Latency, workers: Callable[[float], int] = lambda _: 10_000) -> None:
        self._latency, self._workers = latency, workers
        self._busy: list[float] = []
        self._queue: list[float] = []

    def finishes(self, now: float, number: int) -> float:
        """Return the time of the answer to a request that is sent now."""
        while self._busy and self._busy[0] <= now:
            heapq.heappop(self._busy)
        free = self._workers(now)
        begins = now if len(self._busy) < free else sorted(self._busy)[len(self._busy) - free]
        at = max(now, begins) + self._latency(now, number)
        heapq.heappush(self._busy, at)
        return at


class Run:
    """What came of *records* requests, with as many in flight as the limit allows."""

    def __init__(self, limit: Limit | Fixed, detector: Detector, *, records: int) -> None:
        self.now, self.limits, self.took = 0.0, [(0.0, limit.current)], list[float]()
        under_way: list[tuple[float, int, float]] = []
        sent = 0
        while sent < records or under_way:
            while sent < records and len(under_way) < limit.current:
                heapq.heappush(under_way, (detector.finishes(self.now, sent), sent, self.now))
                limit.started(sent, in_flight=len(under_way))
                sent += 1
            self.now, number, began = heapq.heappop(under_way)
            self.took.append(self.now - began)
            limit.answered(number, self.now - began)
            self.limits.append((self.now, limit.current))

    def limit_at(self, at: float) -> int:
        return [limit for when, limit in self.limits if when <= at][-1]


def noisy(latency: Latency) -> Latency:
    return lambda now, number: latency(now, number) * Random(number).uniform(0.85, 1.15)


def by_image(*choices: tuple[float, float]) -> Latency:
    """Latencies and their weights; an image's is the same whenever it is asked about."""
    latencies, weights = zip(*choices, strict=True)
    return lambda _now, number: Random(number + 1_000_000).choices(latencies, weights)[0]


# Each entry: the latency, and how many records.
INDEPENDENT_OF_LOAD: dict[str, tuple[Latency, int]] = {
    "200 of 20 ms, 400 of 600 ms": (lambda _, n: 0.02 if n < 200 else 0.6, 600),
    "600 ms, then 20 ms": (lambda _, n: 0.6 if n < 400 else 0.02, 1200),
    "steady 200 ms": (lambda _t, _n: 0.2, 2000),
    "ramp 20 ms to 2 s": (lambda _, n: 0.02 + 1.98 * n / 2000, 2000),
    "ramp down": (lambda _, n: 2 - 1.98 * n / 2000, 2000),
    "sawtooth by time, 100 ms to 1 s in 10 s": (lambda t, _: 0.1 + 0.9 * (t % 10) / 10, 2000),
    "sawtooth by time, 100 ms to 1 s in 2 s": (lambda t, _: 0.1 + 0.9 * (t % 2) / 2, 2000),
    "sawtooth by number, 100 ms to 1 s in 40": (lambda _, n: 0.1 + 0.9 * (n % 40) / 40, 2000),
    "sawtooth by number, 100 ms to 1 s in 150": (lambda _, n: 0.1 + 0.9 * (n % 150) / 150, 2000),
    "sawtooth by number, 100 ms to 1 s in 400": (lambda _, n: 0.1 + 0.9 * (n % 400) / 400, 4000),
    "square wave, 100 ms and 1 s, 5 s each": (lambda t, _: 0.1 if t % 10 < 5 else 1.0, 2000),
    "bimodal, half 20 ms, half 2 s": (by_image((0.02, 1), (2.0, 1)), 3000),
    "bimodal, a tenth 3 s": (by_image((0.2, 9), (3.0, 1)), 3000),
    "one of a hundred 20 s": (by_image((0.2, 99), (20.0, 1)), 5000),
    "slow start, 3 s falling to 200 ms": (lambda t, _: max(0.2, 3 - t / 5), 2000),
    "first answers 10 s": (lambda _, n: 10.0 if n < 32 else 0.1, 5000),
    "exponential 300 ms": (lambda _, n: Random(n + 1_000_000).expovariate(1 / 0.3), 3000),
    "lognormal": (lambda _, n: Random(n + 1_000_000).lognormvariate(-1.5, 0.8), 3000),
}


@pytest.mark.parametrize("case", INDEPENDENT_OF_LOAD)
def test_latency_that_does_not_depend_on_load_costs_at_most_15_percent(case: str) -> None:
    latency, records = INDEPENDENT_OF_LOAD[case]
    limited = Run(Limit(ceiling=SLOTS), Detector(noisy(latency)), records=records)
    at_slots = Run(Fixed(), Detector(noisy(latency)), records=records)
    assert limited.now <= 1.15 * at_slots.now


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_a_detector_that_queues_gets_about_as_many_requests_as_it_has_workers_and_loses_no_throughput(workers: int) -> None:
    limited = Run(Limit(ceiling=SLOTS), Detector(noisy(lambda _t, _n: 0.2), lambda _: workers), records=max(1000, 600 * workers))
    at_slots = Run(Fixed(), Detector(noisy(lambda _t, _n: 0.2), lambda _: workers), records=max(1000, 600 * workers))
    last = [limit for _, limit in limited.limits[-len(limited.limits) // 4 :]]
    assert limited.now <= 1.15 * at_slots.now
    assert workers <= sum(last) / len(last) <= max(2.5 * workers, 4)


def test_a_capacity_that_drops_to_a_quarter_and_comes_back_is_followed_within_seconds() -> None:
    def workers(now: float) -> int:
        return 8 if 20 <= now < 60 else 32

    limited = Run(Limit(ceiling=SLOTS), Detector(noisy(lambda _t, _n: 0.2), workers), records=9000)
    at_slots = Run(Fixed(), Detector(noisy(lambda _t, _n: 0.2), workers), records=9000)
    assert limited.now <= 1.15 * at_slots.now
    assert limited.limit_at(40) <= 20
    assert limited.limit_at(75) >= 28


def test_a_queue_that_grows_is_not_driven_into_timeouts() -> None:
    def workers(now: float) -> int:
        return 2 if now >= 20 else 32

    limited = Run(Limit(ceiling=SLOTS), Detector(noisy(lambda _t, _n: 0.5), workers), records=2000)
    assert max(limited.took) < 30
    assert max(limited.took[-200:]) < 3


# ── explicit overloads, and what is not tried


def a_round(limit: Limit, took_s: float, *, full: bool = True) -> None:
    """Send as many requests as a round needs, each answered after *took_s*."""
    for number in range(4 * max(8, limit.current)):
        limit.started(number, in_flight=limit.current if full else limit.current - 1)
    before = limit.current
    for number in range(4 * max(8, before)):
        limit.answered(number, took_s)


def test_an_overload_halves_the_limit_and_requests_that_were_under_way_together_count_once() -> None:
    limit = Limit(ceiling=32)
    for _ in range(10):
        limit.overloaded(began=1.0, now=2.0)
    assert limit.current == 16
    limit.overloaded(began=2.5, now=3.0)
    assert limit.current == 8


def test_after_an_overload_each_full_round_adds_one_and_others_add_nothing() -> None:
    limit = Limit(ceiling=32)
    limit.overloaded(began=0.0, now=1.0)
    a_round(limit, 0.2)
    a_round(limit, 0.2)
    assert limit.current == 18
    a_round(limit, 0.2, full=False)
    assert limit.current == 18


def test_the_limit_never_falls_under_one_nor_rises_over_its_ceiling() -> None:
    limit = Limit(ceiling=4)
    for n in range(20):
        limit.overloaded(began=n + 0.5, now=n + 1.0)
    assert limit.current == 1
    for _ in range(20):
        a_round(limit, 0.2)
        assert limit.current <= 4
    assert limit.current >= 2


def test_requests_that_end_without_an_answer_do_not_stop_the_rounds() -> None:
    limit = Limit(ceiling=8)
    limit.overloaded(began=0.0, now=1.0)
    for number in range(8):
        limit.started(number, in_flight=4)
    limit.dropped(0)
    for number in range(1, 8):
        limit.answered(number, 0.2)
    assert limit.current == 5
