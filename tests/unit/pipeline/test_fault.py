"""The circuit breaker. Refusals and control requests are tested with a worker."""

from __future__ import annotations

from anomaly.pipeline.fault import Breaker


def test_the_breaker_opens_after_failures_in_a_row_and_a_success_starts_anew() -> None:
    breaker = Breaker(failures=3)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
