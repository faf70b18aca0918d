"""Settings from environment variables `ANOMALY_…`, which each task reads when it starts."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "ANOMALY_"
READ_BY_THE_DAG = frozenset({"ANOMALY_SCHEDULE", "ANOMALY_TIMEZONE", "ANOMALY_MAINTENANCE_SCHEDULE"})
MIB = 1024 * 1024


def _bounded(default: float, low: float, high: float, about: str) -> Any:
    """Define a number from *low* to *high*, of the type of *default*."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings with their defaults and bounds. Durations are in seconds."""

    detector_slots: int = _bounded(32, 1, 1024, "requests to the detector in flight at once, in one task")
    detector_retries: int = _bounded(2, 0, 10, "retries of a request to the detector")
    detector_backoff_s: float = _bounded(1.0, 0.01, 60, "wait before the first retry; doubles")
    detector_connect_timeout_s: float = _bounded(5.0, 0.1, 60, "connect timeout of the detector")
    detector_read_timeout_s: float = _bounded(30.0, 0.1, 600, "read timeout of the detector: silence after which a request has failed")
    detector_deadline_s: float = _bounded(120.0, 1, 3600, "time limit of a whole request to the detector")
    detector_hold_s: float = _bounded(60.0, 0, 600, "longest Retry-After that a task waits for")
    detector_pause_max_s: float = _bounded(3600.0, 1, 7 * 86400, "longest pause of all tasks, whatever Retry-After a detector sends")
    throttle_patience_s: float = _bounded(600.0, 0, 3600, "how long a record waits in the task while the detector is throttling")
    detector_answer_max_bytes: int = _bounded(16 * MIB, 1024, 256 * MIB, "largest answer of the detector")
    refusals_max: int = _bounded(5, 1, 100, "refusals or unreadable answers, with no record accepted before, after which the run stops")
    breaker_failures: int = _bounded(10, 1, 1000, "consecutive failures after which the detector or the bucket counts as down")

    fetch_workers: int = _bounded(16, 1, 256, "images downloaded at once, in one task")
    image_retries: int = _bounded(3, 0, 10, "retries of a download")
    image_backoff_s: float = _bounded(1.0, 0.01, 60, "wait before the first retry; doubles")
    image_retry_after_cap_s: float = _bounded(30.0, 0, 600, "longest Retry-After of an image host that a task waits for")
    image_connect_timeout_s: float = _bounded(5.0, 0.1, 60, "connect timeout of image hosts")
    image_read_timeout_s: float = _bounded(30.0, 0.1, 600, "read timeout of image hosts: silence after which a download has failed")
    image_deadline_s: float = _bounded(60.0, 1, 3600, "time limit of a whole download")
    image_max_bytes: int = _bounded(20 * MIB, 1, 1024 * MIB, "largest image, in bytes")
    image_max_px: int = _bounded(50_000_000, 1, 1_000_000_000, "largest image, in pixels")

    archive_workers: int = _bounded(16, 1, 256, "objects written at once, in one task")
    s3_attempts: int = _bounded(3, 1, 10, "tries of an S3 request by the client, including the first")
    s3_pool: int = _bounded(50, 1, 1024, "connections to S3, in one task")

    commit_workers: int = _bounded(4, 1, 64, "commits at once, in one task")
    db_pool_min: int = _bounded(2, 1, 64, "database connections that a task opens when it starts")
    db_pool_max: int = _bounded(10, 1, 64, "most database connections of one task")
    db_connect_timeout_s: int = _bounded(5, 1, 60, "connect timeout of the database, in whole seconds")
    db_idle_check_s: float = _bounded(5.0, 0, 600, "idle time after which a connection is checked before it is used")
    db_call_deadline_s: float = _bounded(20.0, 1, 600, "time limit of a database call, after which its socket is shut")

    one_core: int = _bounded(1, 0, 1, "1: the threads of a task share one core; 0: they may use all cores")
    write_patience_s: float = _bounded(120.0, 0, 3600, "how long a write to the bucket or the database is retried")

    tasks_max: int = _bounded(4, 1, 1000, "mapped tasks of a run that chooses its batch size: as many as workers run at once")
    chunk_work_s: float = _bounded(10.0, 1, 600, "work in a chunk of such a run, at the rate of the last run")
    chunk_min: int = _bounded(25, 1, 10_000, "fewest records in a chunk of such a run")
    chunk_max: int = _bounded(500, 1, 10_000, "most records in a chunk of such a run")

    lease_s: float = _bounded(60.0, 10, 3600, "lease of a chunk in progress, renewed after a third of it")
    queue_lease_s: float = _bounded(3600.0, 10, 7 * 86400, "lease of a chunk that waits for a worker")
    attempts_max: int = _bounded(5, 1, 100, "attempts of a record before it is quarantined")
    defer_backoff_s: float = _bounded(60.0, 1, 86400, "wait before a deferred record is due again; doubles")
    defer_cap_s: float = _bounded(3600.0, 1, 7 * 86400, "longest such wait")
    task_backoff_s: float = _bounded(30.0, 0.1, 3600, "wait before the first retry of a task; doubles")
    task_backoff_cap_s: float = _bounded(600.0, 1, 86400, "longest such wait")
    grace_s: float = _bounded(4.0, 0.1, 60, "time in which a stopped task may commit the answers that it has or waits for")

    review_share: float = _bounded(
        0.02, 0, 1, "share of all records, drawn at random, that people review even if they are not flagged; 0 draws none"
    )

    same_source: str = ""

    auto_migrate: int = _bounded(0, 0, 1, "1: maintenance applies missing migrations, in scheduled runs and those without a dry run")
    retention_log_days: int = _bounded(0, 0, 36500, "maintenance deletes log entries, ended batches and chunks that are older; 0 keeps all")
    retention_archive_days: int = _bounded(
        0, 0, 36500, "maintenance deletes objects of the bucket that no result has used for longer; 0 keeps all"
    )
    alert_due_age_s: float = _bounded(0.0, 0, 365 * 86400, "the task alert fails if a due record was captured longer ago; 0 is never")

    log_max_bytes: int = _bounded(100 * MIB, 0, 1024**4, "size at which the log file is rotated; 0 is never")
    log_backups: int = _bounded(5, 1, 100, "rotated log files that are kept")
    notify_of: str = "anomalies.found,run.failed,run.failure_rate_exceeded,records.overdue"
    notifiers: str = ""
    log_file: str = "logs/anomaly_detection.log"
    source: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        for low, high in (("db_pool_min", "db_pool_max"), ("commit_workers", "db_pool_max"), ("chunk_min", "chunk_max")):
            if getattr(self, low) > getattr(self, high):
                raise Misconfigured(f"{_variable(low)} must not be larger than {_variable(high)}")

    @classmethod
    def variables(cls) -> dict[str, dataclasses.Field[Any]]:
        """Return the field of each variable."""
        return {_variable(field.name): field for field in dataclasses.fields(cls)}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            Misconfigured: a value is not a number or out of bounds, or a variable is unknown.
        """
        fields = cls.variables()
        values: dict[str, Any] = {}
        for variable in sorted(name for name in environ if name.startswith(PREFIX) and name not in READ_BY_THE_DAG):
            if variable not in fields:
                near = difflib.get_close_matches(variable, [*fields, *READ_BY_THE_DAG], n=1, cutoff=0.75)
                raise Misconfigured(f"there is no setting {variable}{f'; did you mean {near[0]}?' if near else ''}")
            field = fields[variable]
            values[field.name] = _parsed(field, environ[variable])
        return cls(**values)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _parsed(field: dataclasses.Field[Any], text: str) -> Any:
    default = field.default
    if isinstance(default, str):
        return text
    try:
        return int(text) if isinstance(default, int) else float(text)
    except ValueError as exc:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise Misconfigured(f"{_variable(field.name)} must be {kind}, not {text!r}") from exc


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    if field.metadata and not field.metadata["low"] <= value <= field.metadata["high"]:
        low, high = field.metadata["low"], field.metadata["high"]
        raise Misconfigured(f"{_variable(field.name)} must be from {low:g} to {high:g}, not {value:g}")
