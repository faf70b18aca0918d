"""A detector of one's own: bytes, a form or JSON out; JSON in, mapped by JMESPath. `reference` is a preset of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anomaly.detectors import endpoint, request_body
from anomaly.detectors.base import digest
from anomaly.detectors.options import Extras, wrong
from anomaly.detectors.response import FIELDS, Reading, parsed
from anomaly.models.answers import Answer

if TYPE_CHECKING:
    from anomaly.detectors.base import DetectorConnection
    from anomaly.models.answers import Verdict
    from anomaly.models.records import Image
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

REFERENCE_ANSWER = {name: name for name in FIELDS if name not in {"model", "version", "reason", "cost"}} | {
    "model": "model.name",
    "version": "model.version",
}
FORMATS = ("bytes", "multipart", "json")


class Generic:
    """Any detector that answers one POST with one JSON document."""

    def __init__(self, connection: DetectorConnection, session: PooledSession, settings: Settings, *, dialect: str) -> None:
        extras = Extras(connection.extra)
        reference = dialect == "reference"
        extras.choice("dialect", (dialect,), dialect)
        path = extras.text("path", "/v1/detect" if reference else "")
        shape, self._body = _body(extras)
        headers = {**endpoint.authorization(connection, extras.text("key_header", "Authorization")), **extras.texts("headers")}
        self._reading = _reading(extras, REFERENCE_ANSWER if reference else {"score": "score", "is_anomaly": "is_anomaly"}, connection)
        self.price = extras.price()
        self.quota = extras.quota()
        extras.finish()
        url = endpoint.url_of(connection, path)
        self._endpoint = endpoint.Endpoint(session, settings, url=url, headers=headers)
        self.config = digest(dialect=dialect, url=url, shape=shape, **self._reading.shaping)

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        reply = self._endpoint.post(*self._body(image), idempotency_key=idempotency_key)
        return Answer(raw=reply.raw, verdict=self.read(reply.raw), latency_ms=reply.latency_ms, pause_s=reply.pause_s)

    def read(self, raw: bytes) -> Verdict:
        return self._reading.verdict(parsed(raw))


def _body(extras: Extras) -> tuple[dict[str, object], request_body.Body]:
    """Return the format of the request's body for the digest of the configuration, and the function that builds the body."""
    kind = extras.choice("format", FORMATS, "bytes")
    if kind == "bytes":
        return {"format": kind}, request_body.raw_bytes
    if kind == "multipart":
        field = extras.text("field", "file")
        return {"format": kind, "field": field}, request_body.Multipart(field)
    document = extras.object("body", {"image": "{image_base64}"})
    if "{image_base64}" not in str(document):
        raise wrong("the extra 'body' must hold {image_base64} in one of its texts")
    return {"format": kind, "body": document}, request_body.Template(document)


def _reading(extras: Extras, answer: dict[str, str], connection: DetectorConnection) -> Reading:
    return Reading(
        extras.texts("answer") or answer,
        model=extras.text("model", urlsplit(connection.base_url).hostname or "detector"),
        scale=extras.number("scale", 1.0) or 0.0,
        offset=extras.number("offset", 0.0) or 0.0,
        threshold=extras.number("threshold"),
    )
