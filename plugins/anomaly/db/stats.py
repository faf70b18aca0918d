"""Throughput and backlog, as the records database knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.models.runs import Backlog

if TYPE_CHECKING:
    from anomaly.db.client import Database


class StatsStore:
    """Rate and backlog.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def records_per_s(self) -> float | None:
        """Return the rate of one mapped task in the last run with enough records to measure it; None if there was no such run."""
        rate: float | None = self._database.fetch_all("task_rate", {})[0]["records_per_s"]
        return rate

    def backlog(self) -> Backlog:
        """Count the records in each unfinished state."""
        return Backlog(**self._database.fetch_all("backlog", {})[0])
