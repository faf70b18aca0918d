"""Runs, their batches, chunks and reports."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NewType, Self

from anomaly.errors import Misconfigured

BatchId = NewType("BatchId", uuid.UUID)
Select = Literal["pending", "failed", "all"]
Origin = Literal["pending", "done"]
"""The status of a record before it was claimed, which it gets back when it is released."""

CHUNK_SIZE = 250
"""Default size, used until a rate has been measured."""
_BATCH_NAMESPACE = uuid.UUID("6f0b8d0e-6a54-4c61-9c1b-0d4f6a1f2a77")


def batch_id_of(dag_id: str, run_id: str) -> BatchId:
    """Derive the id of a run's batch, so that a second try of `claim` finds what its first try committed."""
    return BatchId(uuid.uuid5(_BATCH_NAMESPACE, f"{dag_id}\n{run_id}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Records captured in [start, end). None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the DAG: the records that it may claim, and its options."""

    dag_id: str
    run_id: str
    window: Window
    select: Select = "pending"
    batch_size: int = 1000
    chunk_size: int = CHUNK_SIZE
    max_records: int | None = None
    fresh: bool = False
    max_failure_rate: float = 0.5
    dry_run: bool = False
    """Claim nothing, and report what the run would claim."""
    requested_by: str = "airflow"
    batch_id: BatchId = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_id", batch_id_of(self.dag_id, self.run_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One try of one mapped task, which holds chunks."""

    map_index: int
    try_number: int
    """Starts at 1."""
    last_try: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk, the records under one lease, as it is passed by XCom."""

    batch_id: BatchId
    number: int
    began_at: datetime
    """When the batch began, by the database's clock. Fences every later claim of the batch."""
    size: int = CHUNK_SIZE
    """Records of each further chunk that the task claims."""

    def to_xcom(self) -> dict[str, Any]:
        return {"batch": str(self.batch_id), "chunk": self.number, "began_at": self.began_at.isoformat(), "size": self.size}

    @classmethod
    def from_xcom(cls, value: object) -> Self:
        """Read a chunk description.

        Raises:
            Misconfigured: *value* does not describe a chunk.
        """
        try:
            began_at = datetime.fromisoformat(value["began_at"])  # type: ignore[index]  # a wrong shape is caught below
            batch_id = BatchId(uuid.UUID(value["batch"]))  # type: ignore[index]
            size = int(value.get("size", CHUNK_SIZE))  # type: ignore[attr-defined]  # older versions send no size
            return cls(batch_id=batch_id, number=int(value["chunk"]), began_at=began_at, size=size)  # type: ignore[index]
        except (AttributeError, TypeError, KeyError, ValueError) as exc:
            raise Misconfigured(f"not a chunk description of the claim task: {str(value)[:200]}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Counts of chunks that were ended and records that were released."""

    chunks: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingStats:
    """Distribution of a timing."""

    count: int
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """The outcomes of a batch, as the database counts them."""

    statuses: dict[str, int]
    """Records whose last claim was of this batch, by status."""
    events: dict[tuple[str, str | None], int]
    """Ended claims by event and error code."""
    timings: dict[str, TimingStats]
    tallies: dict[int, dict[str, Any]]
    """The tally of each ended chunk."""
    anomalies: int
    reused: int
    """Verdicts read from the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The records that a run would claim."""

    due: dict[str, int]
    """Records by their current status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFilter:
    """Chooses quarantined records. Those match that fulfil every given condition."""

    error_code: str | None = None
    window: Window = field(default_factory=Window)
    record_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Unfinished records by state. Each count stops at a million."""

    due: int
    later: int
    """Pending, and deferred to a later time."""
    claimed: int
    quarantined: int
    oldest_due_age_s: float | None
    """Age of the due record that was captured first; None if nothing is due."""
