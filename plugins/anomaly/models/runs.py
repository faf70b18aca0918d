"""Runs, their batches and chunks, as frozen values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal, NewType, Self

from anomaly.errors import Misconfigured

BatchId = NewType("BatchId", uuid.UUID)
Select = Literal["pending", "failed", "all"]
Origin = Literal["pending", "done"]
"""The status that a claimed record came from, and gets back when it is freed."""

CHUNK_SIZE = 250
"""Where nobody asked for a size, and nothing was measured yet."""
_BATCH_NAMESPACE = uuid.UUID("6f0b8d0e-6a54-4c61-9c1b-0d4f6a1f2a77")


@cache
def batch_id_of(dag_id: str, run_id: str) -> BatchId:
    """Derive the batch of a run; a second try of `claim` finds what its first try committed."""
    return BatchId(uuid.uuid5(_BATCH_NAMESPACE, f"{dag_id}\n{run_id}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Records captured in [start, end); None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the DAG: what it may claim, and who asks."""

    dag_id: str
    run_id: str
    window: Window
    select: Select = "pending"
    batch_size: int = 1000
    chunk_size: int = CHUNK_SIZE
    max_records: int | None = None
    fresh: bool = False
    max_failure_rate: float = 1.0
    dry_run: bool = False
    """Claims nothing, and reports what it would."""
    requested_by: str = "airflow"

    @property
    def batch_id(self) -> BatchId:
        return batch_id_of(self.dag_id, self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who works a chunk: one try of one mapped task."""

    map_index: int
    try_number: int
    """Starts at 1."""
    last_try: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one lease covers, as it travels by XCom."""

    batch_id: BatchId
    number: int
    began_at: datetime
    """When the batch began, by the database's clock; fences every later claim of the batch."""
    size: int = CHUNK_SIZE
    """Records of each further chunk that its task claims."""

    def to_xcom(self) -> dict[str, Any]:
        return {"batch": str(self.batch_id), "chunk": self.number, "began_at": self.began_at.isoformat(), "size": self.size}

    @classmethod
    def from_xcom(cls, value: object) -> Self:
        """Read a chunk description.

        Raises:
            Misconfigured: it is not one of ours.
        """
        try:
            began_at = datetime.fromisoformat(value["began_at"])  # type: ignore[index]  # a wrong shape is what we catch
            batch_id = BatchId(uuid.UUID(value["batch"]))  # type: ignore[index]
            size = int(value.get("size", CHUNK_SIZE))  # type: ignore[attr-defined]  # a claim of an older version says none
            return cls(batch_id=batch_id, number=int(value["chunk"]), began_at=began_at, size=size)  # type: ignore[index]
        except (AttributeError, TypeError, KeyError, ValueError) as exc:
            raise Misconfigured(f"this is no chunk description of the claim task: {str(value)[:200]}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What a release or a reap set free."""

    chunks: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingStats:
    """How a timing was spread."""

    count: int
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What a batch came to, as the database counts it."""

    statuses: dict[str, int]
    """Records whose last claim was the batch's."""
    events: dict[tuple[str, str | None], int]
    """How claims ended, by event and error code."""
    timings: dict[str, TimingStats]
    tallies: dict[int, dict[str, Any]]
    """Of each ended chunk, as its task counted."""
    anomalies: int
    reused: int
    """Verdicts read from the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a run would take."""

    due: dict[str, int]
    """Records by the status that they would be taken from."""
    records_per_s: float | None
    """Of the last run that took any; None when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFilter:
    """Some of the quarantined records: those for which all that is given holds."""

    error_code: str | None = None
    window: Window = field(default_factory=Window)
    record_ids: tuple[int, ...] | None = None


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
