"""Queries of the page about one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.db.page_gallery import JudgedRecord

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.runs import BatchId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """A run, with the counts of its finished chunks."""

    since: datetime
    until: datetime | None
    is_open: bool
    claimed: int
    committed: int
    quarantined: int
    deferred: int
    released: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """The records that failed in a run with one error code, and the newest of them."""

    code: str
    records: int
    example: int
    error: str | None


class RunPageStore:
    """A run with its records. Every query is bounded, however large the run is.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, batch_id: BatchId) -> None:
        self._database = database
        self._batch = {"batch_id": batch_id}

    def details(self) -> RunDetails | None:
        """Return the run; None if it never claimed anything, or was deleted by retention."""
        row = self._database.fetch_one("page_run", self._batch)
        return RunDetails(**row) if row else None

    def records(self, *, size: int) -> list[JudgedRecord]:
        """Return judged records, anomalies first, by score."""
        return [JudgedRecord(**row) for row in self._database.fetch_all("page_run_records", {**self._batch, "size": size})]

    def failures(self) -> list[RunFailure]:
        """Return the error codes of records that failed."""
        return [RunFailure(**row) for row in self._database.fetch_all("page_run_failures", self._batch)]
