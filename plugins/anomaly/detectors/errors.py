"""Translates a detector's HTTP errors into the project's errors, for all dialects.

A code in the body takes precedence over the status: an exhausted credit often arrives as 429, for which the pipeline would wait.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
from urllib3.exceptions import LocationValueError

from anomaly.backoff import retry_after_s, wait_hint_s
from anomaly.detectors import error_body
from anomaly.detectors.redaction import CUT, Redaction
from anomaly.errors import (
    AnomalyError,
    DetectorAnswerInvalid,
    DetectorDenied,
    DetectorFailed,
    DetectorOverloaded,
    DetectorRefused,
    ImageTooExpensive,
    Misconfigured,
    OutOfCredit,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Kind = Callable[[str], AnomalyError]

DEFAULT_WAIT_S = 1.0
"""The pause if a detector throttles without a duration."""
LOADING_WAIT_S, LOADING_WAIT_MAX_S = 5.0, 60.0
"""The pause for a model that is loading, without a duration and at most: it may be ready earlier than it states."""
NO_SECRETS = Redaction()

_REFUSED: Kind = DetectorRefused
_REFUSED_ACCESS: Kind = partial(DetectorRefused, run_error=DetectorDenied)
_REFUSED_CONTENT: Kind = partial(DetectorRefused, by_content=True)

# The first match counts.
_BY_CODE: tuple[tuple[Kind, set[str]], ...] = (
    (OutOfCredit, {"insufficient_quota", "credit_balance_exhausted", "insufficient_credits", "billing_error", "billing_not_active"}),
    (OutOfCredit, {"billing_hard_limit_reached", "spend_limit_reached", "spend_limit_exceeded", "enforced_spend_limit_reached"}),
    (OutOfCredit, {"quota_exceeded", "daily_quota_exceeded", "billing_disabled", "insufficient_balance", "payment_required", "arrearage"}),
    (OutOfCredit, {"usage_limit_reached", "usage_limit_exceeded", "servicequotaexceededexception"}),
    (DetectorDenied, {"invalid_api_key", "authentication_error", "account_deactivated", "api_key_invalid", "api_key_expired"}),
    (DetectorDenied, {"unauthenticated", "unrecognizedclientexception", "invalidsignatureexception", "expiredtokenexception"}),
    (_REFUSED_CONTENT, {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}),
    (_REFUSED_CONTENT, {"content_moderation", "data_inspection_failed", "datainspectionfailed", "guardrail_intervened"}),
    (ImageTooExpensive, {"image_too_expensive"}),
    (Misconfigured, {"model_not_found", "deploymentnotfound"}),
    (_REFUSED, {"not_found_error"}),
    (_REFUSED_ACCESS, {"permission_error", "permission_denied", "accessdeniedexception"}),
)
_THROTTLED = {
    *("rate_limit_error", "rate_limit_exceeded", "overloaded_error", "throttlingexception", "too_many_requests", "resource_exhausted"),
    *("toomanyrequestsexception", "modelnotreadyexception", "provisionedthroughputexceededexception"),
}
_BY_WORDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (OutOfCredit, re.compile(r"credit balance is too low|reached your specified api usage limit|out of call volume quota", re.IGNORECASE)),
    (OutOfCredit, re.compile(r"exceeded your \w+ included credits|requires billing to be enabled", re.IGNORECASE)),
    (DetectorDenied, re.compile(r"api[ _-]?key (is )?(not valid|invalid|expired|missing)", re.IGNORECASE)),
    (DetectorDenied, re.compile(r"(invalid|incorrect|missing|expired) (x-)?api[ _-]?key", re.IGNORECASE)),
)
_CONTENT = re.compile(
    r"\bflagged\b|moderation|\bnsfw\b|content[ _-]?(filter|polic|management polic)|usage guidelines|safety system", re.IGNORECASE
)
_DAY = re.compile(r"per[ _-]?(day|week|month)|\b(daily|weekly|monthly)\b|\b[RT]PD\b|quota for today", re.IGNORECASE)
_MINUTE = re.compile(r"per[ _-]?(second|minute|hour)|\b[RT]PM\b", re.IGNORECASE)
_LOADING = re.compile(
    r"(currently|still|now|is|being) (loading|loaded|warming up|starting|initiali[sz]ing)\b|^loading model|server loading model"
    r"|not (yet )?ready|warming up|cold start",
    re.IGNORECASE,
)
_BY_STATUS: dict[int, Kind] = {
    401: DetectorDenied,
    402: OutOfCredit,
    403: _REFUSED_ACCESS,
    407: DetectorDenied,
    408: DetectorFailed,
    409: DetectorFailed,
    421: DetectorFailed,
    424: DetectorFailed,
    425: DetectorFailed,
    451: _REFUSED_CONTENT,
    503: DetectorOverloaded,
}
_BY_STATUS_CLASS: dict[int, Kind] = {
    1: DetectorAnswerInvalid,
    2: DetectorAnswerInvalid,
    3: _REFUSED,  # a POST does not follow redirects
    4: _REFUSED,
}
_THROTTLED_STATUSES = {429, 529}
_CONTENT_STATUSES = {400, 403, 422}
_WRONG_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    LocationValueError,
)
WORDS_CHARS = 200
BEGINS_CHARS = 120
UNREADABLE_BYTES = 64 * 1024
"""Bytes of an unreadable answer that its error keeps."""


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, origin: str, redaction: Redaction = NO_SECRETS) -> AnomalyError:
    """Return the error for a response without a verdict. *headers* must ignore the case of names."""
    return _error(status, headers, body, message=f"{origin} answered {status}", redaction=redaction)


def from_answer(
    invalid: DetectorAnswerInvalid,
    headers: Mapping[str, str],
    raw: bytes,
    *,
    origin: str,
    redaction: Redaction = NO_SECRETS,
    image_sha256: str = "",
) -> AnomalyError:
    """Return the error for an answer with a status of 2xx that could not be read: the error in its body, else *invalid* with the answer.

    A model that is loading is waited for if the answer states for how long. Otherwise it may be a detector that always answers so.
    """
    document = error_body.parse(raw)
    message = f"{origin} answered with an error"
    if status := error_body.status(document):
        return _error(status, headers, raw, message=f"{message}, {status}", redaction=redaction)
    if error_body.loading_time_s(document) and _is_loading(error_body.messages(document)):
        return _loading(document, f"{message}{_words(raw, redaction)}")
    if kind := _kind_by_body(error_body.codes(document), error_body.messages(document)):
        return kind(f"{message}{_words(raw, redaction)}")
    begins = redaction.theirs(error_body.one_line(raw[: 8 * BEGINS_CHARS].decode("utf-8", "replace")))
    return DetectorAnswerInvalid(
        redaction.ours(f"{origin}: {invalid}"),
        begins=_shortened(begins, BEGINS_CHARS),
        raw=redaction.raw(raw[: 2 * UNREADABLE_BYTES])[:UNREADABLE_BYTES],
        image_sha256=image_sha256,
    )


def from_exception(exc: Exception, *, origin: str) -> AnomalyError:
    """Return the error for an exception of requests or urllib3, without its text, which may quote an address."""
    if isinstance(exc, _WRONG_ADDRESS):
        return Misconfigured(f"{origin}: {type(exc).__name__}; check the address in the detector's connection")
    reason = getattr(exc, "reason", None) or exc
    return DetectorFailed(f"{origin}: no answer ({type(reason).__name__})")


def _error(status: int, headers: Mapping[str, str], body: bytes, *, message: str, redaction: Redaction) -> AnomalyError:
    document = error_body.parse(body)
    codes, messages = error_body.codes(document), error_body.messages(document) or [error_body.words(body)]
    codes.add(headers.get("x-amzn-errortype", "").partition(":")[0].lower())
    message += _words(body, redaction)
    if kind := _kind_by_body(codes, messages):
        return kind(message)
    if status in _CONTENT_STATUSES and any(map(_CONTENT.search, messages)):
        return _REFUSED_CONTENT(message)
    if status in _THROTTLED_STATUSES and any(_DAY.search(text) and not _MINUTE.search(text) for text in messages):
        return OutOfCredit(message)
    if status >= 500 and _is_loading(messages) and not _asks_to_wait(headers):  # noqa: PLR2004  # a server's error
        return _loading(document, message)
    throttles = status in _THROTTLED_STATUSES or codes & _THROTTLED or (status == requests.codes.unavailable and _asks_to_wait(headers))
    if throttles:
        return Throttled(message, retry_after_s=wait_hint_s(headers) or error_body.retry_info_s(document) or DEFAULT_WAIT_S)
    return (_BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, DetectorFailed))(message)


def _asks_to_wait(headers: Mapping[str, str]) -> bool:
    return "retry-after-ms" in headers or retry_after_s(headers) is not None


def _kind_by_body(codes: set[str], messages: list[str]) -> Kind | None:
    by_code = next((kind for kind, known in _BY_CODE if codes & known), None)
    return by_code or next((kind for kind, pattern in _BY_WORDS if any(map(pattern.search, messages))), None)


def _is_loading(messages: list[str]) -> bool:
    return any(map(_LOADING.search, messages))


def _loading(document: Any, message: str) -> Throttled:
    return Throttled(message, retry_after_s=min(error_body.loading_time_s(document) or LOADING_WAIT_S, LOADING_WAIT_MAX_S))


def _words(body: bytes, redaction: Redaction) -> str:
    words = _shortened(redaction.theirs(error_body.words(redaction.raw(body))), WORDS_CHARS)
    return f": {words}" if words else ""


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}{CUT}"
