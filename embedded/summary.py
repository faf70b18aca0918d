"""Summary of a run: counts, rate, and accuracy against the labels if there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from embedded.queries import row, statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRecord:
    """A record's latest verdict and label."""

    score: float
    is_anomaly: bool
    is_defective: bool | None
    """None if the record has no label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of the finished runs."""

    states: Mapping[str, int]
    """Number of records in the database by status."""
    committed: int
    """Records committed by these runs."""
    took_s: float
    scored: Sequence[ScoredRecord]

    @property
    def rate(self) -> float:
        """Records a second, from the first claim to the last commit."""
        return self.committed / self.took_s if self.took_s > 0 else 0.0

    def confusion(self) -> dict[tuple[bool, bool], int]:
        """Return the number of labelled records by (is_defective, is_anomaly)."""
        counts = {(label, called): 0 for label in (False, True) for called in (False, True)}
        for one in self.scored:
            if one.is_defective is not None:
                counts[one.is_defective, one.is_anomaly] += 1
        return counts

    def auroc(self) -> float | None:
        """Return the AUROC of the scores against the labels; None unless both labels occur."""
        labelled = [one for one in self.scored if one.is_defective is not None]
        return auroc([one.score for one in labelled], [bool(one.is_defective) for one in labelled])


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve, computed from ranks with ties counted half; None unless both labels occur."""
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def outcome(dsn: str, since: datetime) -> Outcome:
    """Read the figures of the runs that began after *since* from the database."""
    with psycopg.connect(dsn) as connection:
        counts = row(connection, "outcome", {"since": since})
        scored = [_scored_record(*found) for found in connection.execute(statement("scored_records"), {"since": since})]
    return Outcome(states=counts["states"], committed=counts["committed"], took_s=counts["took_s"], scored=scored)


def summary_lines(result: Outcome, *, page: str) -> Iterator[str]:
    """Yield the lines of the summary."""
    yield "records: " + (", ".join(f"{count} {status}" for status, count in sorted(result.states.items())) or "none")
    yield f"this run: {result.committed} records in {result.took_s:.1f} s, {result.rate:.1f} records/s"
    found = sum(one.is_anomaly for one in result.scored)
    yield f"anomalies: {found} of {len(result.scored)} records"
    if (area := result.auroc()) is not None:
        yield from _against_labels(result.confusion(), area)
    yield f"page: {page}"


def _against_labels(confusion: Mapping[tuple[bool, bool], int], area: float) -> Iterator[str]:
    yield "                 called anomaly  called normal"
    for label, word in ((True, "defective"), (False, "normal")):
        yield f"  {word:<12} {confusion[label, True]:>16} {confusion[label, False]:>14}"
    yield f"AUROC: {area:.3f}"


def _scored_record(score: float, is_anomaly: Any, probability: float | None) -> ScoredRecord:
    return ScoredRecord(score=score, is_anomaly=bool(is_anomaly), is_defective=None if probability is None else probability > 0)
