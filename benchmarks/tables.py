"""LoadFigures as Markdown tables, so that the documentation can use them as they are."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.ablation import Comparison
    from benchmarks.measuring import Row

BASELINE = " (baseline)"
"""Follows the name of a contestant that ran from the baseline."""
COLUMNS: dict[str, Callable[[Row], str]] = {
    "contestant": lambda row: row.contestant,
    "slots": lambda row: str(row.slots),
    "records": lambda row: f"{row.records:,}",
    "records/s": lambda row: f"{row.records_per_s:.1f}",
    "of the bound": lambda row: f"{row.of_bound:.1%}",
    "detector used": lambda row: f"{row.utilisation:.1%}",
    "in flight, at most": lambda row: str(row.in_flight_max),
    "processor ms/record": lambda row: f"{row.processor_ms_per_record:.2f}",
    "peak MB": lambda row: f"{row.rss_mb:.0f}",
    "database connections": lambda row: str(row.db_connections),
    "round trips/record": lambda row: f"{row.db_round_trips_per_record:.2f}",
    "transactions/record": lambda row: f"{row.db_transactions_per_record:.2f}",
    "TCP image, detector, S3": lambda row: f"{row.tcp_images}, {row.tcp_detector}, {row.tcp_s3}",
    "S3 requests/record": lambda row: f"{row.s3_requests_per_record:.2f}",
    "load": lambda row: f"{row.load:.1f}",
}


def rows(measured: Sequence[Row]) -> str:
    return _table(list(COLUMNS), [[cell(row) for cell in COLUMNS.values()] for row in measured])


def pairs(measured: Sequence[Row]) -> str:
    """Compare the medians of each contestant's runs from the baseline and from this checkout."""
    figures: dict[str, Callable[[Row], float]] = {
        "records/s": lambda row: row.records_per_s,
        "of the bound": lambda row: row.of_bound,
        "detector used": lambda row: row.utilisation,
        "processor ms/record": lambda row: row.processor_ms_per_record,
        "peak MB": lambda row: row.rss_mb,
    }
    cells = []
    for name, slots in dict.fromkeys((row.contestant.removesuffix(BASELINE), row.slots) for row in measured):
        sides = [[row for row in measured if (row.contestant, row.slots) == (side, slots)] for side in (name + BASELINE, name)]
        for figure, value in figures.items() if all(sides) else ():
            old, new = (median(map(value, side)) for side in sides)
            ratios = (value(ours) / value(theirs) for theirs, ours in zip(*sides, strict=True))
            shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            cells.append([name, str(slots), figure, f"{old:.3f}", f"{new:.3f}", f"{new / old:.3f}", shown])
    return _table(["contestant", "slots", "median of", "baseline", "this checkout", "ratio", "ratio of each pair"], cells)


def line(row: Row) -> str:
    """Summarize a row in a sentence."""
    return (
        f"{row.contestant}: {row.records_per_s:.1f} records/s, {row.of_bound:.1%} of the bound, "
        f"{row.utilisation:.1%} of the detector used, {row.processor_ms_per_record:.2f} ms of processor time a record"
    )


def ablations(compared: Sequence[Comparison]) -> str:
    head = ["", "network's round trip", "before, ms/record", "ours, ms/record", "saved", "database round trips/record"]
    cells = [
        [
            each.what,
            f"{each.round_trip_ms:g} ms",
            f"{each.before_ms:.1f}",
            f"{each.after_ms:.1f}",
            f"{1 - each.after_ms / each.before_ms:.0%}",
            f"{each.before_round_trips:.1f} → {each.after_round_trips:.1f}",
        ]
        for each in compared
    ]
    return _table(head, cells)


def _table(head: list[str], cells: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
