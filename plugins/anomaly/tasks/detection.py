"""What the tasks of the DAG do: Airflow's context becomes a run, its connections the parts, and both go to work."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from anomaly import connections, logs
from anomaly.db.detector_quota import DetectorQuotaStore
from anomaly.db.record_store import RecordStore
from anomaly.db.stats import StatsStore
from anomaly.errors import Misconfigured
from anomaly.models.runs import Chunk, Holder, QuarantineFilter, Run, Window
from anomaly.pipeline import runs
from anomaly.pipeline.drain import Pipeline
from anomaly.pipeline.lease import Keeper
from anomaly.pipeline.parts import Parts
from anomaly.settings import Settings
from anomaly.tasks.cores import on_one_core
from anomaly.tasks.signals import handle_termination

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Asset, Context

    from anomaly.db.client import Database
    from anomaly.models.quota import Quota

BLAMED = "blamed_records"
"""What the tries of a mapped task tell each other: records that fail though the detector works."""


def claim() -> list[dict[str, Any]]:
    """Claim the run's first batch, once all that it needs is seen to be there; returns the chunk descriptions to map over."""
    settings, context = _begin()
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
            run, store=store, archive=archive, queue_lease_s=settings.queue_lease_s, chunks_max=_max_map_length(), metrics=metrics
        )
        runs.report_backlog(StatsStore(database), metrics)
    return [chunk.to_xcom() for chunk in claimed]


def process(description: dict[str, Any]) -> None:
    """Work a chunk, and then further ones of the same window until nothing is due."""
    settings, context = _begin()
    metrics = connections.metrics(context)
    metrics.begin()
    conn_id: str = context["params"]["detector"]
    chunk, run, holder = Chunk.from_xcom(description), run_of(context), holder_of(context)
    if chunk.batch_id != run.batch_id:
        raise Misconfigured(f"chunk {chunk.number} is not of this run")
    run = dataclasses.replace(run, chunk_size=chunk.size)
    memory: Any = context["task_state_store"]
    blamed = set(memory.get(BLAMED, []))
    context["chunk_number"] = chunk.number  # type: ignore[typeddict-unknown-key]  # for map_index_template
    with (
        handle_termination() as termination,
        # The tasks of a run go to one core after the other, and those of different runs do not all begin with the same.
        on_one_core(run.batch_id.int + holder.map_index if settings.one_core else None),
        connections.database(settings, metrics) as database,
        connections.image_source(settings, metrics) as source,
        connections.detector(conn_id, settings) as detector,
    ):
        store = RecordStore(database, settings)
        parts = Parts(
            run=run,
            holder=holder,
            images=source,
            detector=detector,
            archive=connections.bucket(settings, metrics),
            store=store,
            fleet=_quota_store(run, holder, database, conn_id, detector.quota),
            settings=settings,
            rng=Random(f"{run.batch_id}/{holder.map_index}/{holder.try_number}"),  # noqa: S311  # spreads waits, and mapped siblings
            metrics=metrics,
            blamed=blamed,
        )
        keeper = functools.partial(_keeper, run, holder, store, settings)
        pipeline = Pipeline(parts, chunk, keeper=keeper, on_worked=metrics.worked)
        termination.subscribe(pipeline.interrupt)
        try:
            pipeline.drain()
        finally:
            if blamed:
                runs.optional("the next try will not know whose fault it was", lambda: memory.set(BLAMED, sorted(blamed)))


def report(results: Asset) -> None:
    """Close the run: free what is left, write the report, emit the asset's event, and fail where the run failed."""
    settings, context = _begin()
    run, metrics = run_of(context), connections.metrics(context)
    ti: Any = context["ti"]
    states = ti.get_task_states(dag_id=run.dag_id, task_ids=["claim", "process"], run_ids=[run.run_id]).get(run.run_id, {})
    failed = sorted(name for name, state in states.items() if state in {"failed", "upstream_failed"})
    price = _price(context["params"]["detector"], settings) if run.dry_run else None
    with connections.database(settings, metrics) as database:
        run, store = _sized(run, context, database, settings), RecordStore(database, settings)
        body = runs.report(run, store=store, archive=connections.bucket(settings, metrics), price=price)
        runs.report_backlog(StatsStore(database), metrics)
    extra: dict[str, Any] = {name: body[name] for name in ("run_id", "statuses", "events", "anomalies") if name in body}
    runs.optional("no event on the results asset", lambda: _emit_event(context, results, extra))
    runs.judge(run, body, failed_tasks=failed)


def requeue() -> dict[str, int]:
    """Give the chosen quarantined records another life, unless it is a dry run; returns how many are chosen, by error code."""
    settings, context = _begin()
    params = context["params"]
    record_ids = params["record_ids"]
    choice = QuarantineFilter(
        error_code=params["error_code"] or None, window=_asked_window(params), record_ids=None if record_ids is None else tuple(record_ids)
    )
    runs.check(choice.window)
    with connections.quarantine_store(settings) as quarantine:
        return quarantine.requeue(choice, actor=_actor(context), dry_run=params["dry_run"])


def _price(conn_id: str, settings: Settings) -> float | None:
    """Of one request, as the detector's connection states it."""
    with connections.detector(conn_id, settings) as detector:
        return detector.price


def _emit_event(context: Context, results: Asset, extra: dict[str, Any]) -> None:
    context["outlet_events"][results].extra = extra


# ── what the context says


def _begin() -> tuple[Settings, Context]:
    gc.freeze()  # a full collection looks at all that Airflow imported, and stops every thread for a quarter of a second
    settings = Settings.from_environ(os.environ)
    logs.configure(settings)
    return settings, get_current_context()


def run_of(context: Context) -> Run:
    """The run that a task belongs to; its window is what its type says (scheduled, backfill) or its params.

    Raises:
        Misconfigured: a param is wrong.
    """
    dag_run, params = context["dag_run"], context["params"]
    run = Run(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        window=_window(context),
        select=params["select"],
        max_records=params["max_records"],
        fresh=params["fresh"],
        max_failure_rate=params["max_failure_rate"],
        dry_run=params["dry_run"],
        requested_by=_actor(context),
    )
    runs.check(run.window)
    return run


def _sized(run: Run, context: Context, database: Database, settings: Settings) -> Run:
    params = context["params"]
    rate = StatsStore(database).records_per_s() if params["chunk_size"] is None else None
    return runs.sized(run, chunk_size=params["chunk_size"], batch_size=params["batch_size"], records_per_s=rate, settings=settings)


def _actor(context: Context) -> str:
    return getattr(context["dag_run"], "triggering_user_name", None) or "airflow"


def _window(context: Context) -> Window:
    dag_run, params = context["dag_run"], context["params"]
    match dag_run.run_type:  # an enum that equals its text; what str() makes of it depends on where it comes from
        case "scheduled":
            return Window(end=dag_run.data_interval_end)
        case "backfill":
            return Window(start=dag_run.data_interval_start, end=dag_run.data_interval_end)
        case _:
            return _asked_window(params)


def _asked_window(params: Any) -> Window:
    return Window(start=_time(params, "window_start"), end=_time(params, "window_end"))


def _time(params: Any, name: str) -> datetime | None:
    if not (text := params[name]):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Misconfigured(f"{name} is no time: {text!r}") from exc
    if at.tzinfo is None:
        raise Misconfigured(f"{name} needs a time zone, such as {text}Z")
    return at


def holder_of(context: Context) -> Holder:
    """This try of this mapped task."""
    ti = context["ti"]
    return Holder(map_index=ti.map_index or 0, try_number=ti.try_number, last_try=ti.try_number > ti.max_tries)


def _max_map_length() -> int:
    """How many chunks a claim may hand over: one more, and Airflow fails the task after its claims are committed."""
    from airflow.configuration import conf  # noqa: PLC0415  # it is not needed where only a connection is

    return conf.getint("core", "max_map_length")


def _quota_store(run: Run, holder: Holder, database: Database, conn_id: str, quota: Quota) -> DetectorQuotaStore:
    return DetectorQuotaStore(database, detector=conn_id, holder=f"{run.batch_id}/{holder.map_index}/{holder.try_number}", quota=quota)


def _keeper(run: Run, holder: Holder, store: RecordStore, settings: Settings, on_lost: Callable[[int], None]) -> Keeper:
    return Keeper(
        lease_s=settings.lease_s,
        renew=lambda numbers: store.renew_chunks(run.batch_id, numbers, holder, lease_s=settings.lease_s),
        shut_overdue_calls=store.shut_overdue_calls,
        on_lost=on_lost,
    )
