"""Queries of the page's overview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from anomaly.db.page_run import RunDetails
from anomaly.db.stats import StatsStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.runs import Backlog

SUM_STEPS = 5
"""Most steps of `sum_verdicts` for one page. Results that are not summed are counted each time."""


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
class RunSummary(RunDetails):
    """A run in the table of the last ones, with the spreads of its stages."""

    dag_id: str
    run_id: str
    verdicts: int
    """Verdicts over which the spreads and *anomalies* are counted: the last ones."""
    anomalies: int
    fetch: Sequence[float | None] | None
    detect: Sequence[float | None] | None
    archive: Sequence[float | None] | None
    commit: Sequence[float | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCount:
    """Verdicts of one detector in one hour or day."""

    at: datetime
    detector: str
    verdicts: int
    anomalies: int
    first_at: datetime
    threshold_low: float | None
    """The lowest threshold that was used."""
    threshold_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBin:
    """Verdicts whose scores are in one bin of `anomaly.score_bin`, a twentieth of their power of ten wide."""

    score: float
    """The lower end of the bin."""
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

    def failures(self) -> list[dict[str, Any]]:
        """Return the error codes of quarantined records, with counts and the newest record of each."""
        return [each for each in self._database.fetch_all("list_errors", {}) if each["quarantined"]]

    def sum_verdicts(self) -> None:
        """Add the results of some hours to the sums from which the next two methods read."""
        StatsStore(self._database).sum_verdicts(steps_max=SUM_STEPS)

    def verdicts(self, *, since: datetime, step: Literal["hour", "day"]) -> list[VerdictCount]:
        """Count verdicts. *since* is the beginning of an hour or a day in UTC, as *step* is."""
        return [VerdictCount(**row) for row in self._database.fetch_all("page_verdicts", {"since": since, "step": step})]

    def scores(self, *, since: datetime, detector: str) -> list[ScoreBin]:
        """Count a detector's finite scores. *since* is the beginning of a day in UTC."""
        return [ScoreBin(**row) for row in self._database.fetch_all("page_scores", {"since": since, "detector": detector})]
