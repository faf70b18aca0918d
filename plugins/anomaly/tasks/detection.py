"""The tasks of the detection DAG, one function each."""

from __future__ import annotations

import dataclasses
import functools
from random import Random
from typing import TYPE_CHECKING, Any

from anomaly import connections
from anomaly.db.detector_quota import DetectorQuotaStore
from anomaly.db.record_store import RecordStore
from anomaly.db.stats import StatsStore
from anomaly.errors import Misconfigured
from anomaly.maintenance.sources import find_rows, sources
from anomaly.models.runs import Chunk
from anomaly.pipeline import runs
from anomaly.pipeline.drain import Pipeline
from anomaly.pipeline.lease import LeaseRenewer
from anomaly.pipeline.parts import Parts
from anomaly.tasks import notify
from anomaly.tasks.context import begin_task, holder_of, printable_errors, run_of
from anomaly.tasks.cores import on_one_core
from anomaly.tasks.links import store_run_link
from anomaly.tasks.signals import handle_termination

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Asset, Context

    from anomaly.db.client import Database
    from anomaly.models.quota import Quota
    from anomaly.models.runs import Holder, Run
    from anomaly.settings import Settings

BLAMED = "blamed_records"
"""Key of the records that failed while the detector answered for others, kept from one try of a mapped task to the next."""


@printable_errors()
def claim() -> list[dict[str, Any]]:
    """Claim the run's first batch and return the chunk descriptions to map over. First checks the bucket and all connections."""
    settings, context = begin_task()
    metrics = connections.metrics(context)
    run, archive = run_of(context), connections.bucket(settings, metrics)
    archive.check()
    with (
        connections.image_source(settings),
        connections.detector(context["params"]["detector"], settings),
        connections.database(settings, metrics) as database,
    ):
        run, store = _sized(run, context, database, settings), RecordStore(database, settings)
        claimed = runs.claim(
            run,
            store=store,
            archive=archive,
            queue_lease_s=settings.queue_lease_s,
            chunks_max=_max_map_length(),
            metrics=metrics,
            find_rows=functools.partial(find_rows, run.window, most=run.max_records, settings=settings, records=database, metrics=metrics),
        )
        runs.report_backlog(StatsStore(database), metrics)
    return [chunk.to_xcom() for chunk in claimed]


@printable_errors()
def process(description: dict[str, Any]) -> None:
    """Process a chunk, then further chunks of the same window until nothing is due."""
    settings, context = begin_task()
    metrics = connections.metrics(context)
    metrics.begin()
    conn_id: str = context["params"]["detector"]
    chunk, run, holder = Chunk.from_xcom(description), run_of(context), holder_of(context)
    if chunk.batch_id != run.batch_id:
        raise Misconfigured(f"chunk {chunk.number} does not belong to this run")
    run = dataclasses.replace(run, chunk_size=chunk.size)
    memory: Any = context["task_state_store"]
    blamed = set(memory.get(BLAMED, []))
    runs.optional("no link to the page", functools.partial(store_run_link, context))
    context["chunk_number"] = chunk.number  # type: ignore[typeddict-unknown-key]  # for map_index_template
    with (
        handle_termination() as termination,
        # Spreads the tasks of a run over the cores, and starts each run at another core.
        on_one_core(run.batch_id.int + holder.map_index if settings.one_core else None),
        connections.database(settings, metrics) as database,
        connections.image_source(settings, metrics) as source,
        connections.detector(conn_id, settings) as detector,
    ):
        store = RecordStore(database, settings, sources=sources(settings))
        parts = Parts(
            run=run,
            holder=holder,
            first=chunk,
            images=source,
            detector=detector,
            archive=connections.bucket(settings, metrics),
            store=store,
            fleet=_quota_store(run, holder, database, conn_id, quota=detector.quota, settings=settings),
            settings=settings,
            rng=Random(f"{run.batch_id}/{holder.map_index}/{holder.try_number}"),  # noqa: S311  # for jitter that differs between tasks
            lease_renewer=functools.partial(_lease_renewer, run, holder, store, settings),
            on_worked=metrics.worked,
            metrics=metrics,
            blamed=blamed,
            detector_proven=store.is_detector_proven(detector.reading),
        )
        pipeline = Pipeline(parts)
        termination.subscribe(pipeline.interrupt)
        try:
            pipeline.drain()
        finally:
            if blamed:
                runs.optional("the failed records are not passed to the next try", lambda: memory.set(BLAMED, sorted(blamed)))


@printable_errors()
@notify.of_failure()
def report(results: Asset) -> None:
    """Close the run: release its remaining records, write the report, emit the assets' events, and fail if the run failed.

    A run that wrote nothing, a dry run for instance, emits no event.
    """
    settings, context = begin_task()
    run, metrics = run_of(context), connections.metrics(context)
    ti: Any = context["ti"]
    states = ti.get_task_states(dag_id=run.dag_id, task_ids=["claim", "process"], run_ids=[run.run_id]).get(run.run_id, {})
    failed = sorted(name for name, state in states.items() if state in {"failed", "upstream_failed"})
    price = _price(context["params"]["detector"], settings) if run.dry_run else None
    with connections.database(settings, metrics) as database:
        run, store = _sized(run, context, database, settings), RecordStore(database, settings)
        rate = StatsStore(database).records_per_s() if run.dry_run else None
        body = runs.report(run, store=store, archive=connections.bucket(settings, metrics), price=price, records_per_s=rate)
        runs.report_backlog(StatsStore(database), metrics)
        runs.optional("verdicts not summed", StatsStore(database).sum_verdicts)
    if body.get("events"):
        extra = {name: body[name] for name in ("run_id", "statuses", "events", "anomalies")}
        runs.optional("no event for the results asset", lambda: _emit_event(context, results, extra))
    else:
        ti.task.outlets = []  # Airflow emits an event for each outlet of a task that succeeds
    notify.anomalies_found(context, body)
    runs.judge(run, body, failed_tasks=failed)


def _price(conn_id: str, settings: Settings) -> float | None:
    """Return the price of one request that the detector's connection states."""
    with connections.detector(conn_id, settings) as detector:
        return detector.price


def _emit_event(context: Context, results: Asset, extra: dict[str, Any]) -> None:
    context["outlet_events"][results].extra = extra


def _sized(run: Run, context: Context, database: Database, settings: Settings) -> Run:
    params = context["params"]
    rate = StatsStore(database).records_per_s() if params["chunk_size"] is None else None
    return runs.sized(run, chunk_size=params["chunk_size"], batch_size=params["batch_size"], records_per_s=rate, settings=settings)


def _max_map_length() -> int:
    """Return the most chunks that a claim may return. With one more, Airflow fails the task after its claims are committed."""
    from airflow.configuration import conf  # noqa: PLC0415  # only claim needs it

    return conf.getint("core", "max_map_length")


def _quota_store(run: Run, holder: Holder, database: Database, conn_id: str, *, quota: Quota, settings: Settings) -> DetectorQuotaStore:
    name, pause_max_s = f"{run.batch_id}/{holder.map_index}/{holder.try_number}", settings.detector_pause_max_s
    return DetectorQuotaStore(database, detector=conn_id, holder=name, quota=quota, pause_max_s=pause_max_s)


def _lease_renewer(run: Run, holder: Holder, store: RecordStore, settings: Settings, on_lost: Callable[[int], None]) -> LeaseRenewer:
    return LeaseRenewer(
        lease_s=settings.lease_s,
        renew=lambda numbers: store.renew_chunks(run.batch_id, numbers, holder, lease_s=settings.lease_s),
        shut_overdue_calls=store.shut_overdue_calls,
        on_lost=on_lost,
    )
