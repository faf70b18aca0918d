"""The time zone of the schedules."""

from __future__ import annotations

import os
from zoneinfo import ZoneInfo


def time_zone() -> str:
    """Return the time zone of the schedules.

    Raises:
        ValueError: `ANOMALY_TIMEZONE` is no time zone.
    """
    name = os.environ.get("ANOMALY_TIMEZONE", "UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError(f"ANOMALY_TIMEZONE is not a time zone such as Europe/Berlin: {name!r}") from exc
    return name
