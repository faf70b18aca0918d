"""The figures and charts of the threshold page, from the counts of the database."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.page import charts
from anomaly.page.estimates import Cell, Effect, effect

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anomaly.db.page_threshold import RecordCell, ReviewCell

STEPS_MAX = 50
"""Most steps of the slider."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A threshold, with what it would do."""

    effect: Effect
    flagged_a_day: float
    missed_a_day: float | None
    at: float
    """Its place in the chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The page's figures."""

    steps: tuple[Step, ...]
    chosen: Step
    records: int
    days: float
    reviews: int
    counted: int
    """Reviews that the estimates count."""
    scores: charts.Chart | None
    reviewed: charts.Chart | None


def grid(low: float, high: float) -> list[float]:
    """Return about `STEPS_MAX` round thresholds at most: the first flags every score from *low* to *high*, the last flags none."""
    if not high > low:
        return [low]
    rough = (high - low) / STEPS_MAX
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def view(
    *, records: Sequence[RecordCell], reviews: Sequence[ReviewCell], edges: Sequence[float], in_force: Collection[float], chosen: float
) -> View:
    """Return the figures of each threshold in *edges*, which are sorted and contain *chosen* and those *in_force*."""
    count, said = {each.cell: each.records for each in records}, {each.cell: each for each in reviews}
    cells = [
        Cell(
            low=low,
            records=count.get(number, 0),
            anomalies=said[number].anomalies if number in said else 0,
            normals=said[number].normals if number in said else 0,
            apart=low in in_force,
        )
        for number, low in enumerate([-math.inf, *edges])
    ]
    days = _days(records)
    low, span = edges[0], (edges[-1] - edges[0]) or 1.0
    steps = []
    for number, edge in enumerate(edges, 1):
        found = effect(cells, number)
        missed = None if found.misses.value is None else found.misses.value * found.unflagged / days
        at = round(charts.LEFT + (edge - low) / span * charts.PLOT_WIDTH, 1)
        steps.append(Step(effect=found, flagged_a_day=found.flagged / days, missed_a_day=missed, at=at))
    return View(
        steps=tuple(steps),
        chosen=steps[max(0, bisect_right(edges, chosen) - 1)],
        records=sum(count.values()),
        days=days,
        reviews=sum(each.said_anomaly + each.said_normal + each.said_unsure for each in reviews),
        counted=sum(each.anomalies + each.normals for each in reviews),
        scores=charts.cell_chart("Scores of all records", edges, {number: (("all", total),) for number, total in count.items()}),
        reviewed=charts.cell_chart(
            "Scores of reviewed records",
            edges,
            {n: (("anomaly", c.said_anomaly), ("normal", c.said_normal), ("unsure", c.said_unsure)) for n, c in said.items()},
        ),
    )


def _days(records: Sequence[RecordCell]) -> float:
    """Return the days over which the images were captured, at least one."""
    begins = [each.since for each in records if each.since]
    ends = [each.until for each in records if each.until]
    return max(1.0, (max(ends) - min(begins)).total_seconds() / DAY_S) if begins and ends else 1.0
