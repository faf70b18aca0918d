"""The protocol between pipeline and detectors, and the values of a detector's connection."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.models.answers import Answer, Verdict
    from anomaly.models.quota import Quota
    from anomaly.models.records import Image


class Detector(Protocol):
    """Gives verdicts on images; for many threads."""

    @property
    def config(self) -> str:
        """Digest of all that shapes an answer (dialect, address, model, prompt or mapping, scaling); of no credential."""
        ...

    @property
    def price(self) -> float | None:
        """The price of one request, if the connection states it. It does not shape an answer."""
        ...

    @property
    def quota(self) -> Quota:
        """The limits that the connection states; they do not shape an answer."""
        ...

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        """Send exactly one request. Who calls retries.

        Raises:
            Throttled: it asks to hold back.
            DetectorFailed, DetectorOverloaded, DetectorAnswerInvalid: the same request may succeed later.
            DetectorRefused: it will not look at this image.
            DetectorDenied, OutOfCredit, Misconfigured: no request will succeed until a person has changed something.
        """
        ...

    def read(self, raw: bytes) -> Verdict:
        """Read an answer, of now or from the archive; raises as `ask` does over an answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConnection:
    """The connection to a detector, without Airflow."""

    base_url: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def digest(**shaping: Any) -> str:
    """Hex SHA-256 over *shaping*, whatever its order."""
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
