"""Any HTTP detector: the request is bytes, a form or JSON; the answer is JSON, mapped by JMESPath. `reference` is a preset of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anomaly.detectors import request_body
from anomaly.detectors.answer_fields import FIELDS
from anomaly.detectors.answer_json import parse_json
from anomaly.detectors.base import digest
from anomaly.detectors.endpoint import Endpoint, authorization, request_url
from anomaly.detectors.options import Options, misconfigured
from anomaly.detectors.redaction import Redaction, plain_headers
from anomaly.detectors.response import AnswerMapping
from anomaly.models.regions import RegionFormat

if TYPE_CHECKING:
    from anomaly.detectors.base import DetectorConnection, FieldFinding
    from anomaly.detectors.endpoint import Reply
    from anomaly.models.answers import Answer, Verdict
    from anomaly.models.records import Image
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

REFERENCE_ANSWER = {name: name for name in FIELDS if name not in {"model", "version", "reason", "cost"}} | {
    "model": "model.name",
    "version": "model.version",
}
FORMATS = ("bytes", "multipart", "json")


class GenericDetector:
    """A detector that answers one POST with one JSON document."""

    def __init__(self, connection: DetectorConnection, session: PooledSession, settings: Settings, *, dialect: str) -> None:
        options = Options(connection.extra)
        reference = dialect == "reference"
        options.choice("dialect", (dialect,), dialect)
        path = options.string("path", "/v1/detect" if reference else "")
        shape, self._body = _body(options)
        own_headers = options.strings("headers")
        headers = {**authorization(connection, options.string("key_header", "Authorization")), **own_headers}
        answer = REFERENCE_ANSWER if reference else {"score": "score", "is_anomaly": "is_anomaly"}
        self._mapping = _mapping(options, answer, connection, RegionFormat("px") if reference else None)
        self.price = options.price()
        self.quota = options.quota()
        options.finish()
        url = request_url(connection, path)
        self._endpoint = Endpoint(session, settings, url=url, headers=headers, redaction=Redaction.of(connection))
        shaping: dict[str, Any] = {"headers": plain_headers(own_headers), "dialect": dialect, "url": url, "shape": shape}
        self.config, self.reading = digest(**shaping), digest(**shaping, **self._mapping.config)

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        return self._endpoint.ask(image, self._body, read=self.read, idempotency_key=idempotency_key)

    def read(self, raw: bytes) -> Verdict:
        return self._mapping.verdict(parse_json(raw))

    def send(self, image: Image, *, idempotency_key: str) -> Reply:
        return self._endpoint.post(*self._body(image), idempotency_key=idempotency_key)

    def explain(self, raw: bytes) -> list[FieldFinding]:
        return self._mapping.explain(parse_json(raw))

    def redacted(self, raw: bytes) -> bytes:
        return self._endpoint.redacted(raw)


def _body(options: Options) -> tuple[dict[str, object], request_body.Body]:
    """Return the format of the request's body for the digest of the configuration, and the function that builds the body."""
    kind = options.choice("format", FORMATS, "bytes")
    if kind == "bytes":
        return {"format": kind}, request_body.raw_bytes
    if kind == "multipart":
        field = options.string("field", "file")
        return {"format": kind, "field": field}, request_body.Multipart(field)
    document = options.object("body", {"image": "{image_base64}"})
    if "{image_base64}" not in str(document):
        raise misconfigured("the extra 'body' must hold {image_base64} in one of its strings")
    return {"format": kind, "body": document}, request_body.Template(document)


def _mapping(options: Options, answer: dict[str, str], connection: DetectorConnection, region_format: RegionFormat | None) -> AnswerMapping:
    return AnswerMapping(
        options.strings("answer") or answer,
        model=options.string("model", urlsplit(connection.base_url).hostname or "detector"),
        scale=options.number("scale", 1.0) or 0.0,
        offset=options.number("offset", 0.0) or 0.0,
        threshold=options.number("threshold"),
        score_range=options.interval("range"),
        region_format=options.region_format(region_format),
    )
