"""Puts records back into work: quarantined ones, and done ones to be scored again."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from anomaly.errors import Misconfigured
from anomaly.models.runs import QuarantineFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.db.client import Database

log = logging.getLogger(__name__)

REQUEUE_SIZE = 1000
"""Most records that one statement requeues, which keeps transactions short."""


class QuarantineStore:
    """Records that a person puts back into work.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def requeue(self, chosen: QuarantineFilter, *, actor: str, dry_run: bool) -> dict[str, int]:
        """Requeue the chosen records, or only count them, and return how many are chosen, by the code of their last error.

        Raises:
            Misconfigured: the filter is empty. Only a dry run may choose all records.
        """
        if chosen == QuarantineFilter() and not dry_run:
            raise Misconfigured("choose the quarantined records by error_code, by window_start and window_end, or by record_ids")
        counts = self.count(chosen)
        requeued = 0 if dry_run else self.requeue_at_most(sum(counts.values()), chosen, actor=actor)
        log.info("records requeued count=%d actor=%s chosen=%s", requeued, actor, counts)
        return counts

    def count(self, chosen: QuarantineFilter) -> dict[str, int]:
        """Return the number of chosen records by the code of their last error."""
        return {row["error_code"]: row["records"] for row in self._database.fetch_all("count_quarantined", _params(chosen))}

    def requeue_at_most(self, limit: int, chosen: QuarantineFilter, *, actor: str) -> int:
        """Make chosen records pending with no attempt counted, log who asked for it, and return how many there were.

        A record that is quarantined again meanwhile may be chosen again, hence the limit.
        """
        requeued = 0
        while size := min(REQUEUE_SIZE, limit - requeued):
            params = {**_params(chosen), "size": size, "actor": actor}
            records: int = self._database.fetch_all("requeue_chosen", params)[0]["records"]
            requeued += records
            if records < size:
                break
        return requeued

    def score_again(self, record_ids: Sequence[int], *, actor: str) -> int:
        """Make done records pending, and let the next run ask the detector anew; return how many were done."""
        params = {"record_ids": list(record_ids), "ask_anew": uuid.uuid4(), "actor": actor}
        records: int = self._database.fetch_all("score_again", params)[0]["records"]
        log.info("records to be scored again count=%d actor=%s", records, actor)
        return records


def _params(chosen: QuarantineFilter) -> dict[str, Any]:
    return {
        "error_code": chosen.error_code,
        "window_start": chosen.window.start,
        "window_end": chosen.window.end,
        "record_ids": None if chosen.record_ids is None else list(chosen.record_ids),
    }
