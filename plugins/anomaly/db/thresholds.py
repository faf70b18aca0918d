"""Thresholds that people have stored, and the flags that follow them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly.db.errors import SourceWriteFailed, storing_result
from anomaly.errors import ResultRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from anomaly.db.client import Database

log = logging.getLogger(__name__)

BATCH = 1000
"""Flags that one statement changes, which keeps transactions short."""
LEFT_MAX = 1_000_000
"""Most flags that are counted."""
SKIPPED_MAX = 100
"""Rows of sources that one call leaves out before it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredThreshold:
    """A threshold that a person has stored."""

    id: UUID
    threshold: float
    reason: str
    set_by: str
    set_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Counts of flags that were read by the threshold of their detector."""

    followed: int = 0
    changed: int = 0
    """Flags whose verdict is another one now."""
    skipped: int = 0
    """Flags that stay as they are, since the row of their source cannot be written."""

    def __add__(self, other: Followed) -> Followed:
        return Followed(followed=self.followed + other.followed, changed=self.changed + other.changed, skipped=self.skipped + other.skipped)


class ThresholdStore:
    """Stores thresholds, and lets the flags of earlier verdicts follow them.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.

    Args:
        database: writes to the rows of sources as well, if it has their statements.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, database: Database, *, batch: int = BATCH, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._batch = batch
        self._clock = clock

    def add(self, id: UUID, *, detector: str, threshold: float, reason: str, actor: str) -> bool:  # noqa: A002  # as the column
        """Store a threshold; return False if this *id* is stored already. Commits that begin later use it."""
        params = {"id": id, "detector": detector, "threshold": threshold, "reason": reason, "actor": actor}
        return bool(self._database.fetch_all("add_threshold", params)[0]["added"])

    def stored(self, detector: str, *, size: int) -> list[StoredThreshold]:
        """Return the thresholds of a detector, the newest first."""
        return [StoredThreshold(**row) for row in self._database.fetch_all("stored_thresholds", {"detector": detector, "size": size})]

    def left(self, detector: str | None = None) -> int:
        """Count the flags that have yet to follow, of one detector or of all, up to `LEFT_MAX`."""
        return int(self._database.fetch_all("count_flags_to_follow", {"detector": detector, "size": LEFT_MAX})[0]["records"])

    def follow(self, detector: str | None = None, *, within_s: float = float("inf")) -> Followed:
        """Read the flags of one detector or of all by the stored thresholds, in batches, until none is left or the time is over.

        It may be stopped at any time and called again, and by several at once. A row of a source that is locked, or whose table refuses
        the verdict, is left for a later call.
        """
        ends_at, done = self._clock() + within_s, Followed()
        skipped: list[int] = []
        params: dict[str, Any] = {"detector": detector, "size": self._batch}
        while rows := self._database.fetch_all("flags_to_follow", {**params, "skipped": skipped}):
            record_ids = [row["record_id"] for row in rows]
            done += self._follow(record_ids, skipped)
            if len(skipped) >= SKIPPED_MAX or self._clock() >= ends_at:
                break
        if done.followed or done.skipped:
            log.info("flags follow thresholds followed=%d changed=%d skipped=%d", done.followed, done.changed, done.skipped)
        return done

    def _follow(self, record_ids: Sequence[int], skipped: list[int]) -> Followed:
        """Change these flags. After a refusal by a source, change them in halves, so that only its own row is skipped."""
        try:
            with storing_result():
                return Followed(**self._database.fetch_all("follow_threshold", {"record_ids": record_ids})[0])
        except (ResultRefused, SourceWriteFailed) as exc:
            if len(record_ids) == 1:
                log.warning("the flag of record id=%d does not follow its threshold: %s", record_ids[0], exc)
                skipped.append(record_ids[0])
                return Followed(skipped=1)
            half = len(record_ids) // 2
            return self._follow(record_ids[:half], skipped) + self._follow(record_ids[half:], skipped)
