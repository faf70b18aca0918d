"""What the records database knows of how fast the work goes and of how much waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.models.runs import Backlog

if TYPE_CHECKING:
    from anomaly.db.client import Database


class StatsStore:
    """Each method raises DatabaseUnavailable where there was no answer, and Misconfigured where the schema does not fit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def records_per_s(self) -> float | None:
        """Of one mapped task, in the last run that had enough records to tell; None before there was one."""
        rate: float | None = self._database.fetch_all("task_rate", {})[0]["records_per_s"]
        return rate

    def backlog(self) -> Backlog:
        """What waits right now."""
        return Backlog(**self._database.fetch_all("backlog", {})[0])
