"""The results of checks, and what several checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

SKEW_MAX_S = 30.0
"""Windows are compared with times of capture, and S3 refuses signatures that are 15 minutes off."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, one line."""

    what: str
    problem: str = ""
    """The problem and its fix; empty if the check passed."""
    note: str = ""
    """A fact that disturbs no run, but that a person should look at."""

    def __str__(self) -> str:
        if self.problem:
            return f"BAD {self.what}: {self.problem}"
        return f"see {self.what}: {self.note}" if self.note else f"ok  {self.what}"


def guarded(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails is a finding as well."""
    try:
        yield from check()
    except AnomalyError as exc:
        yield Finding(what, str(exc))
    except Exception as exc:  # noqa: BLE001  # the other checks have to run
        # Without its message, which may quote the connection and its password.
        yield Finding(
            what, f"{type(exc).__name__}: check that the connection is a URI or JSON as Airflow reads it; docs/operations.md shows both"
        )


def clock(whose: str, at: datetime, began: datetime, ended: datetime) -> Finding:
    """Compare a clock, read between *began* and *ended*, with this machine's. The time of the request is not counted as a difference."""
    ahead_s = max((at - ended).total_seconds(), 0.0) - max((began - at).total_seconds(), 0.0)
    if abs(ahead_s) > SKEW_MAX_S:
        order = "ahead of" if ahead_s > 0 else "behind"
        return Finding("clocks", f"the clock of {whose} is {abs(ahead_s):.0f} s {order} this machine's: set both by NTP")
    return Finding(f"clocks: {whose} and this machine agree within {SKEW_MAX_S:g} s")
