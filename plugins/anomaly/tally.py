"""Counts and timings of the records of one chunk."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any


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
