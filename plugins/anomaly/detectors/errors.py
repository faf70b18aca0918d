"""The one map from what a detector's HTTP says to our errors, for all dialects.

A code in the body counts before the status: "your credit is used up" often arrives as 429, which would be waited for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import requests
from urllib3.exceptions import LocationValueError

from anomaly.backoff import retry_after_s, wait_hint_s
from anomaly.errors import (
    AnomalyError,
    DetectorAnswerInvalid,
    DetectorDenied,
    DetectorFailed,
    DetectorOverloaded,
    DetectorRefused,
    Misconfigured,
    OutOfCredit,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

UNTOLD_WAIT_S = 1.0
"""Asked of the caller where a detector throttles but does not say for how long."""

# The first line that matches counts.
_BY_CODE: tuple[tuple[type[AnomalyError], set[str]], ...] = (
    (OutOfCredit, {"insufficient_quota", "credit_balance_exhausted", "insufficient_credits", "billing_error", "billing_not_active"}),
    (OutOfCredit, {"billing_hard_limit_reached", "spend_limit_reached", "spend_limit_exceeded", "enforced_spend_limit_reached"}),
    (OutOfCredit, {"quota_exceeded", "daily_quota_exceeded"}),
    (DetectorDenied, {"invalid_api_key", "authentication_error", "permission_error", "permission_denied", "account_deactivated"}),
    (DetectorRefused, {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}),
    (Throttled, {"rate_limit_error", "rate_limit_exceeded", "overloaded_error", "throttlingexception", "too_many_requests"}),
    (Misconfigured, {"model_not_found", "not_found_error", "deploymentnotfound"}),
)
_NO_CREDIT_LEFT = "credit balance is too low"
_BY_STATUS: dict[int, type[AnomalyError]] = {
    401: DetectorDenied,
    402: OutOfCredit,
    403: DetectorDenied,
    404: Misconfigured,  # the detector has no such path or model: quarantining every record over it would be worse
    405: Misconfigured,
    407: DetectorDenied,
    408: DetectorFailed,
    409: DetectorFailed,
    410: Misconfigured,
    421: DetectorFailed,
    424: DetectorFailed,
    425: DetectorFailed,
    429: Throttled,
    503: DetectorOverloaded,
    529: Throttled,
}
_BY_HUNDRED: dict[int, type[AnomalyError]] = {
    1: DetectorAnswerInvalid,
    2: DetectorAnswerInvalid,
    3: Misconfigured,  # a POST is not sent on to where someone else points
    4: DetectorRefused,
}
_WRONG_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    LocationValueError,
)
_SECRET_OR_DATA = re.compile(r"\S{33,}")
_MESSAGE_CHARS = 200


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, where: str) -> AnomalyError:
    """Return the error for a response without a verdict. *headers* compares names without regard to case."""
    document = _document(body)
    kind = _kind_by_body(document) or _kind_by_status(status, headers)
    said = f"{where} answered {status}{_details(document)}"
    if issubclass(kind, Throttled):
        return kind(said, retry_after_s=wait_hint_s(headers) or UNTOLD_WAIT_S)
    return kind(said)


def from_exception(exc: Exception, *, where: str) -> AnomalyError:
    """Return the error for an exception of requests or urllib3, without its text, which may quote an address."""
    if isinstance(exc, _WRONG_ADDRESS):
        return Misconfigured(f"{where}: {type(exc).__name__}; check the address in the detector's connection")
    reason = getattr(exc, "reason", None) or exc
    return DetectorFailed(f"{where}: no answer ({type(reason).__name__})")


def _kind_by_status(status: int, headers: Mapping[str, str]) -> type[AnomalyError]:
    if status == requests.codes.unavailable and _asks_to_wait(headers):
        return Throttled
    return _BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100, DetectorFailed)


def _asks_to_wait(headers: Mapping[str, str]) -> bool:
    return "retry-after-ms" in headers or retry_after_s(headers) is not None


def _kind_by_body(document: dict[str, Any]) -> type[AnomalyError] | None:
    codes = {text.lower() for text in _texts(document, ("code", "type", "status", "__type", "error"))}
    if any(_NO_CREDIT_LEFT in message.lower() for message in _texts(document, ("message",))):
        return OutOfCredit
    return next((kind for kind, known in _BY_CODE if codes & known), None)


def _texts(document: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the texts under *names*, in the document and in its `error`."""
    inner = document.get("error")
    places = (document, inner) if isinstance(inner, dict) else (document,)
    return [place[name] for place in places for name in names if isinstance(place.get(name), str)]


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _details(document: dict[str, Any]) -> str:
    """Codes and message, without what is long enough to be a key or a piece of an image."""
    said = " ".join(_texts(document, ("code", "type", "message", "detail")))
    said = _SECRET_OR_DATA.sub("…", said)
    return f": {said[:_MESSAGE_CHARS]!r}" if said else ""
