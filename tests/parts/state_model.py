"""A model of the statements on records: the table of states in `docs/architecture.md`, over plain values and without SQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anomaly.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from anomaly.models.records import Claim
    from anomaly.models.runs import BatchId, Holder, Origin

ATTEMPTS_MAX = 5
SUSPECT, GIVEN_UP = 2, 5
ENDINGS = {"deferred": "pending", "quarantined": "quarantined", "rescore_failed": "done"}


@dataclass
class Record:
    status: str
    attempts: int
    lost: int
    token: int
    chunk: tuple[BatchId, int] | None
    due: bool
    processed_at: datetime | None = field(compare=False)


@dataclass
class Chunk:
    map_index: int | None
    try_number: int
    claimed_from: str
    opened: bool = False
    ended: bool = False
    alone: int | None = None
    expired: bool = False


@dataclass
class Batch:
    began_at: datetime | None = field(compare=False)
    next_chunk: int
    claimed: int


@dataclass
class StateModel:
    """All state that the statements read and write."""

    records: dict[int, Record] = field(default_factory=dict)
    chunks: dict[tuple[BatchId, int], Chunk] = field(default_factory=dict)
    batches: dict[BatchId, Batch] = field(default_factory=dict)
    results: set[tuple[int, int]] = field(default_factory=set)
    log: Counter[tuple[int, str, int]] = field(default_factory=Counter)
    """Number of log entries by record, event and token."""

    # ── batches

    def begin(self, batch: BatchId) -> None:
        """Begin a batch, also again after its end; it may then claim its full size again."""
        if self.batches[batch].began_at is None:
            self.batches[batch].claimed = 0

    def report(self, batch: BatchId) -> None:
        self.batches[batch].began_at = None
        self.release(batch)

    # ── claiming

    def claim(self, batch: BatchId, origin: Origin, *, began_at: datetime, size: int, holder: Holder | None) -> int | None:
        row = self.batches[batch]
        if row.began_at != began_at:
            return None
        taken = [record for record in self.records.values() if self._claimable(record, origin, began_at)][:size]
        if not taken:
            return None
        number = row.next_chunk
        for record in taken:
            record.status, record.token, record.chunk = "claimed", record.token + 1, (batch, number)
            record.attempts = 0 if origin == "done" else record.attempts
        map_index, try_number = (holder.map_index, holder.try_number) if holder else (None, 0)
        self.chunks[batch, number] = Chunk(map_index, try_number, origin)
        row.next_chunk, row.claimed = number + 1, row.claimed + len(taken)
        return number

    @staticmethod
    def _claimable(record: Record, origin: Origin, began_at: datetime) -> bool:
        if record.status != origin or not record.due:
            return False
        return origin == "pending" or (record.lost < GIVEN_UP and record.processed_at is not None and record.processed_at < began_at)

    def requeue(self, batch: BatchId, *, began_at: datetime) -> int:
        if self.batches[batch].began_at != began_at:
            return 0
        found = {
            number: record
            for number, record in self.records.items()
            if record.status == "quarantined" and (record.processed_at is None or record.processed_at < began_at)
        }
        for number, record in found.items():
            record.status, record.attempts, record.lost, record.due = "pending", 0, 0, True
            self._log(number, "requeued")
        return len(found)

    # ── chunks

    def open(self, batch: BatchId, number: int, holder: Holder) -> list[tuple[int, int]]:
        chunk = self.chunks.get((batch, number))
        if chunk is None or chunk.ended or chunk.map_index not in {None, holder.map_index} or chunk.try_number > holder.try_number:
            raise LeaseLost
        took_over = chunk.try_number != holder.try_number
        for record_id, record in self._claimed_of((batch, number)):
            record.token += 1
            if took_over and self._count_loss(record_id, record, chunk):
                died = record.lost >= GIVEN_UP
                record.status = "claimed" if not died else "done" if chunk.claimed_from == "done" else "quarantined"
                self._log(record_id, "worker_died" if died else "reopened")
        chunk.map_index, chunk.try_number = holder.map_index, holder.try_number
        chunk.opened, chunk.alone, chunk.expired = True, None, False
        return [(record_id, record.token) for record_id, record in self._claimed_of((batch, number))]

    def reap(self) -> int:
        freed = 0
        for key, chunk in self.chunks.items():
            if chunk.ended or not chunk.expired:
                continue
            for record_id, record in self._claimed_of(key):
                self._count_loss(record_id, record, chunk)
                died = record.lost >= GIVEN_UP
                record.status = "quarantined" if died and chunk.claimed_from == "pending" else chunk.claimed_from
                self._log(record_id, "worker_died" if died else "expired")
                freed += 1
            chunk.ended = True
        return freed

    def _count_loss(self, record_id: int, record: Record, chunk: Chunk) -> bool:
        """Count a lost worker for the record that was worked alone, else for all that were not suspects; return whether it counts."""
        guilty = record_id == chunk.alone if chunk.alone is not None else record.lost < SUSPECT
        hit = chunk.opened and guilty
        record.lost += hit
        record.attempts += hit and record.lost >= GIVEN_UP
        return hit

    def renew(self, batch: BatchId, numbers: Collection[int], holder: Holder) -> set[int]:
        renewed = {number: chunk for number, chunk in self._held_by(batch, holder) if number in numbers}
        for chunk in renewed.values():
            chunk.expired = False
        return set(renewed)

    def park(self, batch: BatchId, holder: Holder) -> None:
        for _, chunk in self._held_by(batch, holder):
            chunk.opened, chunk.alone, chunk.expired = False, None, False

    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None:
        chunk = dict(self._held_by(claim.batch_id, holder)).get(claim.chunk)
        if chunk is None:
            raise LeaseLost
        chunk.alone = claim.record_id if alone else None

    def end(self, batch: BatchId, number: int, holder: Holder) -> bool:
        chunk = dict(self._held_by(batch, holder)).get(number)
        if chunk is None or any(self._claimed_of((batch, number))):
            return False
        chunk.ended = True
        return True

    def release(self, batch: BatchId, holder: Holder | None = None) -> None:
        """Release the chunks of one holder, or of the whole batch."""
        for (owner, number), chunk in self.chunks.items():
            if owner != batch or chunk.ended or (holder and (chunk.map_index, chunk.try_number) != (holder.map_index, holder.try_number)):
                continue
            for record_id, record in self._claimed_of((owner, number)):
                record.status = chunk.claimed_from
                self._log(record_id, "released")
            chunk.ended = True

    # ── outcomes

    def commit(self, claim: Claim) -> None:
        record = self.records[claim.record_id]
        if self._fenced(claim):
            record.status, record.attempts, record.lost, record.due = "done", record.attempts + 1, 0, True
            self.results.add((claim.record_id, claim.token))
            self._log(claim.record_id, "committed")
        elif (claim.record_id, claim.token) not in self.results:
            raise LeaseLost

    def fail(self, claim: Claim, *, permanent: bool) -> str:
        record = self.records[claim.record_id]
        if not self._fenced(claim):
            return self._earlier_outcome(claim)
        record.attempts, record.lost = record.attempts + 1, 0
        if claim.claimed_from == "done":
            event = "rescore_failed"
        else:
            event = "quarantined" if permanent or record.attempts >= ATTEMPTS_MAX else "deferred"
            record.due = permanent
        record.status = ENDINGS[event]
        self._log(claim.record_id, event)
        return record.status

    def give_back(self, claim: Claim) -> str:
        record = self.records[claim.record_id]
        if not self._fenced(claim):
            return self._earlier_outcome(claim)
        record.status, record.due = claim.claimed_from, False
        self._log(claim.record_id, "throttled")
        return record.status

    def _fenced(self, claim: Claim) -> bool:
        record = self.records[claim.record_id]
        return record.status == "claimed" and record.token == claim.token

    def _earlier_outcome(self, claim: Claim) -> str:
        for event, status in {**ENDINGS, "throttled": claim.claimed_from}.items():
            if self.log[claim.record_id, event, claim.token]:
                return status
        raise LeaseLost

    # ── shared

    def _log(self, record_id: int, event: str) -> None:
        self.log[record_id, event, self.records[record_id].token] += 1

    def _held_by(self, batch: BatchId, holder: Holder) -> Iterator[tuple[int, Chunk]]:
        for (owner, number), chunk in self.chunks.items():
            if owner == batch and not chunk.ended and (chunk.map_index, chunk.try_number) == (holder.map_index, holder.try_number):
                yield number, chunk

    def _claimed_of(self, key: tuple[BatchId, int]) -> list[tuple[int, Record]]:
        return [(record_id, record) for record_id, record in self.records.items() if record.chunk == key and record.status == "claimed"]
