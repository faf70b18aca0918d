"""The one gateway to the records: how they are claimed, held, and ended. Each method is one statement of `include/sql`."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from anomaly.backoff import delay_s
from anomaly.db.answer_store import AnswerStore
from anomaly.db.mapping import chunk_numbers, claim_of, claim_params, holder_params, report_of, run_params, verdict_params
from anomaly.errors import LeaseLost
from anomaly.models.runs import Freed, Preview

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from anomaly.db.client import Database, Params
    from anomaly.errors import AnomalyError
    from anomaly.models.answers import Answer, ArchiveKeys
    from anomaly.models.records import Claim
    from anomaly.models.runs import BatchId, BatchReport, Holder, Origin, Run
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

ERROR_MAX_CHARS = 500
REQUEUE_SIZE = 1000
"""Records that one statement requeues, so that none is long."""


class RecordStore(AnswerStore):
    """All talk with the records database. Safe to use from many threads.

    Every method raises DatabaseUnavailable where there was no answer, and Misconfigured where the schema does not fit.
    """

    def __init__(self, database: Database, settings: Settings, *, rng: Random | None = None) -> None:
        super().__init__(database)
        self._settings = settings
        self._rng = rng or Random()  # noqa: S311  # it spreads waits, and guards nothing

    # ── batches

    def begin_batch(self, run: Run) -> datetime:
        """Open the run's batch, once or again; when it began fences all its later claims."""
        began_at: datetime = self._database.fetch_all("begin_batch", run_params(run))[0]["began_at"]
        return began_at

    def end_batch(self, batch_id: BatchId) -> None:
        """From here on no claim of the batch finds anything."""
        self._database.fetch_all("end_batch", {"batch_id": batch_id})

    def release_batch(self, batch_id: BatchId) -> Freed:
        """End every chunk that the batch has left, whoever holds it, and free its records."""
        return self._until_none("release_batch", {"batch_id": batch_id})

    def report(self, batch_id: BatchId) -> BatchReport:
        """What the batch came to, in one snapshot."""
        return report_of(self._database.fetch_all("run_report", {"batch_id": batch_id})[0])

    def preview(self, run: Run) -> Preview:
        """Count what the run would take, and change nothing."""
        row = self._database.fetch_all("preview_run", run_params(run))[0]
        return Preview(due={status: row[status] for status in ("pending", "quarantined", "done")}, records_per_s=row["records_per_s"])

    def current_time(self) -> datetime:
        """By the database's clock."""
        now: datetime = self._database.fetch_all("current_time", {})[0]["now"]
        return now

    # ── claiming

    def claim_chunk(
        self, run: Run, *, began_at: datetime, origin: Origin, map_index: int | None, try_number: int, lease_s: float, size: int = 0
    ) -> int | None:
        """Claim the next records of the run's window, `run.chunk_size` or *size* of them. It reaps nothing.

        Returns:
            The chunk's number. None: nothing is due, `max_records` is reached, or the batch is over.

        Raises:
            DatabaseUnavailable: if the connection died, a chunk may be claimed; `unopened_chunks` or `unfinished_chunks` lists it.
        """
        # Where the chunk is nobody's yet, whichever try of a task comes to open it may do so.
        holder = {"map_index": map_index, "try_number": 0 if map_index is None else try_number}
        params = {**run_params(run), **holder, "began_at": began_at, "size": size or run.chunk_size, "lease_s": lease_s}
        row = self._database.fetch_one(f"claim_{origin}", params, repeatable=False)
        return None if row is None else int(row["chunk"])

    def requeue(self, run: Run, *, began_at: datetime, actor: str) -> int:
        """Make the quarantined records of the run's window pending again, at most `max_records`; how many they were."""
        wanted, requeued = run.max_records, 0
        while size := REQUEUE_SIZE if wanted is None else min(REQUEUE_SIZE, wanted - requeued):
            params = {**run_params(run), "began_at": began_at, "size": size, "actor": actor}
            records = self._database.fetch_all("requeue_records", params)[0]["records"]
            requeued += records
            if records < size:
                break
        return requeued

    def reap_expired_chunks(self) -> int:
        """End all chunks whose lease ran out; how many records are claimable again or given up."""
        return self._until_none("reap_expired_chunks", {}).records

    # ── chunks

    def unopened_chunks(self, batch_id: BatchId) -> list[int]:
        """The batch's chunks that no task has opened yet: what an earlier try of `claim` committed."""
        return chunk_numbers(self._database.fetch_all("unopened_chunks", {"batch_id": batch_id}))

    def mapped_task_count(self, batch_id: BatchId) -> int:
        return int(self._database.fetch_all("mapped_task_count", {"batch_id": batch_id})[0]["tasks"])

    def unfinished_chunks(self, batch_id: BatchId, holder: Holder) -> list[int]:
        """What the mapped task has left, whichever of its tries claimed it."""
        return chunk_numbers(self._database.fetch_all("unfinished_chunks", {"batch_id": batch_id, "map_index": holder.map_index}))

    def open_chunk(self, batch_id: BatchId, number: int, holder: Holder, *, lease_s: float) -> tuple[Claim, ...]:
        """Take a chunk over, with what it still holds; suspects, whose workers died, come last.

        Raises:
            LeaseLost: it has ended, or another task or a later try of this one holds it.
        """
        rows = self._database.fetch_all("open_chunk", {"chunk": number, "lease_s": lease_s, **holder_params(batch_id, holder)})
        if not rows:
            raise LeaseLost(f"chunk {number} has ended, or someone else holds it")
        return tuple(claim_of(row, batch_id, number) for row in rows if row["id"] is not None)

    def renew_chunks(self, batch_id: BatchId, numbers: Collection[int], holder: Holder, *, lease_s: float) -> set[int]:
        """Prolong the leases of these chunks of this try; those that are still its own."""
        params = {"chunks": list(numbers), "lease_s": lease_s, **holder_params(batch_id, holder)}
        return set(chunk_numbers(self._database.fetch_all("renew_chunks", params)))

    def park_chunks(self, run: Run, holder: Holder, *, lease_s: float) -> None:
        """Keep what this try leaves unfinished until the next one opens it, at most for the lease."""
        self._database.fetch_all("park_chunks", {"lease_s": lease_s, **holder_params(run.batch_id, holder)})

    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None:
        """Say that the claim's record is the only one in work, or that it is no longer.

        Raises:
            LeaseLost: the chunk is not ours.
        """
        record_id = claim.record_id if alone else None
        params = {"chunk": claim.chunk, "record_id": record_id, **holder_params(claim.batch_id, holder)}
        if not self._database.fetch_all("mark_alone", params):
            raise LeaseLost(f"chunk {claim.chunk} has ended, or someone else holds it")

    def end_chunk(self, run: Run, number: int, holder: Holder, *, tally: dict[str, Any]) -> bool:
        """End a chunk of which nothing is claimed any more. False: something is, or the chunk is not ours."""
        params = {"chunk": number, "tally": Jsonb(tally), **holder_params(run.batch_id, holder)}
        return bool(self._database.fetch_all("end_chunk", params, repeatable=False))

    def release_chunks(self, run: Run, holder: Holder) -> None:
        """End everything that this try holds; its records are due at once."""
        row = self._database.fetch_all("release_chunks", holder_params(run.batch_id, holder))[0]
        log.info("chunks released chunks=%d records=%d", row["chunks"], row["records"])

    # ── how a record ends

    def commit(
        self,
        claim: Claim,
        answer: Answer,
        archived: ArchiveKeys,
        *,
        config: str,
        image_sha256: str,
        run: Run,
        holder: Holder,
        timings: dict[str, float],
    ) -> None:
        """Commit the record's four updates, or none of them.

        A commit whose answer was lost is sent again. It waits for the first one's row lock, so it finds either the record still
        claimed, or the result under its own token.

        Raises:
            LeaseLost: another claim of this record came later.
            DatabaseUnavailable: the commit did not happen, or it cannot be known; asking again is safe.
        """
        who = {**claim_params(claim), **run_params(run), **holder_params(run.batch_id, holder)}
        what = {**verdict_params(answer, archived), "config": config, "image_sha256": image_sha256, "timings": json.dumps(timings)}
        if not self._database.execute("commit_verdict", {**who, **what}):
            self._known("find_commit", claim)

    def defer(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str:
        """Count a failed attempt; the record is due again after a delay that doubles, or has used up its attempts.

        Returns:
            The record's status now: pending or quarantined, and done where it was a re-scoring.

        Raises:
            LeaseLost: another claim of this record came later.
        """
        base_s, cap_s = self._settings.defer_backoff_s, self._settings.defer_cap_s
        wait_s = delay_s(claim.attempts + 1, base_s=base_s, cap_s=cap_s, rng=self._rng)
        return self._ended("fail_record", claim, error, timings, delay_s=wait_s, permanent=False, attempts_max=self._settings.attempts_max)

    def quarantine(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str:
        """Count a failed attempt and take the record out of work, with the reason; a re-scored one stays done.

        Raises:
            LeaseLost: another claim of this record came later.
        """
        return self._ended("fail_record", claim, error, timings, delay_s=0.0, permanent=True, attempts_max=self._settings.attempts_max)

    def give_back(self, claim: Claim, *, error: AnomalyError, not_before_s: float) -> str:
        """Give the record back for so many seconds, no attempt counted.

        Raises:
            LeaseLost: another claim of this record came later.
        """
        return self._ended("release_record", claim, error, {}, delay_s=not_before_s)

    def _ended(self, name: str, claim: Claim, error: AnomalyError, timings: dict[str, float], **params: Any) -> str:
        said = str(error).replace("\0", "")[:ERROR_MAX_CHARS]
        failure = {"code": error.code, "error": said, "timings": Jsonb(timings)}
        row = self._database.fetch_one(name, {**claim_params(claim), **failure, **params})
        return str((row or self._known("find_outcome", claim))["status"])

    def _known(self, name: str, claim: Claim) -> dict[str, Any]:
        """What this very claim came to before, if only its answer was lost."""
        if (row := self._database.fetch_one(name, claim_params(claim))) is None:
            raise LeaseLost(f"record {claim.record_id} was claimed again after token {claim.token}, or set free")
        return row

    # ── connections

    def shut_overdue_calls(self) -> int:
        """Shut the sockets of calls past their deadline; how many they were. For a thread that does nothing else."""
        return self._database.shut_overdue_calls()

    def pool_use(self) -> tuple[int, int]:
        return self._database.pool_use()

    def close(self) -> None:
        self._database.close()

    def _until_none(self, name: str, params: Params) -> Freed:
        freed = Freed()
        while (found := Freed(**self._database.fetch_all(name, params)[0])).chunks:
            freed = Freed(chunks=freed.chunks + found.chunks, records=freed.records + found.records)
        return freed
