"""The tasks of the maintenance DAG, one function each. Their findings are logged and returned as XCom."""

from __future__ import annotations

import dataclasses
import logging
import os
from datetime import timedelta
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from anomaly import connections
from anomaly.db import schema
from anomaly.db.maintenance import MaintenanceStore
from anomaly.db.stats import StatsStore
from anomaly.errors import RunStopped
from anomaly.maintenance import orphans, retention
from anomaly.maintenance.doctor import Doctor, usable_settings
from anomaly.maintenance.sources import check as source_check
from anomaly.maintenance.sources import find_all_rows
from anomaly.maintenance.thresholds import follow_thresholds
from anomaly.models.runs import QuarantineFilter
from anomaly.pipeline import runs
from anomaly.tasks import notify
from anomaly.tasks.context import actor_of, begin_task, checked_context, is_dry_run, printable_errors, requested_window

log = logging.getLogger(__name__)

DEFAULT_TASKS = ("retention", "orphans", "alert", "vacuum_hints", "doctor", "sources", "thresholds")
"""The tasks of a run without the param `tasks`, after `migrate` where `ANOMALY_AUTO_MIGRATE` is 1."""
REQUEUE_PARAMS = ("error_code", "window_start", "window_end", "record_ids")
"""Params that choose quarantined records."""


@printable_errors()
def skip_unless_chosen(name: str) -> None:
    """Skip the task unless the run includes it.

    A run includes the tasks in its param `tasks`. Without that, it includes requeue alone if records are chosen, or else the default tasks.

    Raises:
        AirflowSkipException: the run does not include the task.
        Misconfigured: the run's conf has an unknown param.
    """
    params = checked_context()["params"]
    wanted = params["tasks"] or (["requeue"] if any(params[each] for each in REQUEUE_PARAMS) else _default_tasks())
    if name not in wanted:
        raise AirflowSkipException(f"this run is for {', '.join(wanted)}")


def _default_tasks() -> list[str]:
    return [*(["migrate"] if usable_settings(os.environ)[0].auto_migrate else []), *DEFAULT_TASKS]


@printable_errors()
def migrate() -> list[str]:
    """Apply the missing migrations, or only list them in a dry run, and return their names."""
    _, context = begin_task()
    dsn = connections.records_dsn()
    names = schema.missing_migrations(dsn) if is_dry_run(context) else schema.migrate(dsn)
    log.info("migrations %s: %s", "missing" if is_dry_run(context) else "applied", ", ".join(names) or "none")
    return names


@printable_errors()
def sweep() -> dict[str, Any]:
    """Delete what is older than the retention settings, or only count it."""
    settings, context = begin_task()
    dry_run = is_dry_run(context)
    with connections.maintenance_store(settings) as store:
        rows = retention.sweep_rows(store, days=settings.retention_log_days, dry_run=dry_run)
        now = store.server().now
        bucket = retention.sweep_bucket(connections.bucket(settings), store, days=settings.retention_archive_days, now=now, dry_run=dry_run)
    return _logged("retention", {"dry_run": dry_run, "database": rows, "bucket": bucket})


@printable_errors()
def find_orphans() -> dict[str, Any]:
    """Find objects that no result refers to, delete them if the run asks for it, and find results whose objects are missing."""
    settings, context = begin_task()
    params, archive = context["params"], connections.bucket(settings)
    delete = params["delete_orphans"] and not params["dry_run"]
    # A day of grace: retention may just have deleted objects that are a little younger than its limit is now.
    needed_days = max(1, settings.retention_archive_days - 1) if settings.retention_archive_days else None
    with connections.maintenance_store(settings) as store:
        before = store.server().now - timedelta(hours=params["orphan_age_h"])
        unreferenced = orphans.unreferenced_objects(archive, store, before=before, delete=delete)
        missing = orphans.missing_objects(archive, store, days=needed_days)
    return _logged("orphans", {"delete": delete, "unreferenced": dataclasses.asdict(unreferenced), "missing": dataclasses.asdict(missing)})


@printable_errors()
def alert() -> dict[str, Any]:
    """Fail if a due record is older than `alert_due_age_s`. A dry run only reports it.

    Raises:
        RunStopped: there is such a record.
    """
    settings, context = begin_task()
    with connections.database(settings) as database:
        due = MaintenanceStore(database).oldest_due()
        runs.report_backlog(StatsStore(database), connections.metrics(context))
    limit_s = settings.alert_due_age_s
    late = bool(due and limit_s and due.age_s > limit_s)
    found = _logged("alert", {"late": late, "limit_s": limit_s, "oldest_s": round(due.age_s) if due else None})
    if due and late and not is_dry_run(context):
        notify.records_overdue(context, due, limit_s=limit_s)
        raise RunStopped(
            f"record {due.record_id} is due and was captured {due.age_s:.0f} s ago, more than ANOMALY_ALERT_DUE_AGE_S={limit_s:g}: "
            "check that runs of anomaly_detection succeed, and that the detector keeps up"
        )
    return found


@printable_errors()
def vacuum_hints() -> list[dict[str, Any]]:
    """Return the size and the dead rows of each table, with a hint if it needs vacuum or analyze."""
    settings, _ = begin_task()
    with connections.maintenance_store(settings) as store:
        tables = store.tables()
    for table in tables:
        log.log(logging.WARNING if table.hint else logging.INFO, "table %s: %s", table.name, table.hint or "ok")
    at = {table.name: {"vacuumed_at": str(table.vacuumed_at), "analysed_at": str(table.analysed_at)} for table in tables}
    return [
        {"table": table.name, "live": table.live, "dead": table.dead, "bytes": table.size_bytes, **at[table.name], "hint": table.hint}
        for table in tables
    ]


@printable_errors()
def run_doctor() -> list[str]:
    """Return the findings of the doctor, one line each.

    Raises:
        RunStopped: a check failed.
    """
    params = get_current_context()["params"]
    found = list(Doctor(os.environ, detector=params["detector"], image=params["image"]).findings())
    for finding in found:
        log.log(logging.WARNING if finding.problem else logging.INFO, "%s", finding)
    if bad := [finding for finding in found if finding.problem]:
        raise RunStopped(f"{len(bad)} of {len(found)} checks failed: {'; '.join(str(finding) for finding in bad)}")
    return [str(finding) for finding in found]


@printable_errors()
def find_source_rows() -> dict[str, Any]:
    """Look at all rows of all sources, whenever they were captured, and return the counts by source. A dry run only checks the sources."""
    settings, context = begin_task()
    if is_dry_run(context):
        return _logged("sources", {name: {"faults": faults} for name, faults in source_check(settings).items()})
    with connections.database(settings) as database:
        return _logged("sources", find_all_rows(settings, database, connections.metrics(context)))


@printable_errors()
def thresholds() -> dict[str, Any]:
    """Read the flags of earlier verdicts by the stored thresholds, or only count those that have to follow."""
    settings, context = begin_task()
    dry_run = is_dry_run(context)
    with connections.database(settings) as database:
        return _logged("thresholds", {"dry_run": dry_run, **follow_thresholds(settings, database, dry_run=dry_run)})


def requeue() -> dict[str, int]:
    """Requeue the chosen quarantined records, or only count them, and return how many are chosen by error code."""
    settings, context = begin_task()
    params = context["params"]
    record_ids = params["record_ids"]
    chosen = QuarantineFilter(
        error_code=params["error_code"] or None,
        window=requested_window(params),
        record_ids=None if record_ids is None else tuple(map(int, record_ids)),
    )
    runs.check(chosen.window)
    with connections.quarantine_store(settings) as quarantine:
        return quarantine.requeue(chosen, actor=actor_of(context), dry_run=params["dry_run"])


def _logged(task: str, found: dict[str, Any]) -> dict[str, Any]:
    log.info("%s %s", task, found)
    return found
