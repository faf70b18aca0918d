"""Arbitrary answers and errors give a verdict or one of the project's errors, which the database can store."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from anomaly import detectors
from anomaly.detectors import DetectorConnection
from anomaly.detectors.errors import from_answer, from_response
from anomaly.detectors.redaction import Redaction
from anomaly.errors import AnomalyError, DetectorAnswerInvalid, DetectorRefused, Throttled
from anomaly.models.quota import tokens_of
from anomaly.settings import Settings
from tests.parts.fuzzing import fuzz

NAMES = st.sampled_from(
    [
        "score",
        "is_anomaly",
        "threshold",
        "label",
        "reason",
        "regions",
        "heatmap",
        "model",
        "version",
        "usage",
        "cost",
        "name",
        "error",
        "errors",
        "detail",
        "details",
        "message",
        "code",
        "type",
        "status",
        "choices",
        "content",
        "finish_reason",
        "stop_reason",
        "input",
        "estimated_time",
        "total_tokens",
        "loc",
        "msg",
        "title",
        "metadata",
        "refusal",
    ]
)
TEXT = st.text(st.characters(), max_size=30)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), 0, 1, 401, 429, 503, 0.93, 1e308, float("nan"), float("inf"), "\ud800", "a\0b", "tool_use", "{}"]),
    st.floats(),
    TEXT,
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=5), max_leaves=20)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda document: json.dumps(document).encode())
    | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Retry-After", "retry-after-ms", "Date", "x-ratelimit-reset-requests", "x-amzn-errortype", "x-ratelimit-remaining-tokens"]
    ),
    st.text(max_size=30) | st.sampled_from(["1", "-1", "1e9", "9" * 400, "6m0s", "Mon, 02 Mar 2026 10:00:00 GMT", "2026-03-02T10:00:30Z"]),
)
CONNECTIONS: list[dict[str, Any]] = [
    {"dialect": "reference"},
    {"dialect": "generic", "answer": {"score": "score", "is_anomaly": "score > `0.5`", "label": "join(',', regions[].name)"}},
    {
        "dialect": "generic",
        "answer": {"is_anomaly": "label == 'bad' || max(regions[].score) > `1`", "usage": "usage", "cost": "sum(*.cost)"},
    },
    {"dialect": "generic", "answer": {"score": "max_by(@, &score).score"}, "threshold": 0.5, "range": [0, 1]},
    {"dialect": "openai_chat", "model": "m"},
    {"dialect": "anthropic_messages", "model": "m"},
]
SESSION = detectors.session(Settings(), "http://detector")
DETECTORS = [
    detectors.from_connection(DetectorConnection(base_url="http://detector", extra=extra), SESSION, Settings()) for extra in CONNECTIONS
]


def storable(text: str) -> bool:
    return text.encode().decode() == text and "\0" not in text


@fuzz(BODIES | JSON.map(lambda report: json.dumps({"choices": [{"message": {"content": json.dumps(report)}}]}).encode()))
def test_an_answer_is_a_verdict_that_can_be_stored_or_invalid(raw: bytes) -> None:
    sentences: list[str] = []
    for detector in DETECTORS:
        try:
            verdict = detector.read(raw)
        except (DetectorAnswerInvalid, DetectorRefused) as exc:
            sentences.append(str(exc))
            continue
        assert verdict.score == verdict.score + 0  # a number, and not NaN
        tokens_of(verdict.usage)
        assert storable(f"{verdict.label}{verdict.reason}{verdict.detector}")
        json.dumps([json.loads(json.dumps(verdict.regions)), verdict.usage, verdict.cost], allow_nan=False).encode()
    assert all(map(storable, sentences))


@fuzz(st.integers(100, 599), HEADERS, BODIES)
def test_an_error_is_one_of_ours_on_one_printable_line(status: int, headers: dict[str, str], body: bytes) -> None:
    redaction = Redaction(["hunter2x"])
    named = CaseInsensitiveDict(headers)
    invalid = DetectorAnswerInvalid("'score' is missing")
    for error in (
        from_response(status, named, body, origin="detector", redaction=redaction),
        from_answer(invalid, named, body, origin="detector", redaction=redaction),
    ):
        assert isinstance(error, AnomalyError)
        assert storable(str(error))
        assert str(error).isprintable()
        assert len(str(error)) <= 300
        if isinstance(error, Throttled):
            assert 0 < error.retry_after_s < float("inf")
