"""Draws Prometheus's answers to the dashboard's panels: `python tests/compose/draw.py .state/compose/panels.json PICTURE.png`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import dates
from matplotlib import pyplot as plt

UNITS = {"cps": "a second", "cpm": "a minute", "s": "seconds", "short": ""}


def main(source: Path, picture: Path) -> None:
    mpl.use("agg")
    panels = json.loads(source.read_text())
    figure, axes = plt.subplots((len(panels) + 1) // 2, 2, figsize=(13, 12), sharex=True)
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        draw(axis, title, panel)
    figure.tight_layout()
    figure.savefig(picture, dpi=75)


def draw(axis: Any, title: str, panel: dict[str, Any]) -> None:
    for series in panel["expressions"].values():
        for name, values in sorted(series.items()):
            axis.plot([datetime.fromtimestamp(at, tz=UTC) for at, _ in values], [value for _, value in values], label=name)
    unit = UNITS[panel["unit"]]
    axis.set_title(f"{title}, {unit}" if unit else title, loc="left", fontsize=11)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]  # untyped
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, ncols=2)
    else:
        axis.text(0.5, 0.5, "no data", transform=axis.transAxes, ha="center")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
