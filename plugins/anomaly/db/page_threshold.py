"""Queries of the threshold page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly.db.client import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoices:
    """Detectors and sources from which a person chooses."""

    detectors: Sequence[str]
    newest: str | None
    """The detector of the newest image."""
    sources: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSpan:
    """The ends of a detector's scores. All are None without a verdict."""

    low: float | None
    high: float | None
    newest_at: datetime | None
    threshold_low: float | None
    """The thresholds by which its records are flagged now."""
    threshold_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCell:
    """Records between two edges."""

    cell: int
    records: int
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCell:
    """Reviews between two edges: all of them, and those that an estimate may count."""

    cell: int
    said_anomaly: int
    said_normal: int
    said_unsure: int
    anomalies: int
    normals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuery:
    """The records that are counted."""

    detector: str
    since: datetime | None = None
    source: str | None = None


class ThresholdPageStore:
    """Scores of a detector, and what people said about them.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def choices(self) -> ThresholdChoices:
        return ThresholdChoices(**self._database.fetch_all("page_threshold_choices", {})[0])

    def span(self, detector: str) -> ScoreSpan:
        return ScoreSpan(**self._database.fetch_all("page_threshold_span", {"detector": detector})[0])

    def records(self, wanted: ScoreQuery, edges: Sequence[float]) -> list[RecordCell]:
        return [RecordCell(**row) for row in self._database.fetch_all("page_threshold_records", _params(wanted, edges))]

    def reviews(self, wanted: ScoreQuery, edges: Sequence[float]) -> list[ReviewCell]:
        return [ReviewCell(**row) for row in self._database.fetch_all("page_threshold_reviews", _params(wanted, edges))]


def _params(wanted: ScoreQuery, edges: Sequence[float]) -> dict[str, object]:
    return {"detector": wanted.detector, "since": wanted.since, "source": wanted.source, "edges": list(edges)}
