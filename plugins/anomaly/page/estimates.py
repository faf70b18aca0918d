"""Effects of each threshold on the records of a detector, estimated from the decisions of people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.page.intervals import ShareEstimate, Stratum, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DIFFERENT = 3.0
"""Standard errors by which the reviewed shares of two cells differ if they are not put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Records whose scores are at least *low* and below the next cell, with the reviews among them that count for an estimate."""

    low: float
    """`-inf` for the first cell."""
    records: int
    anomalies: int = 0
    normals: int = 0
    apart: bool = False
    """True if a threshold that was in force lies at *low*: reviews above it are those of flagged records, reviews below were drawn."""

    @property
    def reviewed(self) -> int:
        return self.anomalies + self.normals


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a threshold: records with a score of at least *threshold* are flagged."""

    threshold: float
    flagged: int
    unflagged: int
    false_alarms: ShareEstimate
    """Share of the flagged records that are normal."""
    misses: ShareEstimate
    """Share of the records that are not flagged and are anomalous."""


def effect(cells: Sequence[Cell], number: int) -> Effect:
    """Return the effect of the threshold at which a cell begins. *cells* are in the order of their scores, and cover all of them."""
    below, above = cells[:number], cells[number:]
    return Effect(
        threshold=cells[number].low,
        flagged=sum(cell.records for cell in above),
        unflagged=sum(cell.records for cell in below),
        false_alarms=share([Stratum(records=each.records, reviewed=each.reviewed, hits=each.normals) for each in strata(above)]),
        misses=share([Stratum(records=each.records, reviewed=each.reviewed, hits=each.anomalies) for each in strata(below)]),
    )


def strata(cells: Iterable[Cell]) -> list[Cell]:
    """Return adjacent cells put together as long as no threshold was between them and about the same share of each was reviewed.

    People review the highest or the least certain scores first, and few records that are not flagged. Which records of a score are
    reviewed does not depend on their being anomalous, so with about the same share reviewed, the reviews of all are as good as drawn.
    """
    found: list[Cell] = []
    for cell in cells:
        if found and not cell.apart and not _differ(found[-1], cell):
            last = found[-1]
            found[-1] = Cell(
                low=last.low,
                records=last.records + cell.records,
                anomalies=last.anomalies + cell.anomalies,
                normals=last.normals + cell.normals,
            )
        else:
            found.append(cell)
    return found


def _differ(first: Cell, second: Cell) -> bool:
    """Return whether the reviewed shares of two cells differ by more than chance explains."""
    if not first.records or not second.records:
        return False
    pooled = (first.reviewed + second.reviewed) / (first.records + second.records)
    error = math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / first.records + 1 / second.records))
    return abs(first.reviewed / first.records - second.reviewed / second.records) > DIFFERENT * error
