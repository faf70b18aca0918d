"""What a run came to, measured against the labels where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from embedded.demo import row, statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A record's latest verdict, and its label."""

    score: float
    is_anomaly: bool
    is_defective: bool | None
    """None without a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a run."""

    states: Mapping[str, int]
    """All records of the database by status."""
    committed: int
    """Of this run."""
    took_s: float
    judged: Sequence[Judged]

    @property
    def rate(self) -> float:
        """Records a second, from the claim to the last commit."""
        return self.committed / self.took_s if self.took_s > 0 else 0.0

    def confusion(self) -> dict[tuple[bool, bool], int]:
        """How many labelled records there are for each (is defective, is called an anomaly)."""
        counts = {(label, called): 0 for label in (False, True) for called in (False, True)}
        for one in self.judged:
            if one.is_defective is not None:
                counts[one.is_defective, one.is_anomaly] += 1
        return counts

    def auroc(self) -> float | None:
        """The chance that a defective image scores above a normal one; None without both kinds."""
        labelled = [one for one in self.judged if one.is_defective is not None]
        return auroc([one.score for one in labelled], [bool(one.is_defective) for one in labelled])


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Area under the ROC curve, from ranks: ties count half. None unless both labels occur."""
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    wanted, others = int(positive.sum()), int((~positive).sum())
    if not wanted or not others:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - wanted * (wanted + 1) / 2) / (wanted * others))


def outcome(dsn: str, since: datetime) -> Outcome:
    """Read from the database what came of the runs that began after *since*."""
    with psycopg.connect(dsn) as connection:
        counts = row(connection, "outcome", {"since": since})
        judged = [_judged(*found) for found in connection.execute(statement("judged"), {"since": since})]
    return Outcome(states=counts["states"], committed=counts["committed"], took_s=counts["took_s"], judged=judged)


def lines(result: Outcome, *, page: str) -> Iterator[str]:
    """The summary, a line each."""
    yield "records: " + (", ".join(f"{count} {status}" for status, count in sorted(result.states.items())) or "none")
    yield f"this run: {result.committed} records in {result.took_s:.1f} s, {result.rate:.1f} records/s"
    found = sum(one.is_anomaly for one in result.judged)
    yield f"anomalies: {found} of {len(result.judged)} records"
    if (area := result.auroc()) is not None:
        yield from _against_labels(result.confusion(), area)
    yield f"page: {page}"


def _against_labels(confusion: Mapping[tuple[bool, bool], int], area: float) -> Iterator[str]:
    yield "                 called anomaly  called normal"
    for label, word in ((True, "defective"), (False, "normal")):
        yield f"  {word:<12} {confusion[label, True]:>16} {confusion[label, False]:>14}"
    yield f"AUROC: {area:.3f}"


def _judged(score: float, is_anomaly: Any, probability: float | None) -> Judged:
    return Judged(score=score, is_anomaly=bool(is_anomaly), is_defective=None if probability is None else probability > 0)
