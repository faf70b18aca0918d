"""Plots throughput against the detector's slots, with a line for each contestant."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE_INCHES = (8, 5)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG with the median of each contestant's runs, and the detector's bound."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    slots = sorted({row["slots"] for row in rows})
    bound = {row["slots"]: row["records_per_s"] / row["of_bound"] for row in rows}
    axes.plot(slots, [bound[each] for each in slots], "--", color="0.6", label="the detector's bound")
    for name, points in lines(rows).items():
        axes.plot(list(points), list(points.values()), "o-", label=name)
    axes.set(xlabel="slots of the detector", ylabel="records a second", xscale="log", yscale="log", xticks=slots, xticklabels=slots)
    axes.set(yticks=list(bound.values()), yticklabels=[f"{rate:.0f}" for rate in bound.values()])
    axes.minorticks_off()
    axes.grid(visible=True, color="0.9")
    axes.legend()
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def lines(rows: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Return the median records a second by contestant and slots."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["contestant"]][row["slots"]].append(row["records_per_s"])
    return {name: {slots: median(rates) for slots, rates in sorted(by_slots.items())} for name, by_slots in found.items()}
