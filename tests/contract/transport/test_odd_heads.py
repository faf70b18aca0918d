"""A response belongs to its request: after any first response, the next request over the session gets its own.

The cases are in odd_heads.json; each has the code of the record whose image comes so, or `image`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from PIL import Image as Pillow

from anomaly import detectors
from anomaly.archive.bucket import Archive, client_config
from anomaly.detectors.endpoint import Endpoint
from anomaly.errors import AnomalyError
from anomaly.images import download as images
from anomaly.images.download import ImageRules, ImageSource
from anomaly.settings import Settings
from tests.parts.odd_server import OddServer

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = json.loads((Path(__file__).parent / "odd_heads.json").read_text())
SETTINGS = Settings(image_retries=0, s3_attempts=1, image_read_timeout_s=2, detector_read_timeout_s=2)
RULES = ImageRules.from_extra({"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]})


def png(grey: int) -> bytes:
    written = io.BytesIO()
    Pillow.new("L", (8, 8), grey).save(written, "PNG")
    return written.getvalue()


FIRST, SECOND = png(1), png(2)


def server(case: dict[str, Any]) -> OddServer:
    def piece(text: str) -> bytes:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(FIRST), FIRST)
        filled = text.encode("latin-1").replace(b"<SIZE>", b"%d" % len(FIRST))
        return filled.replace(b"<CHUNKS>", chunks).replace(b"<BODY>", FIRST)

    return OddServer([piece(text) for text in case["pieces"]], SECOND, ends=case["ends"])


def ended(ask: Callable[[], bytes | None]) -> bytes | str | None:
    try:
        return ask()
    except AnomalyError as exc:
        return exc.code


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_image_after_an_odd_response_is_the_one_that_was_asked_for(case: dict[str, Any]) -> None:
    with server(case) as host, images.session(SETTINGS, RULES) as session:
        source = ImageSource(session, SETTINGS, RULES)
        got = ended(lambda: source.fetch(f"{host.url}/first").content)
        second = source.fetch(f"{host.url}/second").content

    assert second == SECOND
    assert got == (FIRST if case["answer"] == "image" else case["answer"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_answer_after_an_odd_response_is_that_of_the_request(case: dict[str, Any]) -> None:
    with server(case) as host, detectors.session(SETTINGS, host.url) as session:
        endpoint = Endpoint(session, SETTINGS, url=f"{host.url}/detect", headers={})
        got = ended(lambda: endpoint.post(b"{}", "application/json", idempotency_key="1").raw)
        second = endpoint.post(b"{}", "application/json", idempotency_key="2").raw

    assert second == SECOND
    assert got == FIRST or case["answer"] != "image"


@pytest.mark.parametrize("case", [case for case in CASES if "redirect" not in case["name"]], ids=lambda case: case["name"])
def test_the_object_after_an_odd_response_is_the_one_that_was_read(case: dict[str, Any]) -> None:
    with server(case) as host:
        config = Config(**client_config(SETTINGS, endpoint_url=host.url))
        session = boto3.Session("key", "secret", region_name="us-east-1")
        client = session.client("s3", endpoint_url=host.url, config=config)
        archive = Archive(client, "bucket")
        got = ended(lambda: archive.read_answer("first"))
        second = archive.read_answer("second")
        client.close()

    assert second == SECOND
    assert got == FIRST or case["answer"] != "image"


def test_a_plain_response_leaves_its_connection_open() -> None:
    with server(CASES[0]) as host, images.session(SETTINGS, RULES) as session:
        source = ImageSource(session, SETTINGS, RULES)
        for number in range(3):
            source.fetch(f"{host.url}/{number}")

    assert host.asked == [1, 1, 1]
