"""How much may be in flight at the detector: what the task finds out itself, and what the fleet leaves it."""

from __future__ import annotations

import pytest

from anomaly.models.quota import Quota, Share
from anomaly.pipeline.throttle import Breaker, Limit, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_throttle(*, slots: int = 2, clock: Clock | None = None, **quota: float) -> Throttle:
    return Throttle(slots=slots, quota=Quota(**quota), clock=clock or Clock())  # type: ignore[arg-type]  # concurrency is a whole number


def starts(throttle: Throttle) -> int:
    """How many requests start until one may not."""
    count = 0
    while throttle.try_acquire():
        count += 1
    return count


def a_window(limit: Limit, took_s: float, *, full: bool = True) -> None:
    """As many answers as may be in flight, each after so long."""
    limit.started(int(limit) if full else int(limit) - 1)
    for _ in range(int(limit)):
        limit.answered(took_s)


# ── the limit


def test_the_limit_begins_at_its_ceiling_and_never_rises_over_it() -> None:
    limit = Limit(ceiling=8)
    for _ in range(5):
        a_window(limit, 0.2)
        assert int(limit) == 8


def test_an_overload_halves_the_limit_and_requests_that_were_under_way_together_count_once() -> None:
    limit = Limit(ceiling=32)
    for _ in range(10):
        limit.overloaded(began=1.0, now=2.0)
    assert int(limit) == 16
    limit.overloaded(began=2.5, now=3.0)
    assert int(limit) == 8


def test_the_limit_rises_by_one_with_each_good_window_that_was_full_and_by_nothing_with_one_that_was_not() -> None:
    limit = Limit(ceiling=32)
    limit.overloaded(began=0.0, now=1.0)
    a_window(limit, 0.2)
    a_window(limit, 0.2)
    assert int(limit) == 18
    a_window(limit, 0.2, full=False)
    assert int(limit) == 18


def test_answers_that_take_more_than_twice_as_long_as_usual_lower_the_limit_gently() -> None:
    limit = Limit(ceiling=20)
    a_window(limit, 0.2)
    a_window(limit, 0.5)
    assert int(limit) == 18
    a_window(limit, 0.3)
    assert int(limit) == 19


def test_what_grows_by_less_than_a_network_does_is_no_sign_of_a_queue() -> None:
    limit = Limit(ceiling=20)
    a_window(limit, 0.002)
    a_window(limit, 0.02)
    assert int(limit) == 20


def test_one_slow_answer_among_many_changes_nothing() -> None:
    limit = Limit(ceiling=20)
    a_window(limit, 0.2)
    for took_s in [60.0] + [0.2] * 19:
        limit.answered(took_s)
    assert int(limit) == 20


def test_a_detector_that_is_slower_for_good_has_its_requests_back_after_a_while() -> None:
    limit = Limit(ceiling=8)
    a_window(limit, 0.2)
    for _ in range(60):
        a_window(limit, 0.6)
    assert int(limit) == 8


def test_the_limit_never_falls_under_one() -> None:
    limit = Limit(ceiling=4)
    for n in range(20):
        limit.overloaded(began=n + 0.5, now=n + 1.0)
    assert int(limit) == 1


# ── the throttle of one task


def test_no_more_requests_start_than_there_are_slots() -> None:
    throttle = a_throttle()
    assert starts(throttle) == 2
    throttle.answered(began=0.0, tokens=None)
    assert starts(throttle) == 1


def test_while_all_is_well_a_few_requests_wait_for_whichever_slot_is_free_first() -> None:
    throttle = a_throttle(slots=32)
    assert starts(throttle) == 36

    throttle.failed(began=1.0, overloaded=True)
    for _ in range(35):
        throttle.answered(began=0.0, tokens=None)
    assert starts(throttle) == throttle.limit == 16


def test_nothing_waits_for_a_slot_where_the_fleet_shares_the_detector() -> None:
    throttle = a_throttle(slots=32, concurrency=64)
    throttle.take(Share(concurrency=32, requests=0), until=10.0)
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
    for _ in range(9):
        throttle.failed(began=0.0, overloaded=True)
    assert starts(throttle) == 4


def test_a_failure_that_says_nothing_about_load_leaves_the_limit() -> None:
    throttle = a_throttle(slots=8)
    starts(throttle)
    throttle.failed(began=0.0, overloaded=False)
    assert throttle.limit == 8


# ── a part of the fleet's quota


def test_with_a_limit_on_concurrency_nothing_starts_before_the_first_share_nor_after_the_last_one_has_expired() -> None:
    clock = Clock()
    throttle = a_throttle(slots=8, clock=clock, concurrency=10)
    assert starts(throttle) == 0
    throttle.take(Share(concurrency=3, requests=0), until=15.0)
    assert starts(throttle) == 3
    for _ in range(3):
        throttle.answered(began=0.0, tokens=None)
    clock.now = 15.0
    assert starts(throttle) == 0


def test_with_a_limit_on_requests_only_so_many_start_as_were_granted_and_the_rest_goes_back() -> None:
    throttle = a_throttle(slots=8, requests_per_minute=600)
    assert starts(throttle) == 0
    throttle.take(Share(concurrency=8, requests=3), until=15.0)
    assert throttle.try_acquire()
    assert throttle.try_acquire()
    throttle.give_back()
    demand = throttle.demand(waiting=5, hold_s=0.0)
    assert (demand.unused, demand.in_flight) == (2, 1)
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
    throttle.take(Share(concurrency=8, requests=2), until=15.0)
    assert starts(throttle) == 2
    throttle.answered(began=0.0, tokens=1500)
    throttle.answered(began=0.0, tokens=None)
    demand = throttle.demand(waiting=8, hold_s=0.0)
    assert demand.tokens_back == pytest.approx(-500)
    assert demand.tokens_each == 1500
    assert throttle.demand(waiting=8, hold_s=0.0).tokens_back == 0


# ── the breaker


def test_the_breaker_opens_after_failures_in_a_row_and_a_success_starts_anew() -> None:
    breaker = Breaker(failures=3)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
