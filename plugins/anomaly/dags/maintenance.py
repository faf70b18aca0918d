"""### Maintains the records database and the bucket.

| task | what it does |
|---|---|
| `migrate` | applies missing migrations of the records database, before all other tasks |
| `retention` | deletes log entries, ended batches and chunks, and objects of the bucket past `ANOMALY_RETENTION_…` |
| `orphans` | finds objects that no result refers to, and results whose objects are missing |
| `alert` | fails if a due record is older than `ANOMALY_ALERT_DUE_AGE_S` |
| `vacuum_hints` | lists tables that need vacuum or analyze |
| `doctor` | checks connections, privileges, schema, bucket, detector, pool, clocks and settings |
| `sources` | looks at all rows of your own tables for those that are not yet records |
| `thresholds` | lets the flags of earlier verdicts follow the thresholds that people have stored on the page |
| `requeue` | makes quarantined records pending again |

A triggered run is a dry run by default, which only counts. A scheduled run (`ANOMALY_MAINTENANCE_SCHEDULE`) makes changes, but never
deletes orphans and never requeues. `migrate` runs if the param `tasks` names it, or by default if `ANOMALY_AUTO_MIGRATE` is 1.

`requeue` chooses quarantined records by the code of their last error, by the time of their capture, or by id; if several are given,
all have to match. The records become pending with no attempt counted, and the next run of `anomaly_detection` whose window holds them
claims them. `anomaly.processing_log` has who requeued a record.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param, RetryDecision, RetryPolicy, dag, task

from anomaly.schedules import maintenance_schedule, time_zone

PARAMS = {
    "dry_run": Param(True, type="boolean", title="Dry run", description="Count, and change nothing."),
    "tasks": Param(
        None,
        type=["null", "array"],
        items={
            "type": "string",
            "enum": ["migrate", "retention", "orphans", "alert", "vacuum_hints", "doctor", "sources", "thresholds", "requeue"],
        },
        minItems=1,
        title="Tasks",
        description="Empty: only requeue if quarantined records are chosen below, otherwise all but migrate and requeue.",
    ),
    "delete_orphans": Param(
        False,
        type="boolean",
        title="Delete orphans",
        description="Delete the objects that no result refers to. Best while no detection run is active. Never in a dry run.",
    ),
    "orphan_age_h": Param(
        24,
        type="integer",
        minimum=1,
        maximum=8760,
        title="Age of orphans in hours",
        description="Younger objects are kept, since they may belong to records in progress.",
    ),
    "detector": Param(
        "anomaly_detector",
        type="string",
        minLength=1,
        maxLength=250,
        pattern=r"^[\w#!\(\)\-.:\/\\]+$",
        title="Detector",
        description="Airflow connection of the detector, to which the doctor sends one request with an image.",
    ),
    "image": Param(
        None,
        type=["null", "string"],
        maxLength=2000,
        title="Image",
        description="Address of the image, or its path on the worker. By default the doctor makes one; some detectors accept photos only.",
    ),
    "error_code": Param(
        None,
        type=["null", "string"],
        maxLength=100,
        pattern="^[a-z_]*$",
        title="Requeue: error code",
        description="Code of the last failure, such as image_not_found. Empty: any.",
    ),
    "window_start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Requeue: captured from",
        description="Inclusive. Empty: no start.",
    ),
    "window_end": Param(
        None, type=["null", "string"], format="date-time", title="Requeue: captured before", description="Exclusive. Empty: no end."
    ),
    "record_ids": Param(
        None,
        type=["null", "array"],
        items={"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
        minItems=1,
        maxItems=10_000,
        title="Requeue: record ids",
        description="Empty: any.",
    ),
}


class NoRetryOnConfigurationError(RetryPolicy):
    """Does not retry errors that a person has to fix."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        from anomaly.errors import RunStopped

        return RetryDecision.fail(reason=str(exception)) if isinstance(exception, RunStopped) else RetryDecision.default()


def timetable() -> CronTriggerTimetable | None:
    """Return the schedule; None if there is none. Raises Misconfigured if a variable is wrong."""
    schedule = maintenance_schedule(os.environ)
    return CronTriggerTimetable(schedule, timezone=time_zone(os.environ)) if schedule else None


@dag(
    schedule=timetable(),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    doc_md=__doc__,
    tags=["anomaly", "maintenance"],
    default_args={
        "owner": "anomaly",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "retry_policy": NoRetryOnConfigurationError(),
        "trigger_rule": "none_failed",  # after a migrate that was skipped
    },
)
def anomaly_maintenance() -> None:
    @task
    def migrate() -> list[str]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("migrate")
        return maintenance.migrate()

    # The tasks below are independent: each is a leaf, so the run fails if one of them does.
    @task
    def retention() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("retention")
        return maintenance.sweep()

    @task
    def orphans() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("orphans")
        return maintenance.find_orphans()

    @task
    def alert() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("alert")
        return maintenance.alert()

    @task
    def vacuum_hints() -> list[dict[str, Any]]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("vacuum_hints")
        return maintenance.vacuum_hints()

    @task
    def doctor() -> list[str]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("doctor")
        return maintenance.run_doctor()

    @task
    def sources() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("sources")
        return maintenance.find_source_rows()

    @task
    def thresholds() -> dict[str, Any]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("thresholds")
        return maintenance.thresholds()

    @task
    def requeue() -> dict[str, int]:
        from anomaly.tasks import maintenance

        maintenance.skip_unless_chosen("requeue")
        return maintenance.requeue()

    migrate() >> [retention(), orphans(), alert(), vacuum_hints(), doctor(), sources(), thresholds(), requeue()]


DAG = anomaly_maintenance()
