"""The common part of the dialects for language models that read images: instructions, schema of the answer, parsing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly.detectors import endpoint, request_body
from anomaly.detectors.base import digest
from anomaly.detectors.options import Extras
from anomaly.detectors.response import Reading, parsed
from anomaly.errors import DetectorAnswerInvalid
from anomaly.models.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.detectors.base import DetectorConnection
    from anomaly.models.answers import Verdict
    from anomaly.models.records import Image
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

PROMPT = (
    "You inspect images for anomalies: defects, damage, or anything that does not belong. Report is_anomaly; score, from 0 (certainly"
    " normal) to 1 (certainly anomalous); label, a few words that name the most important anomaly, or null; reason, one sentence;"
    " and regions, one for each anomaly, x, y, width and height as fractions of the image from its upper left corner."
)
_FRACTION = {"type": "number"}
_REGION = dict.fromkeys(("x", "y", "width", "height"), _FRACTION) | {"label": {"type": "string"}}
_VERDICT = {
    "is_anomaly": {"type": "boolean"},
    "score": {"type": "number"},
    "label": {"type": ["string", "null"]},
    "reason": {"type": "string"},
    "regions": {
        "type": "array",
        "items": {"type": "object", "properties": _REGION, "required": list(_REGION), "additionalProperties": False},
    },
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": _VERDICT, "required": list(_VERDICT), "additionalProperties": False}
_READ = {name: name for name in (*_VERDICT, "model", "usage")}


class Request:
    """The extras of the connection that shape a request to a model."""

    def __init__(self, extras: Extras) -> None:
        self.model = extras.text("model")
        self.prompt = extras.text("prompt", PROMPT)
        self.max_tokens = int(extras.number("max_tokens", 1024) or 0)
        self.detail = extras.choice("detail", ("auto", "low", "high"), "auto")
        self.more = extras.object("request")
        """Put into the request's body as it is, over what we put there."""


class LanguageModel:
    """A model behind a dialect, which is a path, a request's body, fixed headers, and where the answer is."""

    def __init__(
        self,
        connection: DetectorConnection,
        session: PooledSession,
        settings: Settings,
        *,
        path: str,
        key_header: str,
        headers: dict[str, str],
        document: Callable[[Request], dict[str, Any]],
        report: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        extras = Extras(connection.extra)
        dialect = extras.text("dialect")
        request = Request(extras)
        body = {**document(request), **request.more}
        url = endpoint.url_of(connection, extras.text("path", path))
        secret = endpoint.authorization(connection, extras.text("key_header", key_header))
        self._endpoint = endpoint.Endpoint(session, settings, url=url, headers={**headers, **secret, **extras.texts("headers")})
        self._reading = Reading(_READ, model=request.model, threshold=extras.number("threshold"))
        self.price = extras.price()
        self.quota = extras.quota()
        extras.finish()
        self._body, self._report = request_body.Template(body), report
        self.config = digest(dialect=dialect, url=url, body=body, **self._reading.shaping)

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        reply = self._endpoint.post(*self._body(image), idempotency_key=idempotency_key)
        return Answer(raw=reply.raw, verdict=self.read(reply.raw), latency_ms=reply.latency_ms, pause_s=reply.pause_s)

    def read(self, raw: bytes) -> Verdict:
        document = parsed(raw)
        try:
            reported = dict(self._report(document))
            about = {"model": document.get("model"), "usage": document.get("usage")}
        except (LookupError, TypeError, AttributeError, ValueError) as exc:
            raise DetectorAnswerInvalid(f"the model's answer is not of its dialect's shape ({type(exc).__name__})") from exc
        return self._reading.verdict({**reported, **about})
