"""Judged images of the same source before a record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from anomaly.db.client import Database

LOOK_BACK = 2000
"""Images before a record among which those of its source are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """An image with its newest verdict and the review that counts."""

    record_id: int
    token: int
    score: float
    is_anomaly: bool
    detector: str
    review: str | None
    reviewed_by: str | None
    image_at: datetime

    @property
    def is_good(self) -> bool:
        """True if a person decided that it is normal, or without a decision the detector did."""
        return self.review == "normal" or (self.review is None and not self.is_anomaly)


class ContextStore:
    """Images before a record.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def before(self, record_id: int, image_at: datetime, *, source: str | None, same: Mapping[str, Any]) -> list[SourceImage]:
        """Return the images of a source with the attributes *same* among the `LOOK_BACK` before a record, the newest first."""
        params = {"record_id": record_id, "image_at": image_at, "source": source, "same": json.dumps(same), "size": LOOK_BACK}
        return [SourceImage(**row) for row in self._database.fetch_all("page_same_source", params)]


def last_good(images: Sequence[SourceImage]) -> SourceImage | None:
    """Return the last image that a person decided to be normal, else the last one that the detector did."""
    by_person = next((image for image in images if image.review == "normal"), None)
    return by_person or next((image for image in images if image.is_good), None)
