"""### Asks the detector about all records that are due.

Claims records in chunks, processes them in mapped tasks that keep the detector busy, and commits each verdict exactly once.
A run drains its window, however large: a task that has finished its chunk claims the next one.

* **scheduled**: every due record that was captured before the end of the run's interval
* **backfill**: exactly the records that were captured in the run's interval
* **triggered**: the records that the params choose, by default all that are due. The form's *Data Interval* has no effect

Results: tables `anomaly.ai_results` and `anomaly.ai_flags`, bucket `runs/<run id>/report.json`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, CronDataIntervalTimetable, Param, RetryDecision, RetryPolicy, dag, task

from anomaly.dags.links import RunLink
from anomaly.schedules import detection_schedule, time_zone

RESULTS = Asset("anomaly_results")
# By connection and table. Tasks learn the database and the bucket from the connections when they run.
RECORDS = Asset("anomaly_db/anomaly.records", group="anomaly")
VERDICTS = [Asset(f"anomaly_db/anomaly.{table}", group="anomaly") for table in ("ai_results", "ai_flags", "processing_log")]
BUCKET = Asset("anomaly_s3", group="anomaly")
PARAMS = {
    "select": Param(
        "pending",
        type="string",
        enum=["pending", "failed", "all"],
        title="Which records",
        description="pending: records that are due. failed: quarantined ones as well. all: done ones as well, which are scored again.",
    ),
    "window_start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Captured from",
        description="Inclusive. Empty: no start. Only this and the end choose the window: the form's Data Interval has no effect.",
    ),
    "window_end": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Captured before",
        description="Exclusive. Empty: no end. The form's Data Interval has no effect.",
    ),
    "max_records": Param(
        None, type=["null", "integer"], minimum=1, maximum=100_000_000, title="Most records", description="Empty: until nothing is due."
    ),
    "batch_size": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=100_000,
        title="First batch",
        description="Records that the run claims before its tasks start. Empty: one chunk for each of ANOMALY_TASKS_MAX tasks.",
    ),
    "chunk_size": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=10_000,
        title="Chunk size",
        description="Records under one lease. Empty: ten seconds of work at the rate of the last run.",
    ),
    "detector": Param(
        "anomaly_detector",
        type="string",
        minLength=1,
        maxLength=250,
        pattern=r"^[\w#!\(\)\-.:\/\\]+$",
        title="Detector",
        description="Airflow connection of the detector.",
    ),
    "fresh": Param(
        False, type="boolean", title="Fresh answers", description="Ask again about images that the same detector has already answered for."
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Claim nothing. Report how many records a run would claim, how long it would take, and its price.",
    ),
    "max_failure_rate": Param(
        0.5,
        type="number",
        minimum=0,
        maximum=1,
        title="Accepted failure rate",
        description="The run stops if, after 50 records, a larger share failed. A run in which all records failed is never a success.",
    ),
}


class RetryDelayFromError(RetryPolicy):
    """Takes the delay of a retry from the error, since leases were renewed for as long, and does not retry errors that stop the run."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        from anomaly.errors import RunStopped, TryEnded

        if isinstance(exception, TryEnded):
            return RetryDecision.retry(timedelta(seconds=exception.delay_s), reason=str(exception))
        if isinstance(exception, RunStopped):
            return RetryDecision.fail(reason=str(exception))
        return RetryDecision.default()


def timetable() -> CronDataIntervalTimetable | None:
    """Return the schedule; None if there is none. Raises Misconfigured if a variable is wrong."""
    schedule = detection_schedule(os.environ)
    return CronDataIntervalTimetable(schedule, timezone=time_zone(os.environ)) if schedule else None


@dag(
    schedule=timetable(),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    params=PARAMS,
    doc_md=__doc__,
    tags=["anomaly", "images"],
    default_args={
        "owner": "anomaly",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RetryDelayFromError(),
    },
)
def anomaly_detection() -> None:
    @task(inlets=[RECORDS])
    def claim() -> list[dict[str, Any]]:
        from anomaly.tasks import detection

        return detection.claim()

    @task(inlets=[RECORDS, BUCKET], map_index_template="chunk {{ chunk_number }}")
    def process(chunk: dict[str, Any]) -> None:
        from anomaly.tasks import detection

        detection.process(chunk)

    # Emits the asset events of the mapped task: with outlets of its own, it would emit one for each of its instances.
    @task(outlets=[RESULTS, RECORDS, *VERDICTS, BUCKET])
    def report() -> None:
        from anomaly.tasks import detection

        detection.report(RESULTS)

    processed, reported = process.expand(chunk=claim()), report()
    for each in (processed, reported):
        each.operator.operator_extra_links = [RunLink()]  # type: ignore[attr-defined]  # the result of a task has it
    processed >> reported.as_teardown(on_failure_fail_dagrun=True)


DAG = anomaly_detection()
