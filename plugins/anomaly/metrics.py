"""All metrics and their names. docs/operations.md explains each of them."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from anomaly.errors import DetectorOverloaded, Throttled
from anomaly.models.source import ROW_INVALID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly.models.runs import Backlog

log = logging.getLogger(__name__)

Layer = Literal["image", "detector", "archive", "database", "task"]
"""The layers that retry."""
TIMINGS_MAX = 20
"""Most timings of one operation that a chunk sends: a packet costs a fifth of the processor time of a record."""


class StatsClient(Protocol):
    """A StatsD client, such as Airflow's."""

    def incr(self, stat: str, count: int, /, *, tags: dict[str, Any]) -> None: ...
    def gauge(self, stat: str, value: float, /, *, tags: dict[str, Any]) -> None: ...
    def timing(self, stat: str, dt: float, /, *, tags: dict[str, Any]) -> None: ...


class Metrics:
    """Sends metrics through a client, or nothing without one. For any thread.

    A metric that cannot be sent is one warning, and never stops the task.

    Args:
        task: tag that distinguishes the gauges of concurrent tasks.
    """

    def __init__(self, client: StatsClient | None = None, *, task: str = "") -> None:
        self._client = client
        self._task = task
        self._warned = False

    def begin(self) -> None:
        """Send rare counters with 0, so that their first event is an increase, and 0 differs from no data."""
        for layer in get_args(Layer):
            self._count("anomaly.retries", 0, layer=layer)
        for error in (Throttled, DetectorOverloaded):
            self._count("anomaly.throttled", 0, code=error.code)
        self._count("anomaly.breaker_openings", 0)
        self._count("anomaly.lease_losses", 0)

    # ── counters and times

    def worked(self, tally: Tally) -> None:
        """Send the outcomes, error codes and timings of a finished chunk."""
        for event, count in tally.ended.items():
            self._count("anomaly.records", count, event=event)
        for code, count in tally.errors.items():
            self._count("anomaly.errors", count, code=code)
        for operation, values in tally.took_ms.items():
            for took_ms in sample(values):
                self._time("anomaly.operation", took_ms, operation=operation)

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Send how long the block takes, also if it fails. For operations that run once for many records."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._time("anomaly.operation", (time.monotonic() - began) * 1000, operation=operation)

    def retried(self, layer: Layer) -> None:
        """Count a retry."""
        self._count("anomaly.retries", 1, layer=layer)

    def throttled(self, error: Throttled | DetectorOverloaded) -> None:
        """Count a request that the detector refused for now."""
        self._count("anomaly.throttled", 1, code=error.code)

    def breaker_opened(self) -> None:
        """Count an opening of the circuit breaker: detector, bucket or database is down, and the task gives up for now."""
        self._count("anomaly.breaker_openings", 1)

    def source_rows_invalid(self, count: int) -> None:
        """Count rows of a source that cannot be records."""
        if count:
            self._count("anomaly.errors", count, code=ROW_INVALID)

    def lease_lost(self) -> None:
        """Count a chunk that another task holds by now, or may hold."""
        self._count("anomaly.lease_losses", 1)

    # ── gauges

    def throttle(self, *, limit: int, in_flight: int, held_s: float) -> None:
        """Send the limit of requests in flight, their number, and for how many seconds none may start."""
        self._gauge("anomaly.throttle_limit", limit, task=self._task)
        self._gauge("anomaly.throttle_in_flight", in_flight, task=self._task)
        self._gauge("anomaly.throttle_held", round(held_s, 3), task=self._task)

    def pool(self, in_use: int, opened: int) -> None:
        """Send the number of database connections in use and of those that are open."""
        self._gauge("anomaly.pool_in_use", in_use, task=self._task)
        self._gauge("anomaly.pool_open", opened, task=self._task)

    def backlog(self, backlog: Backlog) -> None:
        """Send the unfinished records by state, and the age of the oldest due one."""
        for state in ("due", "later", "claimed", "quarantined"):
            self._gauge("anomaly.backlog", getattr(backlog, state), state=state)
        self._gauge("anomaly.oldest_due_age", max(0.0, round(backlog.oldest_due_age_s or 0.0, 3)))  # clocks differ

    # ── sending

    def _count(self, name: str, count: int, **tags: str) -> None:
        self._send("incr", name, count, tags)

    def _gauge(self, name: str, value: float, **tags: str) -> None:
        self._send("gauge", name, value, tags)

    def _time(self, name: str, took_ms: float, **tags: str) -> None:
        self._send("timing", name, took_ms, tags)

    def _send(self, how: str, name: str, value: float, tags: dict[str, str]) -> None:
        if self._client is None:
            return
        try:
            getattr(self._client, how)(name, value, tags=tags)
        except Exception as exc:  # noqa: BLE001  # metrics never stop a task
            if not self._warned:
                self._warned = True
                log.warning("metrics not sent: %s", exc)


def sample(values: Sequence[float]) -> list[float]:
    """Return at most TIMINGS_MAX values, evenly spaced from the smallest to the largest, which keeps their quantiles."""
    ascending, count = sorted(values), min(len(values), TIMINGS_MAX)
    return [ascending[(2 * number + 1) * len(ascending) // (2 * count)] for number in range(count)]


SILENT = Metrics()
"""Sends nothing."""


class Tally:
    """Counts outcomes and collects timings of a chunk's records. For one thread."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.took_ms: defaultdict[str, list[float]] = defaultdict(list)

    def end(self, event: str, *, error_code: str | None = None, timings: dict[str, float]) -> None:
        """Count a record that ended as *event*, with the milliseconds of its operations."""
        self.ended[event] += 1
        if error_code:
            self.errors[error_code] += 1
        for operation, took_ms in timings.items():
            self.took_ms[operation].append(took_ms)

    def timings(self) -> dict[str, dict[str, float]]:
        """Return count, p50, p95 and max in milliseconds, by operation."""
        return {operation: _summary(sorted(values)) for operation, values in sorted(self.took_ms.items())}

    def as_json(self) -> dict[str, Any]:
        return {"ended": dict(self.ended), "errors": dict(self.errors), "timings_ms": self.timings()}

    def __str__(self) -> str:
        words = [f"{event}={count}" for event, count in sorted(self.ended.items())]
        words += [f"{code}={count}" for code, count in sorted(self.errors.items())]
        for operation, took in self.timings().items():
            words.append(f"{operation}_ms[n={took['count']:.0f} p50={took['p50']:.0f} p95={took['p95']:.0f} max={took['max']:.0f}]")
        return " ".join(words)


def _summary(ascending: list[float]) -> dict[str, float]:
    return {
        "count": float(len(ascending)),
        "p50": percentile(ascending, 0.5),
        "p95": percentile(ascending, 0.95),
        "max": ascending[-1],
    }


def percentile(ascending: list[float], share: float) -> float:
    """Return the nearest-rank percentile, as SQL's `percentile_disc`. *share* is from 0 to 1."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]
