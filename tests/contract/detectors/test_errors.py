from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import urllib3.exceptions
from requests.structures import CaseInsensitiveDict

from anomaly.backoff import exhausted_for_s
from anomaly.detectors.errors import from_exception, from_response
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


def mapped(status: int, *, body: Any = None, **headers: str) -> AnomalyError:
    named = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    return from_response(status, named, json.dumps(body).encode() if body is not None else b"", origin="detector")


def test_every_status_has_an_error() -> None:
    for status in range(100, 600):
        error = mapped(status)
        assert type(error) in {
            Throttled,
            DetectorFailed,
            DetectorOverloaded,
            DetectorAnswerInvalid,
            DetectorRefused,
            DetectorDenied,
            OutOfCredit,
            Misconfigured,
        }
        assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, DetectorAnswerInvalid),
        (302, DetectorRefused),
        (400, DetectorRefused),
        (401, DetectorDenied),
        (402, OutOfCredit),
        (403, DetectorRefused),
        (404, DetectorRefused),
        (405, DetectorRefused),
        (408, DetectorFailed),
        (409, DetectorFailed),
        (413, DetectorRefused),
        (415, DetectorRefused),
        (410, DetectorRefused),
        (422, DetectorRefused),
        (407, DetectorDenied),
        (424, DetectorFailed),
        (429, Throttled),
        (500, DetectorFailed),
        (502, DetectorFailed),
        (503, DetectorOverloaded),
        (504, DetectorFailed),
        (529, Throttled),
    ],
)
def test_each_status_becomes_its_error(status: int, kind: type[AnomalyError]) -> None:
    assert type(mapped(status)) is kind


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry_after": "7"}, 7.0),
        (503, {"retry_after": "7"}, 7.0),
        (503, {"retry_after_ms": "250"}, 0.25),
        (529, {"retry_after": "7"}, 7.0),
        (429, {"x_ratelimit_reset_requests": "12ms", "x_ratelimit_reset_tokens": "6m0s"}, 360.0),
        (429, {}, 1.0),
        (429, {"retry_after": "-1"}, 1.0),
    ],
)
def test_throttling_has_the_duration_that_the_headers_state(status: int, headers: dict[str, str], seconds: float) -> None:
    error = mapped(status, **headers)

    assert isinstance(error, Throttled)
    assert error.retry_after_s == seconds


def test_a_503_that_only_reports_its_limits_is_no_pause() -> None:
    assert type(mapped(503, x_ratelimit_reset_tokens="6m0s")) is DetectorOverloaded


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, OutOfCredit),
        (429, {"error": {"type": "rate_limit_exceeded", "code": "credit_balance_exhausted"}}, OutOfCredit),
        (429, {"error": "enforced_spend_limit_reached"}, OutOfCredit),
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to …"}}, OutOfCredit),
        (400, {"error": {"code": "content_filter"}}, DetectorRefused),
        (400, {"error": {"type": "authentication_error"}}, DetectorDenied),
        (500, {"error": {"type": "overloaded_error"}}, Throttled),
        (400, {"__type": "ThrottlingException"}, Throttled),
        (400, {"error": {"code": "model_not_found"}}, Misconfigured),
        (429, {"error": {"code": "something_new"}}, Throttled),
        (500, ["not", "an", "object"], DetectorFailed),
        (500, {"error": {"code": 7, "type": None, "message": {}}}, DetectorFailed),
    ],
)
def test_a_code_in_the_body_counts_before_the_status(status: int, body: Any, kind: type[AnomalyError]) -> None:
    assert type(mapped(status, body=body)) is kind


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"<html>"])
def test_a_body_that_is_no_json_leaves_the_status(body: bytes) -> None:
    assert type(from_response(500, {}, body, origin="detector")) is DetectorFailed


def kinds_below(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(found for below in kind.__subclasses__() for found in kinds_below(below))]


@pytest.mark.parametrize("kind", kinds_below(requests.RequestException))
def test_every_exception_of_requests_has_an_error(kind: type[Exception]) -> None:
    error = from_exception(kind.__new__(kind), origin="detector")

    assert type(error) in {DetectorFailed, Misconfigured}
    assert (type(error) is Misconfigured) == (
        kind.__name__ in {"InvalidURL", "MissingSchema", "InvalidSchema", "InvalidHeader", "InvalidProxyURL"}
    )


@pytest.mark.parametrize("kind", kinds_below(urllib3.exceptions.HTTPError))
def test_every_exception_of_urllib3_is_a_failure_but_for_a_wrong_address(kind: type[Exception]) -> None:
    error = from_exception(kind.__new__(kind), origin="detector")

    assert type(error) is (Misconfigured if issubclass(kind, urllib3.exceptions.LocationValueError) else DetectorFailed)


# ── exhausted limits that an answer states


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, 0.0),
        ({"x_ratelimit_remaining_requests": "3", "x_ratelimit_reset_requests": "20s"}, 0.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "20s"}, 20.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2s", "x_ratelimit_reset_tokens": "6m0s"}, 2.0),
        (
            {
                "date": "Mon, 02 Mar 2026 10:00:00 GMT",
                "anthropic_ratelimit_tokens_remaining": "0",
                "anthropic_ratelimit_tokens_reset": "2026-03-02T10:00:30Z",
            },
            30.0,
        ),
        ({"ratelimit_remaining": "0"}, 0.0),
        ({"x_ratelimit_remaining_tokens": "-1", "x_ratelimit_reset_tokens": "0"}, 0.0),
    ],
)
def test_an_answer_states_the_pause_of_an_exhausted_limit(headers: dict[str, str], pause_s: float) -> None:
    named = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    assert exhausted_for_s(named) == pause_s


RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": RETRY_INFO, "retryDelay": "34s"}], 34.0),
        ([{"@type": RETRY_INFO, "retryDelay": "34.074824224s"}], 34.074824224),
        ([{"@type": "type.googleapis.com/google.rpc.Help", "links": []}, {"@type": RETRY_INFO, "retryDelay": "2s"}], 2.0),
        ([{"@type": RETRY_INFO, "retryDelay": "0s"}], 1.0),
        ([{"@type": RETRY_INFO, "retryDelay": "-3s"}], 1.0),
        ([{"@type": RETRY_INFO, "retryDelay": 34}, None, "34s"], 1.0),
        ({"retryDelay": "34s"}, 1.0),
        (None, 1.0),
    ],
)
def test_the_retry_info_in_a_body_is_waited_for_where_no_header_says_more(details: object, seconds: float) -> None:
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}
    error = mapped(429, body=body)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == pytest.approx(seconds)
    error = mapped(429, body=body, Retry_After="7")
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 7.0
