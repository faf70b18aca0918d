"""The charts: bars whose numbers add up, and ends that a reader can read."""

from __future__ import annotations

import pytest

from anomaly.db.page_overview import ScoreBin
from anomaly.page.charts import SCORE_BARS_MAX, score_chart


def bins(*scores: float, anomalies: int = 0) -> list[ScoreBin]:
    return [ScoreBin(score=score, verdicts=2, anomalies=anomalies) for score in sorted(scores)]


@pytest.mark.parametrize(
    ("scores", "bars", "first"),
    [
        ((0.0,), 1, "0.000 to"),
        ((0.5,), 1, "0.5000 to 0.5050"),
        ((0.0, 1.0), 2, "0.000 to 0.05000"),
        ((0.01, 0.02, 0.03), 3, "0.01000 to 0.01050"),
        ((-3.0, 2.5), 2, "-3.000 to -2.800"),
        ((100.0, 105.0), 2, "100.0 to 105.0"),
        ((1e-300, 1e300), 2, "0.000 to"),
    ],
)
def test_bars_have_round_ends_and_no_bin_is_lost(scores: tuple[float, ...], bars: int, first: str) -> None:
    chart = score_chart(bins(*scores, anomalies=1), thresholds=[])
    assert chart is not None
    assert (len(chart.bars), chart.bars[0].title.startswith(first)) == (bars, True), chart.bars[0].title
    assert sum(int(bar.title.split(" of ")[1].split()[0]) for bar in chart.bars) == 2 * len(scores)
    assert all(chart.plot[0] <= bar.x <= bar.x + bar.width <= chart.plot[2] for bar in chart.bars)


def test_a_bin_is_in_the_bar_that_begins_with_it_although_both_are_rounded() -> None:
    numbers = range(180)
    chart = score_chart(bins(*(0.1 + n * 0.005 for n in numbers)), thresholds=[])
    assert chart is not None
    assert {bar.title.partition(": ")[2] for bar in chart.bars} == {"0 of 8 anomalies"}
    assert len(chart.bars) <= SCORE_BARS_MAX + 1


def test_thresholds_are_lines_where_the_chart_reaches_them() -> None:
    chart = score_chart(bins(0.2, 0.6), thresholds=[0.5, 0.4, 0.9])
    assert chart is not None
    assert [line.label for line in chart.lines] == ["threshold 0.4000", "threshold 0.5000"]
    assert chart.plot[0] < chart.lines[0].at < chart.lines[1].at < chart.plot[2]


def test_without_scores_there_is_no_chart() -> None:
    assert score_chart([], thresholds=[0.5]) is None
