"""The protocol between pipeline and detectors, and the values of a detector's connection."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.detectors.endpoint import Reply
    from anomaly.models.answers import Answer, Verdict
    from anomaly.models.quota import Quota
    from anomaly.models.records import Image


class Detector(Protocol):
    """Gives verdicts on images. For any thread."""

    @property
    def config(self) -> str:
        """Digest of what shapes an answer: dialect, address, model, prompt, headers. Neither credentials nor the mapping are part of it."""
        ...

    @property
    def reading(self) -> str:
        """Digest of `config` and of the mapping, which reads a verdict from an answer: expressions, scaling, threshold."""
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
        """Send exactly one request. Retries are up to the caller.

        Raises:
            Throttled: it asks for a pause.
            DetectorFailed, DetectorOverloaded, DetectorAnswerInvalid: the same request may succeed later.
            DetectorRefused: it refuses to judge this image.
            DetectorDenied, OutOfCredit, Misconfigured: no request will succeed until a person changes something.
        """
        ...

    def read(self, raw: bytes) -> Verdict:
        """Return the verdict in an answer, which may be an archived one.

        Raises:
            DetectorAnswerInvalid, DetectorRefused: as in `ask`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFinding:
    """One expression of the mapping, applied to an answer."""

    field: str
    expression: str
    found: str
    """The value in a few words."""
    expected: str
    problem: str
    """Empty if the value fits, or if an optional one is missing."""


class ExplainingDetector(Detector, Protocol):
    """A detector that shows how it reads an answer."""

    def send(self, image: Image, *, idempotency_key: str) -> Reply:
        """Send exactly one request and return the answer, without reading it. Raises as `ask`."""
        ...

    def explain(self, raw: bytes) -> list[FieldFinding]:
        """Return what each expression of the mapping finds in an answer.

        Raises:
            DetectorAnswerInvalid, DetectorRefused: it has no document to which the mapping applies.
        """
        ...

    def redacted(self, raw: bytes) -> bytes:
        """Return an answer without the secrets that the connection sends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConnection:
    """The connection to a detector, without Airflow."""

    base_url: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def digest(*, headers: Mapping[str, str], **config: Any) -> str:
    """Return the hex SHA-256 of a configuration, regardless of the order of its names. No headers leave it as it is without them."""
    if headers:
        config["headers"] = dict(headers)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
