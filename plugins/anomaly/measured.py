"""What the records database knows of how fast the work goes and of how much waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Records with which something is still to be done, by state; a million stands for that or more."""

    due: int
    later: int
    """Pending, and not before a time that has not come."""
    claimed: int
    quarantined: int
    oldest_due_age_s: float | None
    """How long ago the one was captured that is due for the longest; None where nothing is due."""


class Measured:
    """Each method raises DatabaseUnavailable where there was no answer, and Misconfigured where the schema does not fit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def records_per_s(self) -> float | None:
        """Of one mapped task, in the last run that had enough records to tell; None before there was one."""
        rate: float | None = self._database.rows("task_rate", {})[0]["records_per_s"]
        return rate

    def backlog(self) -> Backlog:
        """What waits right now."""
        return Backlog(**self._database.rows("backlog", {})[0])
