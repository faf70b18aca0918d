"""### Keeps the records, the log and the bucket in order.

| task | what it does |
|---|---|
| `retention` | deletes log entries, ended batches, chunks and objects of the bucket that are older than `ANOMALY_RETENTION_…` says |
| `orphans` | looks for objects that no result names, and for results whose objects are gone |
| `alert` | is red when a due record is older than `ANOMALY_ALERT_DUE_AGE_S` |
| `vacuum_hints` | says which tables want a vacuum or an analyze |
| `doctor` | checks connections, rights, schema, bucket, detector, pool, clocks and settings |
| `requeue` | gives quarantined records another life |

A run begins as a dry run, which only looks and counts. A run of the schedule (`ANOMALY_MAINTENANCE_SCHEDULE`) does its work, but never
deletes orphans and never requeues.

`requeue` takes the quarantined records that are chosen by the code of their last error, by when they were captured, or by id; where
several are given, all must hold. They are pending again with no attempt counted, and the next run of `anomaly_detection` whose window
holds them takes them. Who requeued a record is in `anomaly.processing_log`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param, RetryDecision, RetryPolicy, dag, task

SCHEDULE = os.environ.get("ANOMALY_MAINTENANCE_SCHEDULE")
PARAMS = {
    "dry_run": Param(True, type="boolean", title="Dry run", description="Look and count, and change nothing."),
    "tasks": Param(
        None,
        type=["null", "array"],
        items={"type": "string", "enum": ["retention", "orphans", "alert", "vacuum_hints", "doctor", "requeue"]},
        minItems=1,
        title="Tasks",
        description="Empty: requeue alone where quarantined records are chosen below, otherwise all but requeue.",
    ),
    "delete_orphans": Param(
        False,
        type="boolean",
        title="Delete orphans",
        description="Delete the objects that no result names. Best while no run is working; never in a dry run.",
    ),
    "orphan_age_h": Param(
        24,
        type="integer",
        minimum=1,
        maximum=8760,
        title="Age of orphans",
        description="Hours. What was written later may belong to a record that is being worked.",
    ),
    "detector": Param(
        "anomaly_detector",
        type="string",
        minLength=1,
        maxLength=250,
        title="Detector",
        description="The Airflow connection that the doctor asks, once, about an image of its own.",
    ),
    "error_code": Param(
        None,
        type=["null", "string"],
        maxLength=100,
        title="Requeue: error code",
        description="Of the last failure, such as image_not_found. Empty: any.",
    ),
    "window_start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Requeue: captured from",
        description="Included. Empty: from the beginning.",
    ),
    "window_end": Param(
        None, type=["null", "string"], format="date-time", title="Requeue: captured before", description="Excluded. Empty: no end."
    ),
    "record_ids": Param(
        None,
        type=["null", "array"],
        items={"type": "integer"},
        minItems=1,
        maxItems=10_000,
        title="Requeue: records",
        description="Their ids. Empty: any.",
    ),
}


class NoRetryOnConfigurationError(RetryPolicy):
    """What a person has to change is not tried again."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        from anomaly.errors import RunStopped

        return RetryDecision.fail(reason=str(exception)) if isinstance(exception, RunStopped) else RetryDecision.default()


@dag(
    schedule=CronTriggerTimetable(SCHEDULE, timezone=os.environ.get("ANOMALY_TIMEZONE", "UTC")) if SCHEDULE else None,
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    doc_md=__doc__,
    tags=["anomaly", "upkeep"],
    default_args={
        "owner": "anomaly",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "retry_policy": NoRetryOnConfigurationError(),
    },
)
def anomaly_maintenance() -> None:
    # No task waits for another one: each is a leaf, so that the run is red where one is.
    @task
    def retention() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.chosen("retention")
        return maintenance.sweep()

    @task
    def orphans() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.chosen("orphans")
        return maintenance.compare()

    @task
    def alert() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.chosen("alert")
        return maintenance.alert()

    @task
    def vacuum_hints() -> list[dict[str, Any]]:
        from anomaly.tasks import maintenance

        maintenance.chosen("vacuum_hints")
        return maintenance.vacuum_hints()

    @task
    def doctor() -> list[str]:
        from anomaly.tasks import maintenance

        maintenance.chosen("doctor")
        return maintenance.examine()

    @task
    def requeue() -> dict[str, int]:
        from anomaly.tasks import detection, maintenance

        maintenance.chosen("requeue")
        return detection.requeue()

    retention(), orphans(), alert(), vacuum_hints(), doctor(), requeue()


DAG = anomaly_maintenance()
