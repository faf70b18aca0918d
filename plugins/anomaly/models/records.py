"""Claimed records and their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from anomaly.models.answers import EarlierAnswer
    from anomaly.models.runs import BatchId, Origin

FIRST_TOKEN = 2
"""The token after the first claim, to which claiming and opening add one each."""
SUSPECT_LOST = 2
"""A record during whose work this many workers died is worked last and alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A record claimed by this task, valid while the lease of its chunk lasts."""

    record_id: int
    image_url: str
    token: int
    """Fencing token. Incremented by every claim and every opening of the record; a smaller token is stale."""
    batch_id: BatchId
    chunk: int
    claimed_from: Origin
    attempts: int = 0
    lost: int = 0
    """Number of workers that died while they may have worked on this record."""
    image_sha256: str | None = None
    """Known if the image was downloaded before."""
    earlier: EarlierAnswer | None = None
    """The earlier answer of the run's detector to that image."""
    ask_anew: UUID | None = None
    """The request to score the record again, if there is one. Only an answer that was archived for it is reused."""

    @property
    def is_suspect(self) -> bool:
        """True if the record may have killed its workers."""
        return self.lost >= SUSPECT_LOST

    @property
    def held_before(self) -> bool:
        """True if the record was held before this claim, so that the bucket may have its answer."""
        return self.token > FIRST_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A downloaded image that passed all checks."""

    content: bytes = field(repr=False)
    sha256: str
    media_type: str
    width_px: int
    height_px: int
