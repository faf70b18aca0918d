"""Throughput and backlog, as the records database knows them."""

from __future__ import annotations

import itertools
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

    def sum_verdicts(self, *, steps_max: int | None = None) -> None:
        """Add results to the sums by hour and day, hour by hour, until none is older than 5 minutes or *steps_max* hours are added."""
        for _ in itertools.repeat(None) if steps_max is None else range(steps_max):
            if not self._database.fetch_all("sum_verdicts", {})[0]["more"]:
                break

    def backlog(self) -> Backlog:
        """Count the records in each unfinished state."""
        return Backlog(**self._database.fetch_all("backlog", {})[0])
