"""The notification itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

ANOMALIES_FOUND = "anomalies.found"
RUN_FAILED = "run.failed"
FAILURE_RATE_EXCEEDED = "run.failure_rate_exceeded"
RECORDS_OVERDUE = "records.overdue"
TYPES = (ANOMALIES_FOUND, RUN_FAILED, FAILURE_RATE_EXCEEDED, RECORDS_OVERDUE)


def wanted(names: str) -> frozenset[str]:
    """Return the types of notifications in a list with commas.

    Raises:
        Misconfigured: there is no such type.
    """
    types = frozenset(name.strip() for name in names.split(",") if name.strip())
    if unknown := sorted(types.difference(TYPES)):
        raise Misconfigured(f"ANOMALY_NOTIFY_OF: there is no {unknown[0]!r}; there are {', '.join(TYPES)}")
    return types


class NotSent(Exception):
    """Raised when a notification may not have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """An event of a run. Templates of Airflow's notifiers know it as `anomaly`."""

    type: str
    """One of `TYPES`."""
    text: str
    """One sentence."""
    link: str
    """Address of the page in Airflow: of the run, or its overview."""
    data: Mapping[str, Any]
    """The facts in the sentence, to be written as JSON."""

    @property
    def id(self) -> str:
        """The same for a notification with the same facts, so that a receiver can ignore a repetition."""
        facts = json.dumps([self.type, self.link, self.data], sort_keys=True)
        return f"msg_{hashlib.sha256(facts.encode()).hexdigest()[:32]}"
