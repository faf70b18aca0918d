"""Decisions of people about verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from anomaly.db.client import Database

ReviewVerdict = Literal["anomaly", "normal", "unsure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision about the verdict *token* of a record, or one that takes back another."""

    id: UUID
    """Made by the browser. A decision that is sent again has the same id and is written once."""
    record_id: int
    token: int
    verdict: ReviewVerdict | None = None
    label: str | None = None
    comment: str | None = None
    takes_back: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewState:
    """The review of a record that counts: the newest decision that is not taken back."""

    review: str | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    decisions: int


class ReviewStore:
    """Writes decisions, each with the flags of its record in one transaction.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(self, decision: Decision, *, reviewer: str) -> ReviewState | None:
        """Write a decision unless it is written already; return what counts now, or None if the record has no such verdict to decide on."""
        params = {
            "id": decision.id,
            "record_id": decision.record_id,
            "token": decision.token,
            "verdict_text": decision.verdict,
            "label": decision.label,
            "comment": decision.comment,
            "takes_back": decision.takes_back,
            "reviewer": reviewer,
        }
        row = self._database.fetch_one("add_review", params)
        return ReviewState(**row) if row else None
