"""Intervals of the threshold page: equal to a reference, and as wide as they have to be in simulated campaigns of reviews."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from anomaly.page.estimates import Cell, effect, strata
from anomaly.page.intervals import UNKNOWN, Stratum, beta_probability, beta_quantile, share

if TYPE_CHECKING:
    from collections.abc import Callable

CAMPAIGNS = 1000
REVIEWS_MAX = 300
RATES = (0.005, 0.03, 0.12, 0.4)
IN_FORCE = (0.35, 0.5, 0.65)
ORDERS = ("highest", "uncertain", "random")
EDGES = [round(n / 40, 3) for n in range(1, 40)]


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 3), (1, 300), (40, 2), (7.3, 91.8), (3000, 5), (12_345, 23_456)])
def test_the_beta_distribution_equals_that_of_a_reference(a: float, b: float) -> None:
    for probability in (1e-6, 0.025, 0.5, 0.975, 1 - 1e-6):
        x = beta_quantile(probability, a, b)
        assert x == pytest.approx(stats.beta.ppf(probability, a, b), rel=1e-7, abs=1e-12)
        assert beta_probability(x, a, b) == pytest.approx(probability, rel=1e-7)


@pytest.mark.parametrize(("hits", "reviewed"), [(0, 1), (1, 1), (0, 59), (59, 59), (3, 100), (150, 300)])
def test_one_stratum_has_the_exact_binomial_interval(hits: int, reviewed: int) -> None:
    found = share([Stratum(records=10_000, reviewed=reviewed, hits=hits)])
    exact = stats.binomtest(hits, reviewed).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.value == hits / reviewed
    assert found.reviewed == reviewed


def test_records_without_a_review_may_be_anything() -> None:
    assert share([]) == share([Stratum(records=10, reviewed=0, hits=0)]) == UNKNOWN
    found = share([Stratum(records=700, reviewed=0, hits=0), Stratum(records=300, reviewed=300, hits=0)])
    assert found.low == 0.0
    assert 0.7 < found.high < 0.71
    assert found.value == 0.0


def test_strata_count_by_their_records_and_not_by_their_reviews() -> None:
    found = share([Stratum(records=9_000, reviewed=10, hits=0), Stratum(records=1_000, reviewed=200, hits=200)])
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high


def test_cells_are_put_together_unless_another_share_of_them_was_reviewed() -> None:
    drawn = [Cell(low=n / 10, records=100, normals=2) for n in range(5)]
    queue = [Cell(low=0.5 + n / 10, records=100, anomalies=90) for n in range(5)]
    assert [(each.low, each.records, each.reviewed) for each in strata([*drawn, *queue])] == [(0.0, 500, 10), (0.5, 500, 450)]
    assert strata([Cell(low=0.0, records=0), Cell(low=0.5, records=0)]) == [Cell(low=0.0, records=0)]


def test_records_above_a_threshold_are_never_put_together_with_those_below() -> None:
    cells = [Cell(low=0.0, records=100, normals=2), Cell(low=0.5, records=100, apart=True), Cell(low=0.6, records=100)]
    assert [each.low for each in strata(cells)] == [0.0, 0.5]
    assert effect(cells, 1).false_alarms == UNKNOWN


def test_every_record_is_flagged_or_not_at_each_threshold() -> None:
    cells = [Cell(low=-math.inf, records=5), Cell(low=0.5, records=3), Cell(low=0.9, records=2)]
    found = [effect(cells, number) for number in (1, 2)]
    assert [(each.threshold, each.flagged, each.unflagged) for each in found] == [(0.5, 5, 5), (0.9, 2, 8)]


def campaign(rng: np.random.Generator, number: int) -> tuple[list[Cell], np.ndarray, np.ndarray]:
    """Return the cells after a campaign of reviews, and all scores with the truth about each."""
    rate, in_force, order = RATES[number % 4], IN_FORCE[number // 4 % 3], ORDERS[number // 12 % 3]
    truth = rng.random(4000) < rate
    scores = np.where(truth, rng.beta(4, 2, truth.size), rng.beta(2, 4, truth.size))
    flagged = np.flatnonzero(scores >= in_force)
    keys = {"highest": -scores, "uncertain": np.abs(scores - in_force), "random": rng.random(truth.size)}[order]
    drawn = np.flatnonzero((scores < in_force) & (rng.random(truth.size) < 0.02))
    queue = flagged[np.argsort(keys[flagged], kind="stable")][: int(rng.integers(20, REVIEWS_MAX - drawn.size))]
    reviewed = np.zeros(truth.size, dtype=bool)
    reviewed[queue] = reviewed[drawn] = True
    assert reviewed.sum() <= REVIEWS_MAX
    cell = np.searchsorted(EDGES, scores, side="right")
    count = [np.bincount(cell[chosen], minlength=40) for chosen in (scores >= 0, reviewed & truth, reviewed & ~truth)]
    lows = [-math.inf, *EDGES]
    cells = [
        Cell(low=low, records=int(records), anomalies=int(anomalies), normals=int(normals), apart=low == in_force)
        for low, records, anomalies, normals in zip(lows, *count, strict=True)
    ]
    return cells, scores, truth


def test_the_intervals_hold_in_at_least_95_percent_of_simulated_campaigns(record_property: Callable[[str, object], None]) -> None:
    rng = np.random.default_rng(20_260_101)
    held: dict[str, list[bool]] = {"false alarms": [], "misses": []}
    widths: dict[str, list[float]] = {"false alarms": [], "misses": []}
    for number in range(CAMPAIGNS):
        cells, scores, truth = campaign(rng, number)
        at = effect(cells, 6 + number * 7 % 30)
        above = scores >= at.threshold
        for name, found, hits, among in (
            ("false alarms", at.false_alarms, ~truth & above, above),
            ("misses", at.misses, truth & ~above, ~above),
        ):
            if among.any():
                held[name].append(bool(found.low <= hits.sum() / among.sum() <= found.high))
                widths[name].append(found.high - found.low)
    for name, each in held.items():
        line = f"{name}: {sum(each)} of {len(each)} intervals hold, {sum(each) / len(each):.1%}; median width {np.median(widths[name]):.3f}"
        sys.stdout.write(f"{line}\n")
        record_property(name, line)
        assert sum(each) >= 0.95 * len(each), line
