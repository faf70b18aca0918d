"""Translates a detector's HTTP errors into the project's errors, for all dialects.

A code in the body takes precedence over the status: an exhausted credit often arrives as 429, for which the pipeline would wait.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import requests
from urllib3.exceptions import LocationValueError

from anomaly.backoff import parse_wait_s, retry_after_s, wait_hint_s
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

DEFAULT_WAIT_S = 1.0
"""The pause if a detector throttles without a duration."""

# The first match counts.
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
    404: Misconfigured,  # no such path or model, which concerns every record
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
_BY_STATUS_CLASS: dict[int, type[AnomalyError]] = {
    1: DetectorAnswerInvalid,
    2: DetectorAnswerInvalid,
    3: Misconfigured,  # a POST does not follow redirects
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


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, origin: str) -> AnomalyError:
    """Return the error for a response without a verdict. *headers* must ignore the case of names."""
    document = _document(body)
    kind = _class_by_body(document) or _class_by_status(status, headers)
    message = f"{origin} answered {status}{_details(document)}"
    if issubclass(kind, Throttled):
        return kind(message, retry_after_s=wait_hint_s(headers) or _retry_info_s(document) or DEFAULT_WAIT_S)
    return kind(message)


def from_exception(exc: Exception, *, origin: str) -> AnomalyError:
    """Return the error for an exception of requests or urllib3, without its text, which may quote an address."""
    if isinstance(exc, _WRONG_ADDRESS):
        return Misconfigured(f"{origin}: {type(exc).__name__}; check the address in the detector's connection")
    reason = getattr(exc, "reason", None) or exc
    return DetectorFailed(f"{origin}: no answer ({type(reason).__name__})")


def _class_by_status(status: int, headers: Mapping[str, str]) -> type[AnomalyError]:
    if status == requests.codes.unavailable and _asks_to_wait(headers):
        return Throttled
    return _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, DetectorFailed)


def _asks_to_wait(headers: Mapping[str, str]) -> bool:
    return "retry-after-ms" in headers or retry_after_s(headers) is not None


def _class_by_body(document: dict[str, Any]) -> type[AnomalyError] | None:
    codes = {code.lower() for code in _strings(document, ("code", "type", "status", "__type", "error"))}
    if any(_NO_CREDIT_LEFT in message.lower() for message in _strings(document, ("message",))):
        return OutOfCredit
    return next((kind for kind, known in _BY_CODE if codes & known), None)


def _strings(document: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the strings under *names*, in the document and in its `error`."""
    inner = document.get("error")
    places = (document, inner) if isinstance(inner, dict) else (document,)
    return [place[name] for place in places for name in names if isinstance(place.get(name), str)]


def _retry_info_s(document: dict[str, Any]) -> float | None:
    """Return the wait in a `google.rpc.RetryInfo` among the error's details, as Gemini sends it."""
    error = document.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    delays = (each.get("retryDelay") for each in (details if isinstance(details, list) else ()) if isinstance(each, dict))
    waits = [wait_s for delay in delays if isinstance(delay, str) and (wait_s := parse_wait_s(delay)) is not None]
    return max(waits, default=None)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _details(document: dict[str, Any]) -> str:
    """Return codes and message. Long words are left out: they may be a key or part of an image."""
    text = _SECRET_OR_DATA.sub("…", " ".join(_strings(document, ("code", "type", "message", "detail"))))
    return f": {text[:_MESSAGE_CHARS]!r}" if text else ""
