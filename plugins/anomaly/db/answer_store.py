"""What detectors have said about images, and whose turn it is to ask about the others. Each method is one statement of `include/sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from anomaly.db.mapping import answered_of, claim_params, earlier_of, holder_params, run_params, turn_of, wanted_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.db.client import Database
    from anomaly.models.answers import AnswerLookup, Ask, EarlierAnswer, FoundAnswer
    from anomaly.models.records import Claim
    from anomaly.models.runs import Holder, Run

EVERY_RUN = UUID(int=0)


class AnswerStore:
    """The part of the records database that every task has in common, whatever it works."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_answers(self, run: Run, *, config: str, image_sha256s: Sequence[str]) -> dict[str, EarlierAnswer]:
        """What a detector's configuration has said before, by the image's SHA-256; of a fresh run only what it was told itself."""
        params = {**run_params(run), "config": config, "image_sha256s": image_sha256s}
        return {row["image_sha256"]: earlier_of(row) for row in self._database.fetch_all("find_answers", params)}

    def find_or_acquire_ask(self, run: Run, holder: Holder, *, config: str, wanted: Sequence[AnswerLookup]) -> dict[str, FoundAnswer | Ask]:
        """An answer to each of these images, by SHA-256, or whose turn it is to ask; no image may be wanted twice.

        A turn is kept as long as the record is claimed under this token, and this try holds its chunk. Nobody else is told to ask until
        then, but another record of the same try is.
        """
        params = {**_asked(run, config), **run_params(run), **holder_params(run.batch_id, holder), **wanted_params(wanted)}
        rows = self._database.fetch_all("find_or_acquire_ask", params)
        return {row["image_sha256"]: answered_of(row) if row["answer_key"] else turn_of(row) for row in rows}

    def release_ask(self, run: Run, claim: Claim, *, config: str, image_sha256: str) -> None:
        """Give a turn up while the record stays claimed; it is the next one's who looks."""
        self._database.fetch_all("release_ask", {**_asked(run, config), **claim_params(claim), "image_sha256": image_sha256})


def _asked(run: Run, config: str) -> dict[str, Any]:
    """A fresh run asks for itself alone."""
    return {"config": config, "scope": run.batch_id if run.fresh else EVERY_RUN}
