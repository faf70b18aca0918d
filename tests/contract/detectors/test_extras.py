"""Any extra of a detector's connection gives a detector that can ask, or a sentence of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from anomaly import detectors
from anomaly.detectors import DetectorConnection
from anomaly.errors import AnomalyError, Misconfigured
from anomaly.escaping import escaped
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.fuzzing import fuzz
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = Settings(detector_connect_timeout_s=1, detector_read_timeout_s=5)
IMAGE = Image(content=b"abc", media_type="image/png", sha256="ab" * 32, width_px=1, height_px=1)
EXTRAS = (
    *("dialect", "path", "key_header", "headers", "answer", "price", "requests_per_minute", "tokens_per_minute", "concurrency", "format"),
    *("field", "body", "model", "scale", "offset", "threshold", "range", "prompt", "max_tokens", "detail", "request"),
)
GOOD: list[dict[str, Any]] = [
    {"dialect": "generic", "path": "/detect"},
    {"dialect": "reference"},
    {"dialect": "generic", "path": "/detect", "format": "multipart"},
    {"dialect": "generic", "path": "/detect", "format": "json", "body": {"image": "{image_base64}"}},
    {"dialect": "openai_chat", "model": "m"},
    {"dialect": "anthropic_messages", "model": "m"},
]
TEXT = st.text(st.characters(), max_size=20)
NUMBERS = (10**400, -(10**400), 0, -1, 1e308, 5e-324, float("nan"), float("inf"))
STRINGS = (
    "\ud800",
    "a\0b",
    "a\r\nX: y",
    "é",
    "\u2713",
    "\x1b[31m",
    "{image_base64}",
    "score[",
    "@",
    "`1`",
    "//x",
    "http://[",
    "/detect?a=b",
    "json",
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from(NUMBERS + STRINGS))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from([*EXTRAS, "score", "X-Key"]), inner, max_size=3),
    max_leaves=8,
)
SECRETS = st.sampled_from([None, "key", "k\u00e9y", "\u2713", "\ud800", "a\nb", " key ", "\0"])


@pytest.fixture(scope="module")
def stub() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        stub.at("/detect", Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json"))
        yield stub


def ask(stub: HttpStub, extra: dict[str, Any], *, login: str | None = None, password: str | None = None) -> None:
    connection = DetectorConnection(base_url=f"http://127.0.0.1:{stub.port}", login=login, password=password, extra=extra)
    with detectors.session(SETTINGS, connection.base_url) as session:
        detectors.from_connection(connection, session, SETTINGS).ask(IMAGE, idempotency_key="k")


@fuzz(st.sampled_from(GOOD), st.dictionaries(st.sampled_from(EXTRAS) | TEXT, VALUES, max_size=2), SECRETS, SECRETS, examples=150)
def test_extras_of_any_kind_are_read_or_refused_with_a_sentence(
    stub: HttpStub, good: dict[str, Any], extra: dict[str, Any], login: str | None, password: str | None
) -> None:
    try:
        ask(stub, {**good, **extra}, login=login, password=password)
    except AnomalyError as exc:
        assert str(exc) == escaped(str(exc))  # noqa: PT017  # some extras are right


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"dialect": ["generic"]}, "the extra 'dialect' must be one of "),
        ({"dialect": {}}, "the extra 'dialect' must be one of "),
        ({"threshold": 10**400}, "the extra 'threshold' must be a number"),
        ({"offset": float("nan")}, "the extra 'offset' must be a number"),
        ({"scale": True}, "the extra 'scale' must be a number"),
        ({"price": "0.1"}, "the extra 'price' must be a number"),
        ({"range": [0, 10**400]}, "the extra 'range' must be two numbers"),
        ({"range": [0, float("inf")]}, "the extra 'range' must be two numbers"),
        ({"range": "01"}, "the extra 'range' must be two numbers"),
        ({"requests_per_minute": -(10**400)}, "the extra 'requests_per_minute' must be a number"),
        ({"headers": {"X-Key": "\u2713"}}, "its address or one of its headers is not valid"),
        ({"headers": {"X-Key": "a\r\nX: y"}}, "its address or one of its headers is not valid"),
        ({"headers": {"X-K\u00e9y\u2713": "a"}}, "its address or one of its headers is not valid"),
        ({"key_header": "\u2713"}, "its address or one of its headers is not valid"),
        ({"pth": 1, "\x1b[2J": 2}, "there is no extra '\\x1b[2J', 'pth' in this dialect"),
    ],
)
def test_an_extra_that_cannot_be_used_is_refused_before_anything_is_sent(stub: HttpStub, extra: dict[str, Any], sentence: str) -> None:
    stub.requests.clear()
    with pytest.raises(Misconfigured) as caught:
        ask(stub, {**GOOD[0], **extra}, password="key")  # noqa: S106  # it is what the test sends
    assert str(caught.value).startswith(f"the detector's connection: {sentence}")
    assert stub.requests == []


@pytest.mark.parametrize(("login", "password"), [(None, "\u2713"), (None, "\ud800"), (None, "a\nb")])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(stub: HttpStub, login: str | None, password: str) -> None:
    with pytest.raises(Misconfigured, match="one of its headers is not valid") as caught:
        ask(stub, GOOD[0], login=login, password=password)
    assert password not in str(caught.value)
