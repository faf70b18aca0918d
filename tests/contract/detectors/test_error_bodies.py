"""The codes and the words in the bodies of errors, as services are known to send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from anomaly.detectors.errors import from_answer, from_response
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
    RunStopped,
    Throttled,
)

FLAGGED = {"error": {"code": 403, "message": "m requires moderation on O. Your input was flagged", "metadata": {"reasons": ["violence"]}}}
QUOTA = "You exceeded your current quota, please check your plan and billing details."


def error_of(status: int, body: Any, **headers: str) -> AnomalyError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    if status == 200:
        return from_answer(DetectorAnswerInvalid("'score' is missing"), named, raw, origin="detector")
    return from_response(status, named, raw, origin="detector")


def google(code: int, message: str, *quota_ids: str, **more: Any) -> Any:
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id} for quota_id in quota_ids]}]
    return {"error": {"code": code, "message": message, "details": details, **more}}


# ── a record or the run


@pytest.mark.parametrize(
    ("status", "run_error"),
    [(status, Misconfigured) for status in (400, 404, 405, 406, 410, 411, 413, 414, 415, 418, 422, 431)] + [(403, DetectorDenied)],
)
def test_a_refusal_may_concern_the_record_or_the_run(status: int, run_error: type[RunStopped]) -> None:
    error = error_of(status, {"detail": "no"})

    assert type(error) is DetectorRefused
    assert (error.may_concern_run, error.run_error) == (True, run_error)
    assert str(error) == f"detector answered {status}: no"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, FLAGGED),
        (
            400,
            {
                "error": {
                    "code": "content_filter",
                    "message": "The response was filtered",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
        ),
        (400, {"error": {"message": "Your request was rejected by the safety system", "code": "moderation_blocked"}}),
        (400, {"error": {"code": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
        (403, {"name": "content_moderation", "errors": ["Your request was flagged by our content moderation system"]}),
        (422, {"detail": "NSFW content detected"}),
        (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
        (451, b"unavailable for legal reasons"),
        (200, FLAGGED),
    ],
)
def test_moderation_concerns_the_record_at_once(status: int, body: Any) -> None:
    error = error_of(status, body)

    assert type(error) is DetectorRefused
    assert not error.may_concern_run


def test_an_image_that_the_detector_cannot_afford_to_decode_is_rejected_with_its_words() -> None:
    error = error_of(422, {"error": {"code": "image_too_expensive", "message": "the image takes more than 2 s to decode"}})

    assert type(error) is ImageTooExpensive
    assert not error.may_concern_run
    assert str(error) == "detector answered 422: image_too_expensive; the image takes more than 2 s to decode"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, google(400, "API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), DetectorDenied),
        (400, google(400, "API key expired. Please renew the API key."), DetectorDenied),
        (400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, DetectorDenied),
        (403, {"message": "Invalid API key"}, DetectorDenied),
        (
            400,
            {"__type": "com.amazon.coral.service#UnrecognizedClientException", "message": "The security token is invalid"},
            DetectorDenied,
        ),
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
                },
            },
            OutOfCredit,
        ),
        (403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 2.01:02:03."}, OutOfCredit),
        (400, {"code": "Arrearage", "message": "Access denied"}, OutOfCredit),
        (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, OutOfCredit),
        (
            429,
            google(429, QUOTA, "GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            OutOfCredit,
        ),
        (429, {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}}, OutOfCredit),
        (
            429,
            {
                "error": {
                    "message": "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200",
                    "code": "rate_limit_exceeded",
                }
            },
            OutOfCredit,
        ),
        (429, b"Daily request limit reached", OutOfCredit),
        (429, {"detail": "monthly quota exceeded"}, OutOfCredit),
        (429, google(429, QUOTA, "GenerateRequestsPerMinutePerProjectPerModel", status="RESOURCE_EXHAUSTED"), Throttled),
        (429, {"message": "limits: 60 per minute, 10000 per day"}, Throttled),
        (429, [{"error": {"code": 429, "message": "Resource exhausted. Please try again later."}}], Throttled),
        (400, {"message": "Too many requests, please wait"}, DetectorRefused),
        (404, {"error": "model 'llava' not found, try pulling it first"}, DetectorRefused),
        (404, {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}, DetectorRefused),
    ],
)
def test_a_code_or_a_sentence_counts_before_the_status(status: int, body: Any, kind: type[AnomalyError]) -> None:
    assert type(error_of(status, body)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, DetectorDenied),
        (402, OutOfCredit),
        (429, Throttled),
        (422, DetectorRefused),
        (500, DetectorFailed),
        (502, DetectorFailed),
        (503, DetectorOverloaded),
    ],
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda code: {"error": {"code": code, "message": "m"}},
        lambda code: {"error": {"code": str(code)}},
        lambda code: {"code": code, "msg": "m", "data": None},
        lambda code: {"statusCode": code, "body": "m"},
        lambda code: {"choices": [{"error": {"code": code, "message": "m"}, "finish_reason": "error"}]},
        lambda code: [{"error": {"status": code}}],
    ],
)
def test_an_error_in_an_answer_counts_as_the_status_that_it_names(code: int, kind: type[AnomalyError], shape: Any) -> None:
    error = error_of(200, shape(code))

    assert type(error) is kind
    assert str(error).startswith(f"detector answered with an error, {code}")


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0},
        {"status": "ok"},
        {"code": True},
        {"status": 200},
        {"error": None},
        {"error": {}},
        {"code": 4290},
        {"error": "CUDA out of memory"},
    ],
)
def test_an_answer_without_the_status_of_an_error_is_unreadable(body: Any) -> None:
    assert type(error_of(200, body)) is DetectorAnswerInvalid


@pytest.mark.parametrize(
    ("status", "body", "wait_s"),
    [
        (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, 20.0),
        (503, {"error": "Model m is currently loading", "estimated_time": 900}, 60.0),
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 5.0),
        (503, b"The model is warming up", 5.0),
        (500, {"error": "llm server loading model"}, 5.0),
        (200, {"error": "Model m is currently loading", "estimated_time": 20.0}, 20.0),
        (200, {"detail": "Model is being loaded", "estimated_time": 3}, 3.0),
        (200, [{"error": "Model m is currently loading", "estimated_time": 20.0}], 20.0),
        (429, {"message": "Model is not ready for inference. Wait and try your request again"}, 1.0),
    ],
)
def test_a_model_that_is_loading_is_waited_for(status: int, body: Any, wait_s: float) -> None:
    error = error_of(status, body)

    assert isinstance(error, Throttled)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("time", [None, 0, -1, "20", True, float("nan"), float("inf")])
def test_a_200_is_waited_for_only_if_it_states_for_how_long(time: Any) -> None:
    error = error_of(200, {"error": "Model m is currently loading", "estimated_time": time})
    assert type(error) is (Throttled if time is True else DetectorAnswerInvalid)


def test_retry_after_counts_before_a_models_own_estimate() -> None:
    error = error_of(503, {"error": "Model m is currently loading", "estimated_time": 20.0}, retry_after="300")

    assert isinstance(error, Throttled)
    assert error.retry_after_s == 300


@pytest.mark.parametrize("body", [{"error": "image is being processed"}, {"error": "cannot load image"}, {"detail": "overloaded"}, b""])
def test_a_503_about_anything_else_is_an_overload(body: Any) -> None:
    assert type(error_of(503, body)) is DetectorOverloaded


# ── the detector's own words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "field 'image' is required"}, "field 'image' is required"),
        (
            {"detail": [{"loc": ["body", "image"], "msg": "Field required", "type": "missing", "input": "A" * 500}]},
            "body.image: Field required",
        ),
        ({"type": "about:blank", "title": "Bad image", "status": 422, "detail": "The image is empty."}, "Bad image; The image is empty."),
        ({"title": "Invalid", "errors": {"image": ["is required", "is small"]}}, "Invalid; image: is required; image: is small"),
        ({"image": ["No file was submitted."]}, "image: No file was submitted."),
        ({"error": "text"}, "text"),
        ({"error": {"code": "bad_image", "message": "Not an image."}}, "bad_image; Not an image."),
        ({"message": "m"}, "m"),
        ({"Message": "m", "Code": "ValidationException"}, "ValidationException; m"),
        ({"errors": ["one", {"message": "two"}]}, "one; two"),
        (["one"], "one"),
        (b"plain words", "plain words"),
        (b"<title>413 Too Large</title><style>b {}</style><p>limit &lt; 1 MB<script>x()</script></html>", "413 Too Large limit < 1 MB"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>", "AccessDenied No"),
        (b"a\r\nb\x1b[2J\tc", r"a b\x1b[2J c"),
        ("größer als ≥ 2 mm".encode(), "größer als ≥ 2 mm"),
        ({"message": "x" * 20 + " y" * 200}, "x" * 20 + " y" * 89 + " …"),
        ({"message": "data " + "iVBORw0KGgo" * 9 + " end"}, "data … end"),
        ({"message": "see https://x.example/a?token=abc"}, "see https://x.example/a?…"),
        ({"message": "got Authorization: Bearer abc.def"}, "got Authorization: Bearer …"),
        (b"\x89PNG\r\n\0\0", ""),
        (b"", ""),
        ({"message": "a\ud800b"}, r"a\ud800b"),
    ],
)
def test_an_error_has_the_detectors_own_words(body: Any, words: str) -> None:
    assert str(error_of(422, body)).removeprefix("detector answered 422").removeprefix(": ") == words
