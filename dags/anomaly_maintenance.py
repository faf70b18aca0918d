"""### Gives quarantined records another life.

Choose them by the code of their last error, by when they were captured, or by id; where several are given, all must hold.
They are pending again with no attempt counted, and the next run of `anomaly_detection` whose window holds them takes them.

It begins as a dry run, which only counts: by error code in the task's log and its XCom. Who requeued a record is in
`anomaly.processing_log`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

PARAMS = {
    "error_code": Param(
        None,
        type=["null", "string"],
        maxLength=100,
        title="Error code",
        description="Of the last failure, such as image_not_found. Empty: any.",
    ),
    "window_start": Param(
        None, type=["null", "string"], format="date-time", title="Captured from", description="Included. Empty: from the beginning."
    ),
    "window_end": Param(None, type=["null", "string"], format="date-time", title="Captured before", description="Excluded. Empty: no end."),
    "record_ids": Param(
        None,
        type=["null", "array"],
        items={"type": "integer"},
        minItems=1,
        maxItems=10_000,
        title="Records",
        description="Their ids. Empty: any.",
    ),
    "dry_run": Param(True, type="boolean", title="Dry run", description="Count what is chosen, and change nothing."),
}


@dag(
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    tags=["anomaly", "upkeep"],
    default_args={"owner": "anomaly", "retries": 3, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": 2.0},
)
def anomaly_maintenance() -> None:
    @task
    def requeue() -> dict[str, int]:
        from anomaly import tasks

        return tasks.requeue()

    requeue()


DAG = anomaly_maintenance()
