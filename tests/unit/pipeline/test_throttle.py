"""How much may be in flight at the detector: what the task finds out itself, and what the fleet leaves it."""

from __future__ import annotations

from typing import Any

import pytest

from anomaly.models.quota import LATE_S, Quota, Share
from anomaly.pipeline.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_throttle(*, slots: int = 2, clock: Clock | None = None, **quota: float) -> Throttle:
    """A throttle that has its first share already, if no quota is stated."""
    throttle = Throttle(slots=slots, quota=Quota(**quota), clock=clock or Clock())  # type: ignore[arg-type]  # concurrency is a whole number
    if not quota:
        take(throttle)
    return throttle


def take(throttle: Throttle, *, asked_at: float = 0.0, **share: Any) -> None:
    throttle.take(Share(**{"concurrency": 8, **share}), asked_at=asked_at, expires_s=15.0)


def answer(throttle: Throttle, *, tokens: float | None = None) -> None:
    throttle.answered(began=throttle.begin(), took_s=0.2, tokens=tokens)


def starts(throttle: Throttle) -> int:
    """How many requests start until one may not."""
    count = 0
    while throttle.try_acquire():
        count += 1
    return count


# ── the throttle of one task


def test_no_more_requests_start_than_there_are_slots() -> None:
    throttle = a_throttle()
    assert starts(throttle) == 2
    answer(throttle)
    assert starts(throttle) == 1


def test_while_all_is_well_a_few_requests_wait_for_whichever_slot_is_free_first() -> None:
    throttle = a_throttle(slots=32)
    assert starts(throttle) == 36

    refused, *others = [throttle.begin() for _ in range(36)]
    throttle.failed(began=refused, overloaded=True)
    for began in others:
        throttle.answered(began=began, took_s=0.2, tokens=None)
    assert starts(throttle) == throttle.limit == 16


def test_nothing_waits_for_a_slot_where_the_fleet_shares_the_detector() -> None:
    throttle = a_throttle(slots=32, concurrency=64)
    take(throttle, concurrency=32)
    assert starts(throttle) == 32


def test_nothing_starts_during_a_hold_and_a_later_shorter_hold_does_not_shorten_it() -> None:
    clock = Clock()
    throttle = a_throttle(clock=clock)
    throttle.hold(10)
    throttle.hold(1)
    assert throttle.wait_s() == 10
    assert not throttle.try_acquire()
    clock.now = 10.0
    assert throttle.try_acquire()


def test_after_a_refusal_for_lack_of_time_half_as_many_are_in_flight() -> None:
    throttle = a_throttle(slots=8)
    assert starts(throttle) == 9
    for began in [throttle.begin() for _ in range(9)]:
        throttle.failed(began=began, overloaded=True)
    assert starts(throttle) == 4


def test_a_failure_that_says_nothing_about_load_leaves_the_limit() -> None:
    throttle = a_throttle(slots=8)
    starts(throttle)
    throttle.failed(began=throttle.begin(), overloaded=False)
    assert throttle.limit == 8


# ── a part of the fleet's quota


def test_with_a_limit_on_concurrency_nothing_starts_before_the_first_share_nor_after_the_last_one_has_expired() -> None:
    clock = Clock()
    throttle = a_throttle(slots=8, clock=clock, concurrency=10)
    assert starts(throttle) == 0
    take(throttle, concurrency=3)
    assert starts(throttle) == 3
    for _ in range(3):
        answer(throttle)
    clock.now = 15.0
    assert starts(throttle) == 0


def test_requests_start_at_the_granted_times_and_a_slot_that_was_not_used_is_used_later() -> None:
    clock = Clock()
    throttle = a_throttle(slots=8, clock=clock, requests_per_minute=600)
    assert starts(throttle) == 0
    take(throttle, starts=(100.0, 100.1, 100.2), now_s=100.0)
    assert starts(throttle) == 1
    throttle.give_back()
    assert starts(throttle) == 1
    assert throttle.next_start_s() == pytest.approx(0.1)
    clock.now = 0.25
    assert starts(throttle) == 2
    assert throttle.next_start_s() is None


def test_a_granted_start_is_over_a_second_later_by_the_earliest_time_at_which_the_database_can_have_granted_it() -> None:
    clock = Clock()
    throttle = a_throttle(slots=8, clock=clock, requests_per_minute=600)
    clock.now = 0.4
    take(throttle, asked_at=0.0, starts=(100.0, 100.5), now_s=100.0)
    clock.now = LATE_S + 0.01
    assert starts(throttle) == 1
    clock.now = 5.0
    take(throttle, asked_at=3.0, starts=(103.0,), now_s=103.0)
    assert starts(throttle) == 0


def test_starts_that_are_not_needed_go_back_and_the_others_are_kept() -> None:
    throttle = a_throttle(slots=8, requests_per_minute=600)
    take(throttle, starts=tuple(100.0 + n for n in range(6)), now_s=100.0)
    assert throttle.try_acquire()
    demand = throttle.demand(waiting=2, hold_s=0.0)
    assert (demand.requests, demand.returned, demand.in_flight) == (0, (104.0, 105.0), 1)
    assert throttle.demand(waiting=5, hold_s=0.0).requests == 2
    assert throttle.leave().returned == (101.0, 102.0, 103.0)


def test_a_task_asks_for_no_more_starts_than_its_slots_can_use() -> None:
    throttle = a_throttle(slots=8, requests_per_minute=6000)
    assert throttle.demand(waiting=500, hold_s=0.0).requests == 8
    take(throttle, starts=(0.0,))
    assert throttle.try_acquire()
    throttle.answered(began=throttle.begin(), took_s=0.1, tokens=None)
    assert throttle.demand(waiting=500, hold_s=0.0).requests == 160


# ── after a long pause


def test_nothing_starts_before_the_first_share() -> None:
    assert starts(Throttle(slots=8, quota=Quota(), clock=Clock())) == 0


def test_after_a_long_pause_one_request_is_sent_and_its_answer_lets_the_others_start() -> None:
    throttle = a_throttle(slots=8)
    take(throttle, at_most=1)
    assert starts(throttle) == 1
    take(throttle, at_most=0)
    assert not throttle.answers
    answer(throttle)
    assert throttle.demand(waiting=5, hold_s=0.0).answers
    assert not throttle.demand(waiting=5, hold_s=0.0).answers
    assert starts(throttle) == 9


def test_while_another_task_tries_the_detector_nothing_starts_and_a_failed_request_proves_nothing() -> None:
    throttle = a_throttle(slots=8)
    take(throttle, at_most=0)
    assert starts(throttle) == 0
    take(throttle, at_most=1)
    assert throttle.try_acquire()
    throttle.failed(began=throttle.begin(), overloaded=False)
    assert not throttle.answers
    assert starts(throttle) == 1
    take(throttle, at_most=0, hold_s=100.0)
    throttle.failed(began=throttle.begin(), overloaded=True)
    assert starts(throttle) == 0


def test_a_task_wants_what_it_used_and_what_waits_and_never_more_than_its_limit() -> None:
    throttle = a_throttle(slots=8)
    assert throttle.demand(waiting=0, hold_s=0.0).wanted == 8, "nothing is known at first"
    assert throttle.demand(waiting=0, hold_s=0.0).wanted == 1
    assert throttle.demand(waiting=3, hold_s=0.0).wanted == 4
    assert throttle.demand(waiting=50, hold_s=0.0).wanted == 8


def test_what_requests_take_of_the_tokens_is_learned_and_settled() -> None:
    throttle = a_throttle(slots=8, tokens_per_minute=60_000)
    assert throttle.demand(waiting=8, hold_s=0.0).tokens_each == 1000
    take(throttle, starts=(0.0, 0.0))
    assert starts(throttle) == 2
    answer(throttle, tokens=1500)
    answer(throttle)
    demand = throttle.demand(waiting=8, hold_s=0.0)
    assert demand.tokens_back == pytest.approx(-500)
    assert demand.tokens_each == 1500
    assert throttle.demand(waiting=8, hold_s=0.0).tokens_back == 0
