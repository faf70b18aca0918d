"""What the tasks of the maintenance DAG do, one function each. What they found is in their log and their XCom."""

from __future__ import annotations

import dataclasses
import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from anomaly import connections, logs
from anomaly.db.maintenance import MaintenanceStore
from anomaly.db.stats import StatsStore
from anomaly.errors import RunStopped
from anomaly.maintenance import orphans, retention
from anomaly.maintenance.doctor import Doctor
from anomaly.pipeline import runs
from anomaly.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

EVERY = ("retention", "orphans", "alert", "vacuum_hints", "doctor")
"""The tasks of a run that chooses none."""
CHOICE = ("error_code", "window_start", "window_end", "record_ids")
"""Params that choose quarantined records."""


def chosen(name: str) -> None:
    """Skip the task unless the run wants it: what the param `tasks` names, or else requeue alone where records are chosen, or all others.

    Raises:
        AirflowSkipException: the run does not want it.
    """
    params = get_current_context()["params"]
    wanted = params["tasks"] or (["requeue"] if any(params[each] for each in CHOICE) else EVERY)
    if name not in wanted:
        raise AirflowSkipException(f"this run is for {', '.join(wanted)}")


def sweep() -> dict[str, Any]:
    """Delete what is older than the settings say, or only count it."""
    settings, context = _begin()
    dry_run = dry_run_of(context)
    with connections.maintenance_store(settings) as store:
        rows = retention.sweep_rows(store, days=settings.retention_log_days, dry_run=dry_run)
        now = store.server().now
        bucket = retention.sweep_bucket(connections.bucket(settings), store, days=settings.retention_archive_days, now=now, dry_run=dry_run)
    return _told("retention", {"dry_run": dry_run, "database": rows, "bucket": bucket})


def compare() -> dict[str, Any]:
    """Look for objects that no result names, which are deleted if the run asks for it, and for results whose objects are gone."""
    settings, context = _begin()
    params, archive = context["params"], connections.bucket(settings)
    delete = params["delete_orphans"] and not params["dry_run"]
    # A day of grace: what retention has just deleted may be a little younger than what it finds too old now.
    needed_days = max(1, settings.retention_archive_days - 1) if settings.retention_archive_days else None
    with connections.maintenance_store(settings) as store:
        before = store.server().now - timedelta(hours=params["orphan_age_h"])
        unnamed = orphans.unreferenced_objects(archive, store, before=before, delete=delete)
        missing = orphans.missing_objects(archive, store, days=needed_days)
    return _told("orphans", {"delete": delete, "unnamed": dataclasses.asdict(unnamed), "missing": dataclasses.asdict(missing)})


def alert() -> dict[str, Any]:
    """Fail where a due record is older than `alert_due_age_s`; a dry run only says so.

    Raises:
        RunStopped: one is.
    """
    settings, context = _begin()
    with connections.database(settings) as database:
        due = MaintenanceStore(database).oldest_due()
        runs.report_backlog(StatsStore(database), connections.metrics(context))
    limit_s = settings.alert_due_age_s
    late = bool(due and limit_s and due.age_s > limit_s)
    told = _told("alert", {"late": late, "limit_s": limit_s, "oldest_s": round(due.age_s) if due else None})
    if due and late and not dry_run_of(context):
        raise RunStopped(
            f"record {due.record_id} is due and was captured {due.age_s:.0f} s ago, more than ANOMALY_ALERT_DUE_AGE_S={limit_s:g}: "
            "see whether runs of anomaly_detection succeed, and whether the detector keeps up"
        )
    return told


def vacuum_hints() -> list[dict[str, Any]]:
    """Say of each table how large it is, what of it is dead, and what to run where that matters; nothing is changed."""
    settings, _ = _begin()
    with connections.maintenance_store(settings) as store:
        tables = store.tables()
    for table in tables:
        log.log(logging.WARNING if table.hint else logging.INFO, "table %s: %s", table.name, table.hint or "well kept")
    at = {table.name: {"vacuumed_at": str(table.vacuumed_at), "analysed_at": str(table.analysed_at)} for table in tables}
    return [
        {"table": table.name, "live": table.live, "dead": table.dead, "bytes": table.size_bytes, **at[table.name], "hint": table.hint}
        for table in tables
    ]


def examine() -> list[str]:
    """Say what the doctor found, a line each.

    Raises:
        RunStopped: something is bad.
    """
    context = get_current_context()
    found = list(Doctor(os.environ, detector=context["params"]["detector"]).findings())
    for finding in found:
        log.log(logging.WARNING if finding.to_do else logging.INFO, "%s", finding)
    if bad := [finding for finding in found if finding.to_do]:
        raise RunStopped(f"{len(bad)} of {len(found)} checks are bad: {'; '.join(str(finding) for finding in bad)}")
    return [str(finding) for finding in found]


def _begin() -> tuple[Settings, Context]:
    settings = Settings.from_environ(os.environ)
    logs.configure(settings)
    return settings, get_current_context()


def dry_run_of(context: Context) -> bool:
    """As the form says. Nobody fills in a form for a scheduled run, which is there to do its work."""
    dry_run: bool = context["params"]["dry_run"] and context["dag_run"].run_type != "scheduled"
    return dry_run


def _told(task: str, found: dict[str, Any]) -> dict[str, Any]:
    log.info("%s %s", task, found)
    return found
