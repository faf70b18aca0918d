"""Whose turn it is to ask about an image: one record's at a time, whichever task works it, while the others wait for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.records import Claim, Earlier


class Turn(Enum):
    OURS = "ours"
    TAKEN_OVER = "taken over"
    """Ours as well; who had it before may have left an answer in the bucket."""
    THEIRS = "theirs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An answer to the image of a record, and the turn where there is none."""

    claim: Claim
    image_sha256: str
    gone_at: datetime | None = None
    """When the answer was written that is no longer in the bucket; only a newer one will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was said about an image, and when it was written down."""

    earlier: Earlier
    at: datetime
