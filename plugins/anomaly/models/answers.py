"""A detector's answers, and which record may ask for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.models.records import Claim
    from anomaly.models.regions import RegionFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierAnswer:
    """Keys in the bucket of an earlier answer to an image."""

    answer_key: str
    heatmap_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A detector's judgement of an image."""

    score: float
    """In the detector's own unit. Larger is more anomalous."""
    is_anomaly: bool
    threshold: float | None = None
    label: str | None = None
    reason: str | None = None
    regions: tuple[dict[str, Any], ...] = ()
    """In the form of the detector."""
    region_format: RegionFormat | None = None
    """None if nothing says in which unit they are."""
    detector: str
    """name@version"""
    usage: dict[str, Any] | None = None
    cost: float | None = None
    heatmap: bytes | None = field(default=None, repr=False)
    """PNG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A detector's answer: its bytes, and the verdict read from them."""

    raw: bytes = field(repr=False)
    verdict: Verdict
    latency_ms: float
    reused: bool = False
    """True if the answer was read from the bucket, without a request to the detector."""
    earlier: EarlierAnswer | None = None
    """Keys of the answer in the bucket, if an earlier result refers to it."""
    pause_s: float = 0.0
    """Seconds until the detector accepts further requests, if a rate limit is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveKeys:
    """Keys in the bucket of what belongs to a verdict."""

    image_key: str
    answer_key: str
    heatmap_key: str | None = None


class Ask(Enum):
    """State of the ask for an image: the right of one record at a time to ask the detector about it, while others wait for the answer."""

    OWNED = "owned"
    TAKEN_OVER = "taken over"
    """Owned, after another record owned it. That record's task may have archived an answer."""
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLookup:
    """A record that needs an answer to its image, or the ask if there is none."""

    claim: Claim
    image_sha256: str
    newer_than: datetime | None = None
    """When an answer that is missing from the bucket was written. Only a newer one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAnswer:
    """An earlier answer, and when its result was written."""

    earlier: EarlierAnswer
    at: datetime
