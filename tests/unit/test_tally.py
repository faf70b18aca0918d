from __future__ import annotations

from anomaly.metrics import Tally, percentile


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([10.0, 20.0, 30.0, 40.0], share) for share in (0.25, 0.5, 0.95, 1.0)] == [10.0, 20.0, 40.0, 40.0]
    assert percentile([7.0], 0.5) == 7.0


def test_a_tally_counts_ends_and_errors_and_sums_up_each_operation() -> None:
    tally = Tally()
    for took_ms in (30.0, 10.0, 20.0):
        tally.end("committed", timings={"fetch": took_ms})
    tally.end("quarantined", error_code="image_not_found", timings={})
    assert tally.as_json() == {
        "ended": {"committed": 3, "quarantined": 1},
        "errors": {"image_not_found": 1},
        "timings_ms": {"fetch": {"count": 3.0, "p50": 20.0, "p95": 30.0, "max": 30.0}},
    }
    assert str(tally) == "committed=3 quarantined=1 image_not_found=1 fetch_ms[n=3 p50=20 p95=30 max=30]"
