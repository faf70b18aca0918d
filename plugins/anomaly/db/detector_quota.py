"""Shares the quota of a detector among the tasks that ask it, through the records database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.models.quota import Share

if TYPE_CHECKING:
    from anomaly.db.client import Database
    from anomaly.models.quota import Demand, Quota

EXPIRES_S = 15.0
"""Lifetime of a task's share that is not renewed."""
FILL = 0.98
"""Share of the stated quota that is used, so that a burst cannot exceed it within a minute."""
BURST_S = 1.0
"""Capacity of the token buckets, in seconds of the quota."""


class DetectorQuotaStore:
    """One task's access to the shared quota. For one thread at a time.

    Args:
        detector: id of the detector's connection, the same in all tasks that share it.
        holder: identifies this try of this task.
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
        """Return what this task did not use, and take its next share.

        Raises:
            DatabaseUnavailable: there was no answer; a share that was granted is lost until it expires.
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
        row = self._database.fetch_all("share_detector", params, idempotent=False)[0]
        return Share(concurrency=row["concurrency"], requests=row["requests"], hold_s=row["hold_s"])


def _per_s(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60.0 * FILL
