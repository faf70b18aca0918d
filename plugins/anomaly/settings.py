"""The knobs: environment variables `ANOMALY_…`, read once, inside a task; a bad value is refused with a sentence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "ANOMALY_"
READ_BY_THE_DAG = frozenset({"ANOMALY_SCHEDULE", "ANOMALY_TIMEZONE", "ANOMALY_MAINTENANCE_SCHEDULE"})
MIB = 1024 * 1024


def _between(default: float, low: float, high: float, about: str) -> Any:
    """A number from *low* to *high*; its type is that of *default*."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of them, with their defaults and bounds. Durations are in seconds."""

    detector_slots: int = _between(32, 1, 1024, "requests that one task has in flight at the detector")
    detector_retries: int = _between(2, 0, 10, "further requests after one that failed for now")
    detector_backoff_s: float = _between(1.0, 0.01, 60, "wait before the first of them; doubles")
    detector_connect_timeout_s: float = _between(5.0, 0.1, 60, "to connect to the detector")
    detector_read_timeout_s: float = _between(30.0, 0.1, 600, "silence after which a request to the detector has failed")
    detector_deadline_s: float = _between(120.0, 1, 3600, "after which one request to the detector is given up, however it trickles")
    detector_hold_s: float = _between(60.0, 0, 600, "longest Retry-After that is waited for inside the task")
    throttle_patience_s: float = _between(600.0, 0, 3600, "how long a record waits in the task while the detector asks to hold back")
    detector_answer_max_bytes: int = _between(16 * MIB, 1024, 256 * MIB, "largest answer that is read")
    breaker_failures: int = _between(10, 1, 1000, "failures in a row after which the detector or the bucket counts as down")

    fetch_workers: int = _between(16, 1, 256, "images downloaded at once by one task")
    image_retries: int = _between(3, 0, 10, "further requests for an image after one that failed for now")
    image_backoff_s: float = _between(1.0, 0.01, 60, "wait before the first of them; doubles")
    image_retry_after_cap_s: float = _between(30.0, 0, 600, "longest Retry-After of an image host that is waited for")
    image_connect_timeout_s: float = _between(5.0, 0.1, 60, "to connect to an image host")
    image_read_timeout_s: float = _between(30.0, 0.1, 600, "silence after which a download has failed")
    image_deadline_s: float = _between(60.0, 1, 3600, "after which one download is given up, however it trickles")
    image_max_bytes: int = _between(20 * MIB, 1, 1024 * MIB, "largest image that is downloaded")
    image_max_px: int = _between(50_000_000, 1, 1_000_000_000, "most pixels of an image")

    archive_workers: int = _between(16, 1, 256, "objects written at once by one task")
    s3_attempts: int = _between(3, 1, 10, "tries of one S3 request by its client, the first included")
    s3_pool: int = _between(50, 1, 1024, "connections to S3 of one task")

    commit_workers: int = _between(4, 1, 64, "commits at once by one task")
    db_pool_min: int = _between(2, 1, 64, "database connections that a task opens at its start")
    db_pool_max: int = _between(10, 1, 64, "database connections of one task")
    db_connect_timeout_s: int = _between(5, 1, 60, "to connect to the database; whole seconds")
    db_idle_check_s: float = _between(5.0, 0, 600, "idle time after which a connection is checked before it is used")
    db_call_deadline_s: float = _between(20.0, 1, 600, "after which a database call is given up and its socket shut")

    one_core: int = _between(1, 0, 1, "1: the threads of a task share one core, as they take turns anyway; 0: they may use all")
    write_patience_s: float = _between(120.0, 0, 3600, "how long a write to the bucket or the database is tried again")

    tasks_max: int = _between(4, 1, 1000, "mapped tasks of a run that sizes its batch itself: as many as workers run at once")
    chunk_work_s: float = _between(10.0, 1, 600, "work for one task that such a chunk is to hold, at the rate of the last run")
    chunk_min: int = _between(25, 1, 10_000, "fewest records of such a chunk")
    chunk_max: int = _between(500, 1, 10_000, "most records of such a chunk")

    lease_s: float = _between(60.0, 10, 3600, "lease of a chunk that is worked; renewed at a third")
    queue_lease_s: float = _between(3600.0, 10, 7 * 86400, "lease of a chunk that waits for a worker")
    attempts_max: int = _between(5, 1, 100, "attempts of a record before it is quarantined")
    defer_backoff_s: float = _between(60.0, 1, 86400, "wait before a deferred record is due again; doubles")
    defer_cap_s: float = _between(3600.0, 1, 7 * 86400, "longest such wait")
    task_backoff_s: float = _between(30.0, 0.1, 3600, "wait before a task's first retry; doubles")
    task_backoff_cap_s: float = _between(600.0, 1, 86400, "longest such wait")
    grace_s: float = _between(4.0, 0.1, 60, "what a stopped task may use to end what is in flight")

    retention_log_days: int = _between(
        0, 0, 36500, "log entries, ended batches and chunks that are older are deleted by upkeep; 0 keeps them"
    )
    retention_archive_days: int = _between(
        0, 0, 36500, "objects of the bucket that no result has used for longer are deleted; 0 keeps them"
    )
    alert_due_age_s: float = _between(0.0, 0, 365 * 86400, "upkeep is red when a due record was captured longer ago; 0 is never")

    log_file: str = "logs/anomaly_detection.log"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        for low, high in (("db_pool_min", "db_pool_max"), ("commit_workers", "db_pool_max"), ("chunk_min", "chunk_max")):
            if getattr(self, low) > getattr(self, high):
                raise Misconfigured(f"{_variable(low)} must not be larger than {_variable(high)}")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            Misconfigured: a value is no number, out of its bounds, or of a name that no setting has.
        """
        fields = {_variable(field.name): field for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for variable in sorted(name for name in environ if name.startswith(PREFIX) and name not in READ_BY_THE_DAG):
            if variable not in fields:
                raise Misconfigured(f"there is no setting {variable}")
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
