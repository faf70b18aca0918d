"""Answers of a detector, as frozen values, and which record may ask for one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.models.records import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierAnswer:
    """Where the bucket keeps what a detector said about an image before."""

    answer_key: str
    heatmap_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the detector said about an image."""

    score: float
    """In the detector's own unit; larger is more anomalous."""
    is_anomaly: bool
    threshold: float | None = None
    label: str | None = None
    reason: str | None = None
    regions: tuple[dict[str, Any], ...] = ()
    detector: str
    """name@version"""
    usage: dict[str, Any] | None = None
    cost: float | None = None
    heatmap: bytes | None = field(default=None, repr=False)
    """PNG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A detector's answer: as it came, and as we read it."""

    raw: bytes = field(repr=False)
    verdict: Verdict
    latency_ms: float
    reused: bool = False
    """True when it was read from the archive and not asked for."""
    pause_s: float = 0.0
    """Seconds for which the detector wants no further request, because a limit of its is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveKeys:
    """Where the bucket keeps what belongs to a verdict."""

    image_key: str
    answer_key: str
    heatmap_key: str | None = None


def regions_json(verdict: Verdict) -> str:
    """The regions as the database stores them."""
    return json.dumps(verdict.regions)


class Ask(Enum):
    OWNED = "owned"
    TAKEN_OVER = "taken over"
    """Owned, after another record owned it. That record's task may have archived an answer."""
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLookup:
    """An answer to the image of a record, and the turn where there is none."""

    claim: Claim
    image_sha256: str
    newer_than: datetime | None = None
    """When the answer was written that is no longer in the bucket; only a newer one will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAnswer:
    """What was said about an image, and when it was written down."""

    earlier: EarlierAnswer
    at: datetime
