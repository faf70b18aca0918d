"""The part of a detector that a task has, while others ask the same one: the gateway to what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.models.quota import Share

if TYPE_CHECKING:
    from anomaly.db.client import Database
    from anomaly.models.quota import Demand, Quota

EXPIRES_S = 15.0
"""After which the part of a task that was not heard of goes to the others."""
FILL = 0.98
"""Of what is stated, so that the second's worth that a bucket holds never leads over it within a minute."""
BURST_S = 1.0


class DetectorQuotaStore:
    """One task among those that ask a detector. For one thread at a time.

    Args:
        detector: what the others know it by: the id of its connection.
        holder: what they know this task by.
    """

    expires_s = EXPIRES_S

    def __init__(self, database: Database, *, detector: str, holder: str, quota: Quota) -> None:
        self._database = database
        self.quota = quota
        self._fixed = {
            "detector": detector,
            "holder": holder,
            "most": quota.concurrency,
            "requests_per_s": _per_s(quota.requests_per_minute),
            "tokens_per_s": _per_s(quota.tokens_per_minute),
            "expires_s": EXPIRES_S,
            "burst_s": BURST_S,
        }

    def share(self, demand: Demand) -> Share:
        """Take this task's part.

        Raises:
            DatabaseUnavailable: there was no answer; what was granted by then is lost until it expires.
        """
        params = {
            **self._fixed,
            "wanted": demand.wanted,
            "in_flight": demand.in_flight,
            "requests": demand.requests,
            "unused": demand.unused,
            "tokens_each": demand.tokens_each,
            "tokens_back": demand.tokens_back,
            "hold_s": demand.hold_s,
        }
        row = self._database.fetch_all("share_detector", params, repeatable=False)[0]
        return Share(concurrency=row["concurrency"], requests=row["requests"], hold_s=row["hold_s"])


def _per_s(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60.0 * FILL
