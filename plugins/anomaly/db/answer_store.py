"""Earlier answers of detectors, and which record may ask about an image that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from anomaly.db.mapping import ask_of, claim_params, earlier_answer_of, found_answer_of, holder_params, lookup_params, run_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.db.client import Database
    from anomaly.models.answers import AnswerLookup, Ask, EarlierAnswer, FoundAnswer
    from anomaly.models.records import Claim
    from anomaly.models.runs import Holder, Run

EVERY_RUN = UUID(int=0)


class AnswerStore:
    """Answers and asks, which all tasks share. Each method runs one statement of `include/sql`. For any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_detector_proven(self, config: str) -> bool:
        """Return whether a detector's configuration has given a readable answer before."""
        return bool(self._database.fetch_all("find_detector_config", {"config": config}))

    def add_proven_detector(self, config: str) -> None:
        """Record that a detector's configuration has given a readable answer."""
        self._database.execute("add_detector_config", {"config": config})

    def find_answers(self, run: Run, *, config: str, image_sha256s: Sequence[str]) -> dict[str, EarlierAnswer]:
        """Return the newest answers of a detector's configuration by the SHA-256 of the image; in a fresh run, only those of the run."""
        params = {**run_params(run), "config": config, "image_sha256s": image_sha256s}
        return {row["image_sha256"]: earlier_answer_of(row) for row in self._database.fetch_all("find_answers", params)}

    def find_or_acquire_ask(self, run: Run, holder: Holder, *, config: str, wanted: Sequence[AnswerLookup]) -> dict[str, FoundAnswer | Ask]:
        """Return for each image, by SHA-256, its answer or the state of its ask, which is acquired if it is free.

        An ask is held while its record is claimed under this token and this try holds the chunk. Until then no other task acquires it,
        but another record of the same try does. *wanted* names each image once.
        """
        params = {**_scope(run, config), **run_params(run), **holder_params(run.batch_id, holder), **lookup_params(wanted)}
        rows = self._database.fetch_all("find_or_acquire_ask", params)
        return {row["image_sha256"]: found_answer_of(row) if row["answer_key"] else ask_of(row) for row in rows}

    def release_ask(self, run: Run, claim: Claim, *, config: str, image_sha256: str) -> None:
        """Release the ask of a record that stays claimed, so that another record can acquire it."""
        self._database.fetch_all("release_ask", {**_scope(run, config), **claim_params(claim), "image_sha256": image_sha256})

    def shut_overdue_calls(self) -> int:
        return self._database.shut_overdue_calls()

    def pool_use(self) -> tuple[int, int]:
        return self._database.pool_use()

    def close(self) -> None:
        self._database.close()


def _scope(run: Run, config: str) -> dict[str, Any]:
    """Return which runs share an ask: those that are not fresh. A fresh run has its own."""
    return {"config": config, "scope": run.batch_id if run.fresh else EVERY_RUN}
