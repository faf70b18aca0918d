"""Begins a run by claiming its first batch, and ends it with a report."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from anomaly.errors import FailureRateExceeded, Misconfigured, RunStopped
from anomaly.metrics import SILENT
from anomaly.models.runs import Chunk
from anomaly.pipeline.chunk_source import origins_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from anomaly.db.stats import StatsStore
    from anomaly.metrics import Metrics
    from anomaly.models.runs import BatchId, BatchReport, Origin, Preview, Released, Run, Window
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

FAILED_EVENTS = frozenset({"deferred", "quarantined", "rescore_failed", "worker_died"})


class RunStore(Protocol):
    """The statements that begin and end a run."""

    def current_time(self) -> datetime: ...
    def begin_batch(self, run: Run) -> datetime: ...
    def requeue(self, run: Run, *, began_at: datetime, actor: str) -> int: ...
    def reap_expired_chunks(self) -> int: ...
    def unopened_chunks(self, batch_id: BatchId) -> list[int]: ...
    def mapped_task_count(self, batch_id: BatchId) -> int: ...
    def claim_chunk(
        self, run: Run, *, began_at: datetime, size: int, origin: Origin, map_index: int | None, try_number: int, lease_s: float
    ) -> int | None: ...
    def end_batch(self, batch_id: BatchId) -> None: ...
    def release_batch(self, batch_id: BatchId) -> Released: ...
    def report(self, batch_id: BatchId) -> BatchReport: ...
    def preview(self, run: Run) -> Preview: ...


class RunArchive(Protocol):
    def begin_run(self, run_id: str) -> None: ...
    def put_report(self, run_id: str, body: bytes) -> str: ...


def check(window: Window) -> None:
    """Refuse a window that cannot be meant.

    Raises:
        Misconfigured: the window ends before it starts.
    """
    start, end = window.start, window.end
    if start and end and end <= start:
        raise Misconfigured(f"the window ends ({end.isoformat()}) before it starts ({start.isoformat()})")


def sized(run: Run, *, chunk_size: int | None, batch_size: int | None, records_per_s: float | None, settings: Settings) -> Run:
    """Return the run with its batch and chunk sizes: those that are given, else such that Airflow's own cost of a task stays small.

    *records_per_s* is the rate of one mapped task in the last run.
    """
    size = chunk_size or run.chunk_size
    if chunk_size is None and records_per_s is not None:
        size = min(settings.chunk_max, max(settings.chunk_min, round(records_per_s * settings.chunk_work_s)))
    return dataclasses.replace(run, chunk_size=size, batch_size=batch_size or settings.tasks_max * size)


def claim(
    run: Run,
    *,
    store: RunStore,
    archive: RunArchive,
    queue_lease_s: float,
    chunks_max: int,
    metrics: Metrics = SILENT,
    find_rows: Callable[[], object] = lambda: None,
) -> list[Chunk]:
    """Claim the run's first batch: up to `batch_size` records, in chunks that wait for their workers; none in a dry run.

    A second try finds what the first one committed, and claims only what is still missing. *find_rows* adds the rows of sources as records
    before, in a dry run too, which counts them.
    """
    check(run.window)
    began_at = store.current_time() if run.dry_run else store.begin_batch(run)
    if run.window.start and run.window.start >= began_at:
        raise Misconfigured(f"the window starts in the future ({run.window.start.isoformat()}): nothing was captured in it yet")
    find_rows()
    if run.dry_run:
        return []
    if run.select == "failed":
        log.info("records requeued count=%d", store.requeue(run, began_at=began_at, actor=run.requested_by))
    numbers = store.unopened_chunks(run.batch_id)
    most = run.batch_size if run.max_records is None else min(run.batch_size, run.max_records)
    first_batch = dataclasses.replace(run, max_records=most)
    store.reap_expired_chunks()
    for origin in origins_of(run):
        while len(numbers) < chunks_max:
            with metrics.timed("claim"):
                number = store.claim_chunk(
                    first_batch, began_at=began_at, size=run.chunk_size, origin=origin, map_index=None, try_number=0, lease_s=queue_lease_s
                )
            if number is None:
                break
            numbers.append(number)
    optional("the run's folder was not made", lambda: archive.begin_run(run.run_id))
    log.info("batch claimed batch=%s chunks=%d", run.batch_id, len(numbers))
    # Once a cleared run has mapped over fewer chunks than before, Airflow never again starts the tasks that it removed by that. So the
    # list does not shrink: a task that gets a chunk of another one passes over it and claims the next.
    numbers += [0] * (store.mapped_task_count(run.batch_id) - len(numbers))
    return [Chunk(batch_id=run.batch_id, number=number, began_at=began_at, size=run.chunk_size) for number in numbers]


def preview(run: Run, *, store: RunStore, price: float | None, records_per_s: float | None) -> dict[str, Any]:
    """Return what the run would claim, how long it would take, and its cost at *price* a request.

    *records_per_s* is the rate of one mapped task, as for `sized`.
    """
    seen = store.preview(run)
    due = sum(seen.due.values())
    records = due if run.max_records is None else min(due, run.max_records)
    chunks = math.ceil(records / run.chunk_size)
    tasks = max(1, min(chunks, math.ceil(run.batch_size / run.chunk_size)))
    return {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "dry_run": True,
        "due": seen.due,
        "records": records,
        "chunks": chunks,
        "expected_s": round(records / (records_per_s * tasks), 1) if records_per_s else None,
        "expected_cost": None if price is None else round(records * price, 6),
    }


def report(
    run: Run, *, store: RunStore, archive: RunArchive, price: float | None = None, records_per_s: float | None = None
) -> dict[str, Any]:
    """Close the batch, release what is left of it, and return the report, counted by the database.

    The report of a dry run is that of `preview`, with *price* and *records_per_s*.

    Returns:
        The document that is written to `runs/<run_id>/report.json`.
    """
    if run.dry_run:
        body = preview(run, store=store, price=price, records_per_s=records_per_s)
        log.info("dry run %s", json.dumps(body))
        optional("the run's report was not archived", lambda: archive.put_report(run.run_id, json.dumps(body, indent=1).encode()))
        return body
    store.end_batch(run.batch_id)
    freed = store.release_batch(run.batch_id)
    counted = store.report(run.batch_id)
    body = {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "batch_id": str(run.batch_id),
        "released_at_end": freed.records,
        "statuses": counted.statuses,
        "events": _by_event(counted),
        "errors": {code: count for (_, code), count in sorted(counted.events.items(), key=str) if code},
        "anomalies": counted.anomalies,
        "reused": counted.reused,
        "timings_ms": {name: dataclasses.asdict(spread) for name, spread in counted.timings.items()},
        "chunks": counted.tallies,
    }
    log.info("run report %s", json.dumps(body))
    optional("the run's report was not archived", lambda: archive.put_report(run.run_id, json.dumps(body, indent=1).encode()))
    return body


def _by_event(counted: BatchReport) -> dict[str, int]:
    events: Counter[str] = Counter()
    for (event, _), count in counted.events.items():
        events[event] += count
    return dict(events)


def judge(run: Run, body: dict[str, Any], *, failed_tasks: Sequence[str]) -> None:
    """Raise if the run failed. Called by the leaf task, which decides the run's state.

    Raises:
        RunStopped: the claim or a mapped task failed.
        FailureRateExceeded: more records failed than `max_failure_rate` allows, or all of them.
    """
    events: dict[str, int] = body.get("events", {})
    if failed_tasks:
        raise RunStopped(f"{len(failed_tasks)} tasks failed: {', '.join(failed_tasks[:5])}")
    failed = sum(count for event, count in events.items() if event in FAILED_EVENTS)
    worked = failed + events.get("committed", 0)
    if error := failure_rate_error(run, failed=failed, worked=worked):
        raise error
    if worked and failed == worked:
        raise FailureRateExceeded(f"all {worked} records failed")


def failure_rate_error(run: Run, *, failed: int, worked: int) -> FailureRateExceeded | None:
    """Return the error of a run of which more records failed than `max_failure_rate` allows."""
    if worked and failed / worked > run.max_failure_rate:
        return FailureRateExceeded(f"{failed} of {worked} records failed, more than max_failure_rate={run.max_failure_rate:g} allows")
    return None


def report_backlog(store: StatsStore, metrics: Metrics) -> None:
    optional("no metrics of the backlog", lambda: metrics.backlog(store.backlog()))


def optional(warning: str, action: Callable[[], object]) -> None:
    """Run an action that is not the job itself; a failure is logged as one warning."""
    try:
        action()
    except Exception as exc:  # noqa: BLE001  # the records are done without it
        log.warning("%s: %s", warning, exc)
