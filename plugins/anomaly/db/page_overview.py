"""Queries of the page's overview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anomaly.db.stats import StatsStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.runs import Backlog

BARS = 40
"""Bars of the distribution of scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRun:
    """A run that works on records now."""

    dag_id: str
    run_id: str
    since: datetime
    records: int
    """Records that ended in the last *seconds*."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run, with the counts of its finished chunks."""

    dag_id: str
    run_id: str
    since: datetime
    until: datetime | None
    is_open: bool
    claimed: int
    committed: int
    quarantined: int
    deferred: int
    released: int
    verdicts: int
    """Verdicts over which the spreads and *anomalies* are counted: the last ones."""
    anomalies: int
    fetch: Sequence[float | None] | None
    detect: Sequence[float | None] | None
    archive: Sequence[float | None] | None
    commit: Sequence[float | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The quarantined records with one error code, and the newest of them."""

    code: str
    records: int
    example: int
    error: str | None
    failed_at: datetime | None
    image_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCount:
    """Verdicts of one detector in one hour or day."""

    at: datetime
    detector: str
    verdicts: int
    anomalies: int
    first_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBar:
    """Verdicts whose scores are in one of `BARS` equal parts of the range from *low* to *high*."""

    low: float
    high: float
    threshold_low: float | None
    threshold_high: float | None
    bar: int
    verdicts: int
    anomalies: int


class OverviewStore:
    """Backlog, runs, verdicts and failures.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def backlog(self) -> Backlog:
        return StatsStore(self._database).backlog()

    def active(self) -> list[ActiveRun]:
        return [ActiveRun(**row) for row in self._database.fetch_all("page_activity", {})]

    def runs(self, *, size: int) -> list[RunSummary]:
        """Return the last runs, the newest first."""
        return [RunSummary(**row) for row in self._database.fetch_all("page_runs", {"size": size})]

    def failures(self) -> list[Failure]:
        return [Failure(**row) for row in self._database.fetch_all("page_failures", {})]

    def verdicts(self, *, since: datetime, step: Literal["hour", "day"]) -> list[VerdictCount]:
        return [VerdictCount(**row) for row in self._database.fetch_all("page_verdicts", {"since": since, "step": step})]

    def scores(self, *, since: datetime, detector: str) -> list[ScoreBar]:
        return [ScoreBar(**row) for row in self._database.fetch_all("page_scores", {"since": since, "detector": detector})]
