"""A task and the part of the detector that the fleet leaves it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.models.quota import Demand, Quota, Share, tokens_of
from tests.parts.fakes import SETTINGS, Bench, FakeDetector, FakeFleet, FakeStore, claims

if TYPE_CHECKING:
    from anomaly.models.answers import Answer
    from anomaly.models.records import Image

LONG_S = 3600.0


def test_a_task_asks_for_a_part_at_once_and_leaves_it_at_its_end() -> None:
    bench = Bench(FakeStore([claims(range(20))]), fleet=FakeFleet(Quota(concurrency=4)))
    bench.drain()
    first, *_, last = bench.fleet.demands
    assert first.wanted == SETTINGS.detector_slots
    assert last == Demand()


def test_a_task_never_has_more_in_flight_than_the_fleet_leaves_it() -> None:
    fleet = FakeFleet(Quota(concurrency=2), lambda _: Share(concurrency=2))
    bench = Bench(FakeStore([claims(range(40))]), fleet=fleet, detector=FakeDetector(lambda _n, _b: time.sleep(0.001)))
    bench.drain()
    assert bench.detector.most_in_flight == 2
    assert set(bench.store.outcome.values()) == {"committed"}


def test_a_task_starts_as_many_requests_as_it_was_granted_and_no_more() -> None:
    granted = [3, 4, 0, 5]

    def script(demand: Demand) -> Share:
        return Share(concurrency=demand.wanted, starts=(0.0,) * (granted.pop(0) if granted and demand.requests else 0))

    fleet = FakeFleet(Quota(requests_per_minute=60), script)
    bench = Bench(FakeStore([claims(range(12))]), fleet=fleet)
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(12), "committed")
    assert not granted
    assert not any(demand.returned for demand in fleet.demands)


def test_a_pause_that_the_detector_asks_for_is_told_to_the_fleet_at_once() -> None:
    fails = [errors.Throttled("429", retry_after_s=0.5)]
    bench = Bench(FakeStore([claims([1])]), detector=FakeDetector(lambda _n, _b: fails.pop() if fails else None))
    bench.drain()
    assert 0.5 in {demand.hold_s for demand in bench.fleet.demands}


def test_a_pause_that_another_task_was_asked_for_holds_this_one_back_and_a_long_one_gives_its_records_back() -> None:
    fleet = FakeFleet(Quota(concurrency=4), lambda _: Share(concurrency=4, hold_s=LONG_S))
    bench = Bench(FakeStore([claims(range(3))]), fleet=fleet)
    bench.drain()
    assert not bench.detector.asked
    assert {outcome.partition(" for ")[0] for outcome in bench.store.outcome.values()} == {"given back"}


def test_an_answer_that_says_nothing_remains_of_a_limit_lets_the_next_request_wait() -> None:
    class LastOfTheMinute(FakeDetector):
        def ask(self, image: Image, *, idempotency_key: str) -> Answer:
            return replace(super().ask(image, idempotency_key=idempotency_key), pause_s=LONG_S)

    bench = Bench(FakeStore([claims(range(20))]), detector=LastOfTheMinute(), settings=replace(SETTINGS, detector_slots=1))
    bench.drain()
    assert sum(bench.detector.asked.values()) == 1
    assert bench.store.outcome.pop(next(iter(bench.detector.asked))) == "committed"
    assert {outcome.partition(" for ")[0] for outcome in bench.store.outcome.values()} == {"given back"}


def test_a_fleet_that_cannot_be_heard_for_a_moment_stops_nothing() -> None:
    lost = [errors.DatabaseUnavailable("cut")]

    def script(demand: Demand) -> Share:
        if lost:
            raise lost.pop()
        return Share(concurrency=demand.wanted, starts=(0.0,) * demand.requests)

    bench = Bench(FakeStore([claims(range(6))]), fleet=FakeFleet(Quota(concurrency=4), script))
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(6), "committed")


def test_a_schema_without_shares_stops_the_task() -> None:
    def script(_: Demand) -> Share:
        raise errors.Misconfigured("no such function")

    bench = Bench(FakeStore([claims(range(6))]), fleet=FakeFleet(Quota(concurrency=4), script))
    with pytest.raises(errors.Misconfigured):
        bench.drain()


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        ({"images": 1}, None),
        ({"total_tokens": 12}, 12.0),
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, 12.0),
        ({"input_tokens": 10, "output_tokens": 2}, 12.0),
        ({"input_tokens": True, "output_tokens": "many"}, None),
    ],
)
def test_the_tokens_of_an_answer_are_read_as_the_dialects_write_them(usage: dict[str, object] | None, tokens: float | None) -> None:
    assert tokens_of(usage) == tokens
