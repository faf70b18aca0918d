"""What is measured, and under which names it is sent: all of them are in here, and docs/operations.md explains each."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from anomaly.errors import DetectorOverloaded, Throttled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly.models.runs import Backlog

log = logging.getLogger(__name__)

Layer = Literal["image", "detector", "archive", "database", "task"]
"""Who tries again."""
PORTION = 20
"""Times of one operation that a chunk sends at most: each packet costs as much as our part in a fifth of a record."""


class Client(Protocol):
    """Such as Airflow's statistics."""

    def incr(self, stat: str, count: int, /, *, tags: dict[str, Any]) -> None: ...
    def gauge(self, stat: str, value: float, /, *, tags: dict[str, Any]) -> None: ...
    def timing(self, stat: str, dt: float, /, *, tags: dict[str, Any]) -> None: ...


class Metrics:
    """Sends what is measured through a client; without one nothing is sent. For any thread.

    It is not the job and never stops it: that something could not be sent is one warning.

    Args:
        task: tells the gauges of tasks apart that work side by side.
    """

    def __init__(self, client: Client | None = None, *, task: str = "") -> None:
        self._client = client
        self._task = task
        self._warned = False

    def begin(self) -> None:
        """What seldom happens is counted from 0, so that its first time is an increase, and 0 is not the same as nothing sent."""
        for layer in get_args(Layer):
            self._count("anomaly.retries", 0, layer=layer)
        for error in (Throttled, DetectorOverloaded):
            self._count("anomaly.throttled", 0, code=error.code)
        self._count("anomaly.breaker_openings", 0)
        self._count("anomaly.lease_losses", 0)

    # ── counters and times

    def worked(self, tally: Tally) -> None:
        """A chunk's records by how they ended and by error code, and how long their operations took."""
        for event, count in tally.ended.items():
            self._count("anomaly.records", count, event=event)
        for code, count in tally.errors.items():
            self._count("anomaly.errors", count, code=code)
        for operation, values in tally.took_ms.items():
            for took_ms in portion(values):
                self._time("anomaly.operation", took_ms, operation=operation)

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Send how long this takes, also where it fails. For what is done once for many records."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._time("anomaly.operation", (time.monotonic() - began) * 1000, operation=operation)

    def retried(self, layer: Layer) -> None:
        """Something failed for now and is tried again."""
        self._count("anomaly.retries", 1, layer=layer)

    def throttled(self, error: Throttled | DetectorOverloaded) -> None:
        """The detector had no time for a request."""
        self._count("anomaly.throttled", 1, code=error.code)

    def breaker_opened(self) -> None:
        """The detector, the bucket or the database counts as down, and the task gives up for now."""
        self._count("anomaly.breaker_openings", 1)

    def lease_lost(self) -> None:
        """A chunk is someone else's by now, or might be."""
        self._count("anomaly.lease_losses", 1)

    # ── gauges

    def throttle(self, *, limit: int, in_flight: int, held_s: float) -> None:
        """How many requests may be in flight, how many are, and for how many seconds none may start."""
        self._gauge("anomaly.throttle_limit", limit, task=self._task)
        self._gauge("anomaly.throttle_in_flight", in_flight, task=self._task)
        self._gauge("anomaly.throttle_held", round(held_s, 3), task=self._task)

    def pool(self, in_use: int, opened: int) -> None:
        """Connections to the records database: those that are in use, and all that are open."""
        self._gauge("anomaly.pool_in_use", in_use, task=self._task)
        self._gauge("anomaly.pool_open", opened, task=self._task)

    def backlog(self, backlog: Backlog) -> None:
        """What waits, and for how long what is due has waited."""
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
        except Exception as exc:  # noqa: BLE001  # whatever it is, the records are done without it
            if not self._warned:
                self._warned = True
                log.warning("no metrics: %s", exc)


def portion(values: Sequence[float]) -> list[float]:
    """At most PORTION of these values, taken evenly from the smallest to the largest, so that their quantiles stay what they were."""
    ascending, count = sorted(values), min(len(values), PORTION)
    return [ascending[(2 * number + 1) * len(ascending) // (2 * count)] for number in range(count)]


SILENT = Metrics()
"""Sends nothing."""


class Tally:
    """What became of a chunk's records, and how long each operation took. For one thread."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.took_ms: defaultdict[str, list[float]] = defaultdict(list)

    def end(self, event: str, *, error_code: str | None = None, timings: dict[str, float]) -> None:
        """Count a record that ended as *event*, with the milliseconds of each of its operations."""
        self.ended[event] += 1
        if error_code:
            self.errors[error_code] += 1
        for operation, took_ms in timings.items():
            self.took_ms[operation].append(took_ms)

    def timings(self) -> dict[str, dict[str, float]]:
        """Count, p50, p95 and max in milliseconds, by operation."""
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
    """The smallest value that at least *share* of the values do not exceed (nearest rank, as SQL's `percentile_disc`)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]
