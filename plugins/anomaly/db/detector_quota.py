"""Shares the quota of a detector among the tasks that ask it, through the records database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly.models.quota import LATE_S, Share

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.quota import Demand, Quota

EXPIRES_S = 15.0
"""Lifetime of a task's share that is not renewed."""
PERIOD_S = 60.0 / 0.97
"""Time that the requests of a minute's quota are spread over. Its excess over a minute covers starts that are late, by `LATE_S` and by what
threads and the network add."""
HORIZON_S = 1.5
"""Seconds ahead for which starts are granted: until after the task's next call."""
PROBE_S = 60.0
"""A pause at least this long ends with a single request. Also the time after which another task tries, if that is not answered."""


class DetectorQuotaStore:
    """One task's access to the shared quota. For one thread at a time.

    Args:
        detector: id of the detector's connection, the same in all tasks that share it.
        holder: identifies this try of this task.
        pause_max_s: longest pause, whatever the detector asks for.
    """

    expires_s = EXPIRES_S

    def __init__(self, database: Database, *, detector: str, holder: str, quota: Quota, pause_max_s: float = 3600.0) -> None:
        self._database = database
        self.quota = quota
        self._fixed = {
            "detector": detector,
            "holder": holder,
            "most": quota.concurrency,
            "requests_per_minute": quota.requests_per_minute,
            "tokens_per_minute": quota.tokens_per_minute,
            "expires_s": EXPIRES_S,
            "period_s": PERIOD_S,
            "horizon_s": HORIZON_S,
            "late_s": LATE_S,
            "pause_max_s": pause_max_s,
            "probe_s": PROBE_S,
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
            "returned": list(demand.returned),
            "tokens_each": demand.tokens_each,
            "tokens_back": demand.tokens_back,
            "hold_s": demand.hold_s,
            "answers": demand.answers,
        }
        row = self._database.fetch_all("share_detector", params, idempotent=False)[0]
        share: dict[str, Any] = {**row, "starts": tuple(row["starts"])}
        return Share(**share)


class DetectorPauseStore:
    """The pauses that detectors have asked for. Both methods raise DatabaseUnavailable without an answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def paused_until(self, detector: str) -> datetime | None:
        """Return until when all tasks leave the detector alone; None if they do not."""
        row = self._database.fetch_one("detector_pause", {"detector": detector})
        return row["held_until"] if row else None

    def resume(self, detector: str) -> int | None:
        """End the detector's pause, make due the records that wait because of one, and return how many; None if there is no pause."""
        row = self._database.fetch_all("resume_detector", {"detector": detector}, idempotent=False)[0]
        return row["records"] if row["detectors"] else None
