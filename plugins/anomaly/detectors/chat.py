"""Models that see, behind OpenAI's chat completions and Anthropic's Messages.

Many servers speak the first: vLLM, SGLang, Ollama, LiteLLM, OpenRouter, Azure. It holds the model to a JSON schema by `response_format`. In
the second, the verdict is the input of a tool that the model must use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly.detectors.answer_json import parse_json
from anomaly.detectors.base import digest
from anomaly.detectors.endpoint import Endpoint, authorization, request_url
from anomaly.detectors.options import Options
from anomaly.detectors.redaction import Redaction, plain_headers
from anomaly.detectors.request_body import Template
from anomaly.detectors.response import AnswerMapping
from anomaly.errors import DetectorAnswerInvalid, DetectorRefused
from anomaly.models.regions import RegionFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anomaly.detectors.base import DetectorConnection, FieldFinding
    from anomaly.detectors.endpoint import Reply
    from anomaly.models.answers import Answer, Verdict
    from anomaly.models.records import Image
    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

PROMPT = (
    "You inspect images for anomalies: defects, damage, or anything that does not belong. Report is_anomaly; score, from 0 (certainly"
    " normal) to 1 (certainly anomalous); label, a few words that name the most important anomaly, or null; reason, one sentence;"
    " and regions, one for each anomaly, x, y, width and height as fractions of the image from its upper left corner."
)
_REGION = {name: {"type": "number"} for name in ("x", "y", "width", "height")} | {"label": {"type": "string"}}
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
_FIELDS = {name: name for name in (*_VERDICT, "model", "usage")}
SCORE_RANGE = (0.0, 1.0)
"""The range of scores for which the default prompt asks."""
_TOOL = "report"
_REFUSED = "the model refused to judge this image"
_CUT_OFF = "the model's answer was cut off; a larger 'max_tokens' in the connection's extra may help"


class RequestOptions:
    """The extras of the connection that shape a request to a model."""

    def __init__(self, options: Options) -> None:
        self.model = options.string("model")
        self.prompt = options.string("prompt", PROMPT)
        self.max_tokens = int(options.number("max_tokens", 1024) or 0)
        self.detail = options.choice("detail", ("auto", "low", "high"), "auto")
        self.overrides = options.object("request")
        """Top-level fields of the body, which replace ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The differences between the dialects."""

    path: str
    key_header: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[RequestOptions], dict[str, Any]]
    report: Callable[[dict[str, Any]], Mapping[str, Any]]
    """Returns the model's report from a parsed answer."""


class ChatModel:
    """A model behind one of the dialects."""

    def __init__(self, connection: DetectorConnection, session: PooledSession, settings: Settings, *, dialect: Dialect) -> None:
        options = Options(connection.extra)
        name = options.string("dialect")
        request = RequestOptions(options)
        body = {**dialect.body(request), **request.overrides}
        url = request_url(connection, options.string("path", dialect.path))
        secret = authorization(connection, options.string("key_header", dialect.key_header))
        own_headers = options.strings("headers")
        headers = {**dialect.headers, **secret, **own_headers}
        self._endpoint = Endpoint(session, settings, url=url, headers=headers, redaction=Redaction.of(connection))
        self._mapping = AnswerMapping(
            _FIELDS,
            model=request.model,
            threshold=options.number("threshold"),
            score_range=options.interval("range", SCORE_RANGE),
            region_format=options.region_format(RegionFormat("fraction") if request.prompt == PROMPT else None),
        )
        self.price = options.price()
        self.quota = options.quota()
        options.finish()
        self._body, self._report = Template(body), dialect.report
        shaping: dict[str, Any] = {"headers": plain_headers(own_headers), "dialect": name, "url": url, "body": body}
        self.config, self.reading = digest(**shaping), digest(**shaping, **self._mapping.config)

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        return self._endpoint.ask(image, self._body, read=self.read, idempotency_key=idempotency_key)

    def read(self, raw: bytes) -> Verdict:
        return self._mapping.verdict(self._fields(raw))

    def send(self, image: Image, *, idempotency_key: str) -> Reply:
        return self._endpoint.post(*self._body(image), idempotency_key=idempotency_key)

    def explain(self, raw: bytes) -> list[FieldFinding]:
        return self._mapping.explain(self._fields(raw))

    def redacted(self, raw: bytes) -> bytes:
        return self._endpoint.redacted(raw)

    def _fields(self, raw: bytes) -> dict[str, Any]:
        """Return the model's report with the fields of the answer around it."""
        answer = parse_json(raw)
        try:
            return {**self._report(answer), "model": answer.get("model"), "usage": answer.get("usage")}
        except (LookupError, TypeError, AttributeError, ValueError) as exc:
            raise DetectorAnswerInvalid(f"the model's answer is not of its dialect's shape ({type(exc).__name__})") from exc


def _openai_body(request: RequestOptions) -> dict[str, Any]:
    image = {"url": "data:{media_type};base64,{image_base64}", "detail": request.detail}
    return {
        "model": request.model,
        "messages": [
            {"role": "system", "content": request.prompt},
            {"role": "user", "content": [{"type": "image_url", "image_url": image}]},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "anomaly", "strict": True, "schema": SCHEMA}},
        "max_completion_tokens": request.max_tokens,
    }


def _openai_report(answer: dict[str, Any]) -> Mapping[str, Any]:
    choice = answer["choices"][0]
    message, finish_reason = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or finish_reason == "content_filter":
        raise DetectorRefused(_REFUSED, by_content=finish_reason == "content_filter")
    if finish_reason == "length":
        raise DetectorAnswerInvalid(_CUT_OFF)
    report: Mapping[str, Any] = parse_json(message["content"].encode("utf-8", "replace"))
    return report


def _anthropic_body(request: RequestOptions) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "{media_type}", "data": "{image_base64}"}
    return {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": request.prompt,
        "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}],
        "tools": [{"name": _TOOL, "description": "Report the verdict on the image.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": _TOOL},
    }


def _anthropic_report(answer: dict[str, Any]) -> Mapping[str, Any]:
    if answer.get("stop_reason") == "refusal":
        raise DetectorRefused(_REFUSED)
    if answer.get("stop_reason") == "max_tokens":
        raise DetectorAnswerInvalid(_CUT_OFF)
    report: Mapping[str, Any] = [block["input"] for block in answer["content"] if block["type"] == "tool_use"][0]  # noqa: RUF015  # none is an IndexError
    return report


OPENAI_CHAT = Dialect(path="/chat/completions", key_header="Authorization", body=_openai_body, report=_openai_report)
ANTHROPIC_MESSAGES = Dialect(
    path="/v1/messages",
    key_header="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
    body=_anthropic_body,
    report=_anthropic_report,
)
