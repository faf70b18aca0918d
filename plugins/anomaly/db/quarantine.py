"""The quarantined records: how many they are, and how a person gives them another life."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from anomaly.errors import Misconfigured
from anomaly.models.runs import Choice

if TYPE_CHECKING:
    from anomaly.db.client import Database

log = logging.getLogger(__name__)

REQUEUE_SIZE = 1000
"""Records that one statement requeues, so that none is long."""


class Quarantine:
    """Each method raises DatabaseUnavailable where there was no answer, and Misconfigured where the schema does not fit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def free(self, choice: Choice, *, actor: str, dry_run: bool) -> dict[str, int]:
        """Requeue what is chosen now, or only count it; returns how many records are chosen, by the code of their last error.

        Raises:
            Misconfigured: nothing is chosen, which only a dry run takes for everything.
        """
        if choice == Choice() and not dry_run:
            raise Misconfigured("say which quarantined records: by error_code, by window_start and window_end, or by record_ids")
        chosen = self.count(choice)
        requeued = 0 if dry_run else self.requeue(choice, actor=actor, at_most=sum(chosen.values()))
        log.info("records requeued count=%d actor=%s chosen=%s", requeued, actor, chosen)
        return chosen

    def count(self, choice: Choice) -> dict[str, int]:
        """The chosen records by the code of their last error."""
        return {row["error_code"]: row["records"] for row in self._database.rows("quarantined", _params(choice))}

    def requeue(self, choice: Choice, *, actor: str, at_most: int) -> int:
        """Make chosen records pending again, with no attempt counted; how many they were. The log says on whose word.

        One that is quarantined anew meanwhile may be chosen again, hence the bound.
        """
        requeued = 0
        while size := min(REQUEUE_SIZE, at_most - requeued):
            params = {**_params(choice), "size": size, "actor": actor}
            records: int = self._database.rows("requeue_chosen", params)[0]["records"]
            requeued += records
            if records < size:
                break
        return requeued


def _params(choice: Choice) -> dict[str, Any]:
    return {
        "error_code": choice.error_code,
        "window_start": choice.window.start,
        "window_end": choice.window.end,
        "record_ids": None if choice.record_ids is None else list(choice.record_ids),
    }
