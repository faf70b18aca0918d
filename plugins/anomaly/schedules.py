"""The variables that the files of the DAGs read: schedules and their time zone. Imports no Airflow, so that `bin/run` can check them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from croniter import croniter

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DETECTION, MAINTENANCE, TIMEZONE = "ANOMALY_SCHEDULE", "ANOMALY_MAINTENANCE_SCHEDULE", "ANOMALY_TIMEZONE"
_PRESETS = {"@quarterly": "0 0 1 */3 *"}
"""Airflow's names of schedules that croniter does not know."""
_COLUMNS, _SHOWN_CHARS = 5, 60


def detection_schedule(environ: Mapping[str, str]) -> str | None:
    """Return the cron expression of `anomaly_detection`; None for no schedule.

    Raises:
        Misconfigured: the variable is not a cron expression.
    """
    text = environ.get(DETECTION, "*/15 * * * *")
    return None if text == "none" else _cron(DETECTION, text)


def maintenance_schedule(environ: Mapping[str, str]) -> str | None:
    """Return the cron expression of `anomaly_maintenance`; None for no schedule. Raises as `detection_schedule`."""
    text = environ.get(MAINTENANCE, "")
    return _cron(MAINTENANCE, text) if text else None


def time_zone(environ: Mapping[str, str]) -> str:
    """Return the time zone of the schedules.

    Raises:
        Misconfigured: there is no such time zone.
    """
    name = environ.get(TIMEZONE, "UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise Misconfigured(f"{TIMEZONE} is not a time zone such as Europe/Berlin: {name[:_SHOWN_CHARS]!r}") from exc
    return name


_VARIABLES = (detection_schedule, maintenance_schedule, time_zone)


def check(environ: Mapping[str, str]) -> None:
    """Raise Misconfigured if one of the variables is wrong."""
    for read in _VARIABLES:
        read(environ)


def refused(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that is wrong."""
    for read in _VARIABLES:
        try:
            read(environ)
        except Misconfigured as exc:
            yield str(exc)


def _cron(name: str, text: str) -> str:
    try:
        croniter(_PRESETS.get(text, text)).get_next()
    except ValueError as exc:
        reason: object = exc
    else:
        reason = "it has a column for seconds or years" if len(text.split()) > _COLUMNS else ""
    if reason:
        shown = f"{text[:_SHOWN_CHARS]!r}: {reason}"
        raise Misconfigured(f"{name} is not a cron expression such as '*/15 * * * *': {shown[: 2 * _SHOWN_CHARS]}")
    return text
