"""Geometry of the charts. Templates draw them as SVG, so that their numbers can be tested without a browser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anomaly.page.rendering import moment, number, percent, score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomaly.db.page_overview import ScoreBin, VerdictCount

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 14, 26
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
LABELS_MAX = 7
"""Most labels below the bars."""
GRID_LINES = 4
SCORE_BARS_MAX = 50
LEAST_POWER = -12
"""The power of ten of the narrowest bins of `anomaly.score_bin`."""
ROUNDING = 1e-6
"""Share of a bar by which the end of a bin may be beside that of its bar, since both are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A rectangle of a bar."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar with its parts from the bottom up, and the sentence that a pointer shows."""

    x: float
    width: float
    parts: tuple[Part, ...]
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A labelled position: on the axis at the bottom, on the axis at the left, or a vertical line."""

    at: float
    label: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A bar chart."""

    title: str
    bars: tuple[Bar, ...]
    below: tuple[Mark, ...]
    left: tuple[Mark, ...]
    lines: tuple[Mark, ...] = ()

    width: int = WIDTH
    height: int = HEIGHT
    plot: tuple[int, int, int, int] = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def verdict_chart(counts: Sequence[VerdictCount], *, since: datetime, until: datetime, step: timedelta) -> Chart | None:
    """Return verdicts over time, anomalies at the bottom of each bar, with a line where another detector began; None without any."""
    if not counts:
        return None
    first = floored(since, step)
    starts = [first + step * n for n in range(math.ceil((until - first) / step))]
    totals = {at: (sum(c.verdicts for c in counts if c.at == at), sum(c.anomalies for c in counts if c.at == at)) for at in starts}
    top = _rounded_up(max(verdicts for verdicts, _ in totals.values()) or 1)
    pitch = PLOT_WIDTH / len(starts)
    bars = []
    for n, at in enumerate(starts):
        verdicts, anomalies = totals[at]
        if verdicts:
            title = f"{_label(at, step)}: {number(anomalies)} of {number(verdicts)} anomalies, {percent(anomalies / verdicts)}"
            bars.append(_bar(LEFT + n * pitch, pitch, (("anomaly", anomalies), ("normal", verdicts - anomalies)), top, title))
    every = math.ceil(len(starts) / LABELS_MAX)
    below = [Mark(at=LEFT + (n + 0.5) * pitch, label=_label(at, step)) for n, at in enumerate(starts) if n % every == 0]
    span = (until - first).total_seconds()
    lines = [
        Mark(at=LEFT + (at - first).total_seconds() / span * PLOT_WIDTH, label=detector, title=f"first verdict of {detector}: {moment(at)}")
        for detector, at in detector_changes(counts)
    ]
    return Chart(title="Verdicts over time", bars=tuple(bars), below=tuple(below), left=_grid(top), lines=tuple(lines))


def detector_changes(counts: Sequence[VerdictCount]) -> list[tuple[str, datetime]]:
    """Return each detector after the first one, with the time of its first verdict."""
    first: dict[str, datetime] = {}
    for count in counts:
        first[count.detector] = min(first.get(count.detector, count.first_at), count.first_at)
    return sorted(first.items(), key=lambda item: item[1])[1:]


def score_chart(bins: Sequence[ScoreBin], *, thresholds: Iterable[float]) -> Chart | None:
    """Return the distribution of scores with the thresholds as lines; None without any. *bins* are in ascending order."""
    if not bins:
        return None
    width = _bar_width(bins)
    totals: dict[int, list[int]] = {}
    for each in bins:
        total = totals.setdefault(math.floor(each.score / width + ROUNDING), [0, 0])
        total[0] += each.verdicts
        total[1] += each.anomalies
    first, last = min(totals), max(totals)
    top = _rounded_up(max(verdicts for verdicts, _ in totals.values()))
    pitch = PLOT_WIDTH / (last + 1 - first)
    bars = []
    for n, (verdicts, anomalies) in sorted(totals.items()):
        title = f"{score(n * width)} to {score((n + 1) * width)}: {number(anomalies)} of {number(verdicts)} anomalies"
        bars.append(_bar(LEFT + (n - first) * pitch, pitch, (("anomaly", anomalies), ("normal", verdicts - anomalies)), top, title))
    low, span = first * width, (last + 1 - first) * width
    below = [Mark(at=LEFT + n / 4 * PLOT_WIDTH, label=score(low + n / 4 * span)) for n in range(5)]
    lines = [
        Mark(at=LEFT + (value - low) / span * PLOT_WIDTH, label=f"threshold {score(value)}", title=f"threshold {value:g}")
        for value in sorted(set(thresholds))
        if low <= value <= low + span
    ]
    return Chart(title="Distribution of scores", bars=tuple(bars), below=tuple(below), left=_grid(top), lines=tuple(lines))


def _bar_width(bins: Sequence[ScoreBin]) -> float:
    """Return 1, 2 or 5 times a power of ten, a multiple of the width of every bin, so that no bin is in two bars."""
    low, high = bins[0].score, bins[-1].score
    largest = max(abs(low), abs(high))
    widest = 0.05 * 10.0 ** max(math.floor(math.log10(largest)) if largest else LEAST_POWER, LEAST_POWER)
    least = max((high - low) / SCORE_BARS_MAX, widest) * (1 - ROUNDING)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _bar(x: float, pitch: float, shares: Sequence[tuple[str, int]], top: int, title: str) -> Bar:
    gap = min(3.0, pitch * 0.2)
    parts, y = [], float(TOP + PLOT_HEIGHT)
    for kind, count in shares:
        height = count / top * PLOT_HEIGHT
        y -= height
        if count:
            parts.append(Part(kind=kind, y=round(y, 2), height=round(height, 2)))
    return Bar(x=round(x + gap / 2, 2), width=round(pitch - gap, 2), parts=tuple(parts), title=title)


def _grid(top: int) -> tuple[Mark, ...]:
    steps = GRID_LINES if top % GRID_LINES == 0 else 1
    values = [top * n // steps for n in range(steps + 1)]
    return tuple(Mark(at=round(TOP + PLOT_HEIGHT * (1 - value / top), 2), label=_short(value)) for value in values)


def _short(value: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return str(value)


def _rounded_up(most: int) -> int:
    """Return the end of an axis that shows *most*: 4, 8 or 20 times a power of ten."""
    power = 1
    while 20 * power < most:  # see above
        power *= 10
    return next(factor * power for factor in (4, 8, 20) if factor * power >= most)


def floored(at: datetime, step: timedelta) -> datetime:
    """Return the beginning of the hour or the day of *at* in UTC."""
    day = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return day if step < timedelta(days=1) else day.replace(hour=0)


def _label(at: datetime, step: timedelta) -> str:
    return at.astimezone(UTC).strftime("%d %b" if step >= timedelta(days=1) else "%d %b %H:%M")


def cell_chart(title: str, edges: Sequence[float], counts: Mapping[int, Sequence[tuple[str, int]]]) -> Chart | None:
    """Return a chart of counts between *edges*, of which the last lies above all: cell n begins at the n-th one. None without any count."""
    most = max((sum(count for _, count in shares) for shares in counts.values()), default=0)
    if not most:
        return None
    low, span, top = edges[0], (edges[-1] - edges[0]) or 1.0, _rounded_up(most)
    places = [LEFT + (edge - low) / span * PLOT_WIDTH for edge in edges]
    drawn = []
    for cell, shares in sorted(counts.items()):
        begin, end = max(0, cell - 1), min(cell, len(edges) - 1)
        said = ", ".join(f"{number(count)} {kind}" for kind, count in shares if count)
        title_of = f"{score(edges[begin])} to {score(edges[end])}: {said}"
        drawn.append(_bar(places[begin], max(2.0, places[end] - places[begin]), shares, top, title_of))
    below = [Mark(at=LEFT + n / 4 * PLOT_WIDTH, label=score(low + n / 4 * span)) for n in range(5)] if len(edges) > 1 else []
    return Chart(title=title, bars=tuple(drawn), below=tuple(below), left=_grid(top))
