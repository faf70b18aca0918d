"""A detector's quota, and the demand and share of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LATE_S = 1.0
"""Seconds after its time for which a granted start may be used."""
_COUNTED = ("input_tokens", "prompt_tokens", "output_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Limits that a detector's connection states, for all tasks together. None is no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None

    @property
    def stated(self) -> bool:
        return self != Quota()

    @property
    def counts_requests(self) -> bool:
        """True if each request needs a grant."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A task's demand until its next call, and its use of the last share."""

    wanted: int = 0
    """Requests that it wants in flight. 0 gives up its share."""
    in_flight: int = 0
    requests: int = 0
    """Further requests that it wants to start."""
    returned: tuple[float, ...] = ()
    """Granted starts that it will not use."""
    tokens_each: float = 1.0
    """Expected tokens of a request."""
    tokens_back: float = 0.0
    """Granted tokens that were not used; negative if requests used more than expected."""
    hold_s: float = 0.0
    """Seconds for which the detector accepts no requests."""
    answers: bool = False
    """True if the detector has answered this task since the last long pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A task's share of a detector's quota."""

    concurrency: int
    """Requests that it may have in flight."""
    starts: tuple[float, ...] = ()
    """Times from which on one request each may start, on the clock of the database."""
    now_s: float = 0.0
    """The time on that clock."""
    hold_s: float = 0.0
    at_most: int | None = None
    """Requests in flight until the detector has answered after a long pause: 1 for the task that tries it, 0 for the others."""


def tokens_of(usage: Mapping[str, Any] | None) -> float | None:
    """Return the tokens that a request used, or None if *usage* does not state them."""
    if not usage:
        return None
    if (total := _count(usage, "total_tokens")) is not None:
        return total
    counts = [count for name in _COUNTED if (count := _count(usage, name)) is not None]
    return sum(counts) if counts else None


def _count(usage: Mapping[str, Any], name: str) -> float | None:
    value = usage.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
