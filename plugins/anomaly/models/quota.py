"""What a detector's connection states about its limits, and what a task wants and gets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTED = ("input_tokens", "prompt_tokens", "output_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Limits of a detector, for all tasks together; None is no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None

    @property
    def stated(self) -> bool:
        return self != Quota()

    @property
    def counts_requests(self) -> bool:
        """Whether a request may only start out of what was granted."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a task wants until it asks again, and what became of what it had."""

    wanted: int = 0
    """Requests that it would have in flight; 0: it leaves."""
    in_flight: int = 0
    requests: int = 0
    """Requests that it would start."""
    unused: int = 0
    """Requests that were granted and not started."""
    tokens_each: float = 1.0
    """Of a request, as far as is known."""
    tokens_back: float = 0.0
    """Granted and not used; negative where requests took more than was thought."""
    hold_s: float = 0.0
    """Seconds for which the detector wants to be left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A task's part of a detector."""

    concurrency: int
    """Requests that it may have in flight."""
    requests: int
    """Requests that it may start."""
    hold_s: float = 0.0


def tokens_of(usage: Mapping[str, Any] | None) -> float | None:
    """How many tokens an answer has used; None where it does not say."""
    if not usage:
        return None
    if (total := _count(usage, "total_tokens")) is not None:
        return total
    counts = [count for name in _COUNTED if (count := _count(usage, name)) is not None]
    return sum(counts) if counts else None


def _count(usage: Mapping[str, Any], name: str) -> float | None:
    value = usage.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
