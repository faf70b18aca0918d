"""Reads records, runs and results for people: status, errors, the story of a record, and comparison."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.db.client import Database
    from anomaly.models.runs import Window

BATCHES = 20
"""Open batches that are listed; the others have probably lost their run."""
STORY = 1000
"""Newest entries of a record's log, and newest results."""
PAGE = 1000
"""Records that one statement reads, which keeps transactions short."""
_FIRST = {"after_at": datetime.min.replace(tzinfo=UTC), "after_id": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdicts of two detectors on the records that both have scored, by each one's newest result."""

    records: int = 0
    both_anomalous: int = 0
    only_first: int = 0
    only_second: int = 0
    both_normal: int = 0
    changed: tuple[dict[str, Any], ...] = ()
    """Some of the records whose verdicts differ."""

    @property
    def agreement(self) -> float | None:
        """The share of records with the same verdict; None without records."""
        return (self.both_anomalous + self.both_normal) / self.records if self.records else None


class InspectionStore:
    """Statements that only read. Every one is bounded, however many records there are.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    def open_batches(self) -> list[dict[str, Any]]:
        """Return the newest batches that are not over, with their leases."""
        return self._database.fetch_all("open_batches", {"size": BATCHES})

    def last_runs(self, count: int) -> list[dict[str, Any]]:
        """Return the newest runs with their outcomes."""
        return self._database.fetch_all("last_runs", {"size": count})

    def backlog(self) -> list[dict[str, Any]]:
        """Return the counts of unfinished records by state, for each source; records without one have the source None."""
        return self._database.fetch_all("backlog_by_source", {})

    def errors(self) -> list[dict[str, Any]]:
        """Return the error codes of unfinished records, with counts and an example of each."""
        return self._database.fetch_all("list_errors", {})

    def story(self, record_id: int) -> dict[str, Any] | None:
        """Return everything about a record: itself, claim, flags, log and results."""
        return self._database.fetch_one("record_story", {"record_id": record_id, "size": STORY})

    def detectors(self) -> list[str]:
        """Return the names of the detectors that have results."""
        return [row["detector"] for row in self._database.fetch_all("detector_names", {})]

    def compare(self, first: str, second: str, window: Window, *, examples: int) -> Comparison:
        """Compare two detectors on the done records of a window, with at most *examples* records whose verdicts differ."""
        found = Comparison()
        cursor = beginning(window)
        while cursor["after_id"] is not None:
            params = {"first": first, "second": second, "window_end": window.end, "size": self._page, "examples": examples}
            row = self._database.fetch_all("compare_page", {**params, **cursor})[0]
            cursor = {name: row.pop(name) for name in cursor}
            changed = (*found.changed, *({"captured_at": each.pop("at"), **each} for each in row.pop("changed")))[:examples]
            found = Comparison(**{name: getattr(found, name) + count for name, count in row.items()}, changed=changed)
        return found


def beginning(window: Window) -> dict[str, Any]:
    """Return the parameters of the first page of a window."""
    return _FIRST if window.start is None else {"after_at": window.start, "after_id": -1}
