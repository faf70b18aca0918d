from __future__ import annotations

from anomaly.throttle import Breaker, Throttle


def test_no_more_requests_start_than_there_are_slots() -> None:
    throttle = Throttle(slots=2, clock=lambda: 0.0)
    assert [throttle.try_acquire() for _ in range(3)] == [True, True, False]
    throttle.release()
    assert throttle.try_acquire()


def test_nothing_starts_during_a_hold_and_a_later_shorter_hold_does_not_shorten_it() -> None:
    now = 0.0
    throttle = Throttle(slots=2, clock=lambda: now)
    throttle.hold(10)
    throttle.hold(1)
    assert throttle.wait_s() == 10
    assert not throttle.try_acquire()
    now = 10.0
    assert throttle.try_acquire()


def test_the_breaker_opens_after_failures_in_a_row_and_a_success_starts_anew() -> None:
    breaker = Breaker(failures=3)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
