"""Summary of a run: counts, rate, and accuracy against the labels if there are any."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from anomaly.db.statements import default_statements
from embedded.queries import row, statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class LabelledRecord:
    """The latest verdict of a record that has a label."""

    score: float
    is_anomaly: bool
    is_defective: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of the finished runs."""

    states: Mapping[str, int]
    """Number of records in the database by status."""
    committed: int
    """Records committed by these runs."""
    anomalies: int
    took_s: float
    labelled: Sequence[LabelledRecord]

    @property
    def rate(self) -> float:
        """Records a second, from the first claim to the last commit."""
        return self.committed / self.took_s if self.took_s > 0 else 0.0

    def confusion(self) -> Counter[tuple[bool, bool]]:
        """Return the number of labelled records by (is_defective, is_anomaly)."""
        return Counter((one.is_defective, one.is_anomaly) for one in self.labelled)

    def auroc(self) -> float | None:
        """Return the AUROC of the scores against the labels; None unless both labels occur."""
        return auroc([one.score for one in self.labelled], [one.is_defective for one in self.labelled])


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve, with ties counted half; None unless both labels occur."""
    positive = [score for score, label in zip(scores, labels, strict=True) if label]
    negative = sorted(score for score, label in zip(scores, labels, strict=True) if not label)
    if not positive or not negative:
        return None
    below = sum(bisect_left(negative, score) + bisect_right(negative, score) for score in positive) / 2
    return below / (len(positive) * len(negative))


def outcome(dsn: str, since: datetime) -> Outcome:
    """Read the figures of the runs that began after *since* from the database."""
    with psycopg.connect(dsn) as connection:
        counts = row(connection, default_statements()["run_outcome"], {"since": since})
        labelled = [LabelledRecord(*found) for found in connection.execute(statement("labelled_scores"), {"since": since})]
    return Outcome(**counts, labelled=labelled)


def summary_lines(result: Outcome, *, page: str) -> Iterator[str]:
    """Yield the lines of the summary."""
    yield "records: " + (", ".join(f"{count} {status}" for status, count in sorted(result.states.items())) or "none")
    yield f"this run: {result.committed} records in {result.took_s:.1f} s, {result.rate:.1f} records/s"
    yield f"anomalies: {result.anomalies} of {result.committed} records"
    if (area := result.auroc()) is not None:
        yield from _against_labels(result.confusion(), area)
    yield f"page: {page}"


def _against_labels(confusion: Mapping[tuple[bool, bool], int], area: float) -> Iterator[str]:
    yield "                 called anomaly  called normal"
    for label, word in ((True, "defective"), (False, "normal")):
        yield f"  {word:<12} {confusion[label, True]:>16} {confusion[label, False]:>14}"
    yield f"AUROC: {area:.3f}"


def last_error(dsn: str, since: datetime) -> str:
    """Return the error of the record that failed last in the runs that began after *since*; empty if none failed."""
    with psycopg.connect(dsn) as connection:
        found = row(connection, statement("last_error"), {"since": since})
    return f"the last record that failed: {found['error_code']}: {found['error']}" if found else ""
