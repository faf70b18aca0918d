"""A stated quota is used to at least 95 % and never exceeded in any minute: the real statement and throttles, under a clock of the test."""

from __future__ import annotations

import heapq
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from anomaly.db.detector_quota import DetectorQuotaStore
from anomaly.models.quota import Quota
from anomaly.pipeline.quota import RENEWAL_S
from anomaly.pipeline.throttle import Throttle
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NETWORK_S = 0.2
"""Most time between a request's start and its arrival."""
CLOCK = """
create schema fake;
create table fake.clock (at double precision);
insert into fake.clock values (0);
create function fake.clock_timestamp() returns timestamptz language sql as $$select to_timestamp(1e9 + at) from fake.clock$$;
"""


@pytest.fixture
def db(database: str) -> Iterator[RecordsDb]:
    """A database whose clock stands where the test sets it."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CLOCK)
    with RecordsDb(make_conninfo(database, options="-c search_path=fake,pg_catalog")) as db:
        yield db


class Fleet:
    """Tasks that ask one detector, each with more records than it can send. Times in seconds."""

    def __init__(self, db: RecordsDb, quota: Quota, *, tasks: int, latency_s: float, tokens: Callable[[], float] = lambda: 1.0) -> None:
        self.now, self._events, self._number = 0.0, list[Any](), 0
        self._db, self._rng, self._latency_s, self._tokens = db, Random(7), latency_s, tokens
        self.arrivals: list[tuple[float, float]] = []
        self.calls = 0
        self._wakes: dict[int, float] = {}
        slots = max(32, int(1.5 * latency_s * (quota.requests_per_minute or 6000) / 60 / tasks) + 4)
        for n in range(tasks):
            store = DetectorQuotaStore(db.database, detector="d", holder=str(n), quota=quota)
            throttle = Throttle(slots=slots, quota=quota, clock=lambda: self.now)
            self._at(self._rng.random(), self._renew, store, throttle)

    def _at(self, at: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, action, arguments))

    def run(self, seconds: float) -> None:
        while self._events[0][0] <= seconds:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)

    def _renew(self, store: DetectorQuotaStore, throttle: Throttle) -> None:
        demand, asked_at = throttle.demand(waiting=100, hold_s=0.0), self.now
        there_s, back_s = self._rng.uniform(0, 0.02), self._rng.uniform(0, 0.02)
        self._db.sql.execute("update fake.clock set at = %s", [self.now + there_s])
        share = store.share(demand)
        self.calls += 1

        def take() -> None:
            throttle.take(share, asked_at=asked_at, expires_s=store.expires_s)
            self._send(throttle)

        self._at(self.now + there_s + back_s, take)
        self._at(self.now + RENEWAL_S, self._renew, store, throttle)

    def _send(self, throttle: Throttle) -> None:
        while throttle.try_acquire():
            began, tokens = throttle.begin(), self._tokens()
            self.arrivals.append((self.now + self._rng.uniform(0, NETWORK_S), tokens))
            self._at(self.now + self._latency_s, self._answer, throttle, began, tokens)
        wait_s = throttle.next_start_s()
        if wait_s and self._wakes.get(id(throttle), 0.0) <= self.now:
            self._wakes[id(throttle)] = self.now + wait_s + 1e-6
            self._at(self._wakes[id(throttle)], self._send, throttle)

    def _answer(self, throttle: Throttle, began: float, tokens: float) -> None:
        throttle.answered(began=began, took_s=self._latency_s, tokens=tokens)
        self._send(throttle)

    def worst_minute(self) -> float:
        """Return the most that arrived in any 60 seconds."""
        arrivals, first, total, most = sorted(self.arrivals), 0, 0.0, 0.0
        for at, amount in arrivals:
            total += amount
            while arrivals[first][0] < at - 60:
                total -= arrivals[first][1]
                first += 1
            most = max(most, total)
        return most

    def rate(self) -> float:
        """Return what arrived in a minute on average, from the first arrival to the last."""
        arrivals = sorted(self.arrivals)
        return sum(amount for _, amount in arrivals[:-1]) / (arrivals[-1][0] - arrivals[0][0]) * 60


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize("quota", [1, 2, 3, 7, 30, 59, 60, 61, 90, 100, 600, 1000, 6000])
def test_a_quota_of_requests_is_used_and_never_exceeded(db: RecordsDb, quota: int, tasks: int) -> None:
    for latency_s in (0.02, 5.0) if quota in {7, 60, 600} else (0.6,):
        db.sql.execute("truncate anomaly.detectors, anomaly.detector_shares")
        fleet = Fleet(db, Quota(requests_per_minute=quota), tasks=tasks, latency_s=latency_s)
        seconds = 300 if quota < 7 else 130
        fleet.run(seconds)
        print(f"| {quota} | {tasks} | {latency_s} | {fleet.rate() / quota:.1%} | {fleet.worst_minute():.0f} |")  # noqa: T201
        assert fleet.rate() >= 0.95 * quota
        assert fleet.worst_minute() <= quota
        assert fleet.calls <= (seconds + 1) * tasks


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_a_quota_of_tokens_is_used_and_never_exceeded(db: RecordsDb, spread: float, tasks: int) -> None:
    rng = Random(3)
    fleet = Fleet(
        db, Quota(tokens_per_minute=600_000), tasks=tasks, latency_s=0.6, tokens=lambda: 1000 * rng.uniform(1 - spread, 1 + spread)
    )
    fleet.run(180)
    print(f"| {spread} | {tasks} | {fleet.rate() / 600_000:.1%} | {fleet.worst_minute() / 600_000:.1%} |")  # noqa: T201
    assert fleet.rate() >= 0.95 * 600_000
    assert fleet.worst_minute() <= 600_000
