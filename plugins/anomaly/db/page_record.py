"""Queries of the page about one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from anomaly.db.client import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDetails:
    """A record with its flags, and its attributes or the other columns of its row."""

    id: int
    image_at: datetime
    status: str
    attempts: int
    lost: int
    not_before: datetime | None
    token: int
    last_error_code: str | None
    last_error: str | None
    processed_at: datetime | None
    verdict_token: int | None
    review: str | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    needs_review: bool
    sample_share: float | None
    """Probability with which the record was drawn for the random sample; None if it is not in the sample."""
    ask_anew: UUID | None
    """The request to score the record again that no verdict has met yet."""
    source: str | None
    """The table of the user that the record is of."""
    attributes: dict[str, Any]
    image_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A verdict of a detector."""

    token: int
    detector: str
    config: str
    score: float
    threshold: float | None
    is_anomaly: bool
    label: str | None
    reason: str | None
    regions: list[dict[str, Any]]
    regions_unit: str | None
    """`fraction` of width and height; None if nothing says in which unit they are."""
    image_sha256: str
    image_width_px: int | None
    """None, as height and media type, for results of before these were stored."""
    image_height_px: int | None
    image_media_type: str | None
    image_key: str
    answer_key: str
    heatmap_key: str | None
    reused: bool
    usage: dict[str, Any] | None
    cost: Any
    latency_ms: float
    dag_id: str
    run_id: str
    map_index: int
    try_number: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the processing log."""

    at: datetime
    event: str
    attempt: int
    token: int
    error_code: str | None
    error: str | None
    timings: dict[str, float] | None
    actor: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A decision of a person. One without a verdict takes back another."""

    decision: UUID
    verdict: str | None
    label: str | None
    comment: str | None
    reviewer: str
    at: datetime
    token: int
    takes_back: UUID | None
    taken_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKeys:
    """Keys in the bucket of a result's objects."""

    image_key: str
    heatmap_key: str | None
    image_sha256: str


class RecordPageStore:
    """One record, and all that belongs to it.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, record_id: int) -> RecordDetails | None:
        row = self._database.fetch_one("page_record", {"record_id": record_id})
        return RecordDetails(**row) if row else None

    def results(self, record_id: int) -> list[Result]:
        return [Result(**row) for row in self._database.fetch_all("page_results", {"record_id": record_id})]

    def events(self, record_id: int) -> list[Event]:
        return [Event(**row) for row in self._database.fetch_all("page_log", {"record_id": record_id})]

    def reviews(self, record_id: int) -> list[Review]:
        return [Review(**row) for row in self._database.fetch_all("page_reviews", {"record_id": record_id})]

    def keys(self, record_id: int, token: int) -> ObjectKeys | None:
        """Return the keys of a result; None if there is no such result."""
        row = self._database.fetch_one("page_image", {"record_id": record_id, "token": token})
        return ObjectKeys(**row) if row else None
