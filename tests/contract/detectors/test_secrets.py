"""What is sent as a secret appears in no error and no log, in whichever form a detector echoes it."""

from __future__ import annotations

import html
import json
import logging
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from anomaly.detectors.base import DetectorConnection
from anomaly.detectors.redaction import Redaction
from anomaly.errors import AnomalyError
from tests.contract.detectors.conftest import IMAGE
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.detectors.conftest import Made
    from tests.parts.http_stub import HttpStub, Seen

CONNECTIONS: list[tuple[str, dict[str, Any]]] = [
    ("hunter2x", {"key": "hunter2x"}),
    ("abcd", {"key": "abcd"}),
    ("p/?#&=%+ w", {"key": "p/?#&=%+ w", "key_header": "X-Api-Key"}),
    ('quo"te<&>', {"key": 'quo"te<&>', "key_header": "X-Api-Key"}),
    ("sk-proj-0123456789abcdef", {"key": "sk-proj-0123456789abcdef"}),
    ("hunter2x", {"login": "me", "key": "hunter2x"}),
    ("a-b-c-1", {"headers": {"Ocp-Apim-Subscription-Key": "a-b-c-1"}}),
    ("a-b-c-2", {"headers": {"Authorization": "Bearer a-b-c-2"}}),
    ("a-b-c-3", {"headers": {"X-Anything": "a-b-c-3"}}),
    ("a-b-c-4", {"headers": {"Cookie": "a-b-c-4"}}),
    ("a-b-c-5", {"path": "/d?code=a-b-c-5&api-version=1"}),
    ("a-b-c-6", {"format": "json", "body": {"image": "{image_base64}", "auth": {"api_key": "a-b-c-6"}}}),
]
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: secret,
    "upper": lambda secret: secret.upper(),
    "quoted": lambda secret: quote(secret, safe=""),
    "html": html.escape,
    "json": lambda secret: json.dumps(secret)[1:-1],
    "base64": lambda secret: b64encode(secret.encode()).decode(),
}
REPLIES: dict[str, Callable[[str], Reply]] = {
    "json 400": lambda text: Reply(status=400, body=json.dumps({"detail": f"wrong: {text} !"}).encode()),
    "text 422": lambda text: Reply(status=422, body=f"wrong: {text} !".encode()),
    "page 502": lambda text: Reply(status=502, body=f"<h1>wrong</h1><p>{text}</p>".encode()),
    "json 401": lambda text: Reply(status=401, body=json.dumps({"error": {"message": f"key {text} unknown"}}).encode()),
    "json 200": lambda text: Reply(body=json.dumps({"note": f"hello {text} !"}).encode()),
    "text 200": lambda text: Reply(body=f"hello {text} !".encode()),
    "error in 200": lambda text: Reply(body=json.dumps({"error": {"code": 422, "message": f"hello {text} !"}}).encode()),
    "a score in 200": lambda text: Reply(body=json.dumps({"score": text}).encode()),
}


@pytest.mark.parametrize(("secret", "connection"), CONNECTIONS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_that_is_echoed_is_cut_out(
    made: Made, caplog: pytest.LogCaptureFixture, secret: str, connection: dict[str, Any], form: str
) -> None:
    caplog.set_level(logging.DEBUG)
    echoed = FORMS[form](secret)
    for reply in REPLIES.values():
        made.stub.at("/d", reply(echoed))
        with pytest.raises(AnomalyError) as caught:
            made(**{"dialect": "generic", "path": "/d", **connection}).ask(IMAGE, idempotency_key="k")
        said = "".join(traceback.format_exception(caught.value)) + caplog.text
        raw = getattr(caught.value, "raw", b"").decode()
        assert echoed not in said.partition("anomaly.errors.")[2]
        assert echoed not in str(caught.value) + raw
        assert "…" in str(caught.value)


def test_a_detector_that_echoes_the_whole_request_gives_nothing_away(stub: HttpStub, made: Made, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(seen: Seen) -> Reply:
        return Reply(
            status=400, body=json.dumps({"message": "; ".join(f"{name}: {value}" for name, value in seen.headers.items())}).encode()
        )

    stub.at("/d", echo)
    for connection in ({"key": "hunter2x"}, {"login": "me", "key": "hunter2x"}, {"key": "hunter2x", "key_header": "X-Key"}):
        with pytest.raises(AnomalyError) as caught:
            made(dialect="generic", path="/d", **connection).ask(IMAGE, idempotency_key="k")
        said = str(caught.value) + caplog.text
        assert "hunter2x" not in said
        assert b64encode(b"me:hunter2x").decode() not in said


def test_ordinary_words_stay() -> None:
    connection = DetectorConnection(
        base_url="https://d.example?api-version=2024",
        password="key",  # noqa: S106  # shorter than what is looked for
        extra={"headers": {"Accept": "application/json", "X-Empty": ""}, "body": {"prompt": "look", "key": "{sha256}"}},
    )
    sentence = "unsupported media type application/json; the key of version 2024 must look like {sha256}"
    assert Redaction.of(connection).theirs(sentence) == sentence
    assert Redaction().raw(b"\xff\0") == b"\xff\0"
