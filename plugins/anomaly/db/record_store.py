"""Claims records, holds them under leases, and writes their outcomes."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from anomaly.backoff import delay_s
from anomaly.db.answer_store import AnswerStore
from anomaly.db.errors import storing_result
from anomaly.db.mapping import chunk_numbers, claim_of, claim_params, holder_params, report_of, run_params, verdict_params
from anomaly.db.source_store import with_write_back
from anomaly.errors import LeaseLost
from anomaly.models.runs import Preview, Released

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from anomaly.db.client import Database, Params
    from anomaly.errors import AnomalyError
    from anomaly.models.answers import Answer, ArchiveKeys
    from anomaly.models.records import Claim, Image
    from anomaly.models.runs import BatchId, BatchReport, Holder, Origin, Run
    from anomaly.models.source import Source
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

ERROR_MAX_CHARS = 500
REQUEUE_SIZE = 1000
"""Most records that one statement requeues, which keeps transactions short."""


class RecordStore(AnswerStore):
    """Everything that a run does in the records database. Each method runs one statement of `include/sql`. For any thread.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.

    Args:
        sources: tables to whose rows a commit writes back.
    """

    def __init__(self, database: Database, settings: Settings, *, rng: Random | None = None, sources: Sequence[Source] = ()) -> None:
        super().__init__(with_write_back(database, sources))
        self._settings = settings
        self._rng = rng or Random()  # noqa: S311  # for jitter and the sample

    # ── batches

    def begin_batch(self, run: Run) -> datetime:
        """Open the run's batch, or reopen it, and return when it began, which fences all its later claims."""
        began_at: datetime = self._database.fetch_all("begin_batch", run_params(run))[0]["began_at"]
        return began_at

    def end_batch(self, batch_id: BatchId) -> None:
        """Close the batch, so that later claims for it find nothing."""
        self._database.fetch_all("end_batch", {"batch_id": batch_id})

    def release_batch(self, batch_id: BatchId) -> Released:
        """End every chunk that is left in the batch, whichever task holds it, and release its records."""
        return self._repeat_until_empty("release_batch", {"batch_id": batch_id})

    def report(self, batch_id: BatchId) -> BatchReport:
        """Count the outcomes of the batch in one snapshot."""
        return report_of(self._database.fetch_all("run_report", {"batch_id": batch_id})[0])

    def preview(self, run: Run) -> Preview:
        """Count the records that the run would claim."""
        row = self._database.fetch_all("preview_run", run_params(run))[0]
        return Preview(due={status: row[status] for status in ("pending", "quarantined", "done")})

    def current_time(self) -> datetime:
        """Return the time of the database's clock."""
        now: datetime = self._database.fetch_all("current_time", {})[0]["now"]
        return now

    # ── claiming

    def claim_chunk(
        self, run: Run, *, began_at: datetime, origin: Origin, map_index: int | None, try_number: int, lease_s: float, size: int = 0
    ) -> int | None:
        """Claim the next records of the run's window as one chunk of at most *size* records, by default `run.chunk_size`.

        Returns:
            The number of the chunk, or None: nothing is due, `max_records` is reached, or the batch is closed.

        Raises:
            DatabaseUnavailable: a chunk may have been claimed; `unopened_chunks` or `unfinished_chunks` lists it.
        """
        # A chunk without a task may be opened by any try of any task.
        holder = {"map_index": map_index, "try_number": 0 if map_index is None else try_number}
        params = {**run_params(run), **holder, "began_at": began_at, "size": size or run.chunk_size, "lease_s": lease_s}
        row = self._database.fetch_one(f"claim_{origin}", params, idempotent=False)
        return None if row is None else int(row["chunk"])

    def requeue(self, run: Run, *, began_at: datetime, actor: str) -> int:
        """Make the quarantined records of the run's window pending, at most `max_records`, and return how many there were."""
        wanted, requeued = run.max_records, 0
        while size := REQUEUE_SIZE if wanted is None else min(REQUEUE_SIZE, wanted - requeued):
            params = {**run_params(run), "began_at": began_at, "size": size, "actor": actor}
            records = self._database.fetch_all("requeue_records", params)[0]["records"]
            requeued += records
            if records < size:
                break
        return requeued

    def reap_expired_chunks(self) -> int:
        """End all chunks whose lease has expired, and return how many records they held."""
        return self._repeat_until_empty("reap_expired_chunks", {}).records

    # ── chunks

    def unopened_chunks(self, batch_id: BatchId) -> list[int]:
        """Return the chunks of the batch that no task has opened, which an earlier try of `claim` committed."""
        return chunk_numbers(self._database.fetch_all("unopened_chunks", {"batch_id": batch_id}))

    def mapped_task_count(self, batch_id: BatchId) -> int:
        """Return how many mapped tasks the run had before it was cleared."""
        return int(self._database.fetch_all("mapped_task_count", {"batch_id": batch_id})[0]["tasks"])

    def unfinished_chunks(self, batch_id: BatchId, holder: Holder) -> list[int]:
        """Return the chunks that the mapped task has not finished, whichever of its tries claimed them."""
        return chunk_numbers(self._database.fetch_all("unfinished_chunks", {"batch_id": batch_id, "map_index": holder.map_index}))

    def open_chunk(self, batch_id: BatchId, number: int, holder: Holder, *, lease_s: float) -> tuple[Claim, ...]:
        """Open a chunk and return the records that it still holds, those whose workers have died last.

        Raises:
            LeaseLost: the chunk has ended, or another task or a later try of this one holds it.
        """
        rows = self._database.fetch_all("open_chunk", {"chunk": number, "lease_s": lease_s, **holder_params(batch_id, holder)})
        if not rows:
            raise LeaseLost(f"chunk {number} has ended, or someone else holds it")
        return tuple(claim_of(row, batch_id, number) for row in rows if row["id"] is not None)

    def renew_chunks(self, batch_id: BatchId, numbers: Collection[int], holder: Holder, *, lease_s: float) -> set[int]:
        """Renew the leases of these chunks, and return those that this try still holds."""
        params = {"chunks": list(numbers), "lease_s": lease_s, **holder_params(batch_id, holder)}
        return set(chunk_numbers(self._database.fetch_all("renew_chunks", params)))

    def park_chunks(self, run: Run, holder: Holder, *, lease_s: float) -> None:
        """Keep the unfinished chunks of this try for its next one, for the length of the lease."""
        self._database.fetch_all("park_chunks", {"lease_s": lease_s, **holder_params(run.batch_id, holder)})

    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None:
        """Mark the record as the only one in progress, or remove the mark.

        Raises:
            LeaseLost: this try does not hold the chunk.
        """
        record_id = claim.record_id if alone else None
        params = {"chunk": claim.chunk, "record_id": record_id, **holder_params(claim.batch_id, holder)}
        if not self._database.fetch_all("mark_alone", params):
            raise LeaseLost(f"chunk {claim.chunk} has ended, or someone else holds it")

    def end_chunk(self, run: Run, number: int, holder: Holder, *, tally: dict[str, Any]) -> bool:
        """End a chunk without claimed records. Return False if it has some, or if this try does not hold it."""
        params = {"chunk": number, "tally": Jsonb(tally), **holder_params(run.batch_id, holder)}
        return bool(self._database.fetch_all("end_chunk", params, idempotent=False))

    def release_chunks(self, run: Run, holder: Holder) -> None:
        """End all chunks of this try. Their records are due at once."""
        row = self._database.fetch_all("release_chunks", holder_params(run.batch_id, holder))[0]
        log.info("chunks released chunks=%d records=%d", row["chunks"], row["records"])

    # ── outcomes

    def commit(
        self,
        claim: Claim,
        answer: Answer,
        archived: ArchiveKeys,
        *,
        config: str,
        image: Image,
        run: Run,
        holder: Holder,
        timings: dict[str, float],
    ) -> None:
        """Write the record's result, log entry, status and flags in one transaction.

        The first commit of a record draws whether people review it whatever the verdict. If the answer of a commit is lost, it is sent
        again. It waits for the row lock of the first one, so it finds either the record still claimed, or a result with its own token.

        Raises:
            LeaseLost: the record was claimed again or released since.
            ResultRefused: a constraint, a trigger or a limit refuses the result. Nothing was written.
            SourceWriteFailed: the row of the source is locked. Nothing was written.
            DatabaseUnavailable: the outcome is unknown; committing again is safe.
        """
        who = {**claim_params(claim), **run_params(run), **holder_params(run.batch_id, holder)}
        what = {**verdict_params(answer, archived, image), "config": config, "timings": json.dumps(timings)}
        drawn = {"sampled": self._rng.random() < self._settings.review_share, "sample_share": self._settings.review_share or None}
        with storing_result():
            committed = self._database.execute("commit_verdict", {**who, **what, **drawn})
        if not committed:
            self._earlier_outcome("find_commit", claim)

    def defer(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str:
        """Count a failed attempt. The record is due again after a delay that doubles, or quarantined after its last attempt.

        Returns:
            The new status: pending or quarantined, or done if the record had a result before.

        Raises:
            LeaseLost: the record was claimed again or released since.
        """
        base_s, cap_s = self._settings.defer_backoff_s, self._settings.defer_cap_s
        wait_s = delay_s(claim.attempts + 1, base_s=base_s, cap_s=cap_s, rng=self._rng)
        return self._end("fail_record", claim, error, timings, delay_s=wait_s, permanent=False, attempts_max=self._settings.attempts_max)

    def quarantine(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str:
        """Count a failed attempt and quarantine the record with the reason. One that has a result stays done.

        Raises:
            LeaseLost: the record was claimed again or released since.
        """
        return self._end("fail_record", claim, error, timings, delay_s=0.0, permanent=True, attempts_max=self._settings.attempts_max)

    def give_back(self, claim: Claim, *, error: AnomalyError, not_before_s: float) -> str:
        """Release the record for at least *not_before_s* without counting an attempt.

        Raises:
            LeaseLost: the record was claimed again or released since.
        """
        return self._end("release_record", claim, error, {}, delay_s=not_before_s)

    def _end(self, name: str, claim: Claim, error: AnomalyError, timings: dict[str, float], **params: Any) -> str:
        message = str(error)[:ERROR_MAX_CHARS]
        failure = {"code": error.code, "error": message, "timings": Jsonb(timings)}
        row = self._database.fetch_one(name, {**claim_params(claim), **failure, **params})
        return str((row or self._earlier_outcome("find_outcome", claim))["status"])

    def _earlier_outcome(self, name: str, claim: Claim) -> dict[str, Any]:
        """Return the row that this claim has written before, in case only the answer of that statement was lost."""
        if (row := self._database.fetch_one(name, claim_params(claim))) is None:
            raise LeaseLost(f"record {claim.record_id} was claimed again after token {claim.token}, or released")
        return row

    def _repeat_until_empty(self, name: str, params: Params) -> Released:
        freed = Released()
        while (found := Released(**self._database.fetch_all(name, params)[0])).chunks:
            freed = Released(chunks=freed.chunks + found.chunks, records=freed.records + found.records)
        return freed
