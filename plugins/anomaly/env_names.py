"""Finds environment variables whose name is almost that of a connection or a setting. Imports only the standard library."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from anomaly.errors import Misconfigured
from anomaly.settings import PREFIX, READ_BY_THE_DAG, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

AIRFLOW_PREFIX = "AIRFLOW_CONN_"
CONNECTIONS = tuple(f"{AIRFLOW_PREFIX}ANOMALY_{name}" for name in ("DB", "S3", "DETECTOR", "IMAGES", "SOURCE", "WEBHOOK"))
OTHER_WORDS = {
    **dict.fromkeys(("DATABASE", "POSTGRES", "POSTGRESQL", "RECORDS"), "DB"),
    **dict.fromkeys(("BUCKET", "AWS", "MINIO"), "S3"),
}
"""Words that are taken for the names of the connections of records and bucket."""
SIMILAR_CONNECTION, SIMILAR, SIMILAR_SETTING = 0.93, 0.8, 0.9
"""Least `difflib` ratios. The names of connections share a long prefix, and one such as `anomaly_v2` may be a detector of the user's."""


def intended(name: str) -> str | None:
    """Return the variable that *name* is probably meant to be; None if it is a known one or resembles none."""
    settings = [*Settings.variables(), *READ_BY_THE_DAG]
    upper = name.upper()
    if upper in (*CONNECTIONS, *settings):
        return None if name == upper else upper
    if PREFIX in upper:
        word = upper.removeprefix(AIRFLOW_PREFIX).removeprefix(PREFIX).rstrip("_")
        meant = f"{AIRFLOW_PREFIX}{PREFIX}{OTHER_WORDS.get(word, word)}"
        if meant in CONNECTIONS:
            return meant
    if any(upper.startswith(f"{known}_") or (upper.startswith(known) and upper.removeprefix(known).isdecimal()) for known in CONNECTIONS):
        return None  # another connection of the same kind, such as anomaly_detector_v2
    if upper.startswith(PREFIX):
        return _closest(upper, settings, SIMILAR)
    cutoff = SIMILAR_CONNECTION if upper.startswith(AIRFLOW_PREFIX) else SIMILAR
    return _closest(upper, CONNECTIONS, cutoff) or _closest(upper, settings, SIMILAR_SETTING)


def check(names: Iterable[str]) -> None:
    """Refuse a name that is almost the right one, since its value would be ignored.

    Raises:
        Misconfigured: there is such a name.
    """
    for name in names:
        if right := intended(name):
            raise Misconfigured(f"there is no variable {name}; did you mean {right}?")


def _closest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)), None)
