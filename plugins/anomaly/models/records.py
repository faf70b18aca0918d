"""Records and their images, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.models.answers import EarlierAnswer
    from anomaly.models.runs import BatchId, Origin

FIRST_TOKEN = 2
"""Claiming and opening add one each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One record, held as long as its chunk's lease."""

    record_id: int
    image_url: str
    token: int
    """Grows with every claim and every opening of this record; a smaller one is stale."""
    batch_id: BatchId
    chunk: int
    claimed_from: Origin
    attempts: int = 0
    lost: int = 0
    """How often a worker died while it may have worked this record."""
    image_sha256: str | None = None
    """Known when the image was seen before."""
    earlier: EarlierAnswer | None = None
    """What the run's detector said about that image."""

    @property
    def held_before(self) -> bool:
        """Whether someone held the record before this claim, so that there may be an answer already."""
        return self.token > FIRST_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A downloaded image that passed all checks."""

    content: bytes = field(repr=False)
    sha256: str
    media_type: str
    width_px: int
    height_px: int
