"""A response belongs to its request: after any first response, the next request over the session gets its own.

So it is directly, over TLS, by a proxy that forwards requests for several hosts over one connection, and by a tunnel through a proxy.

The cases are in odd_heads.json; each has the code of the record whose image comes so, or `image`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import trustme
from botocore.config import Config
from PIL import Image as Pillow

from anomaly import detectors
from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.detectors.endpoint import Endpoint
from anomaly.errors import AnomalyError
from anomaly.images import download as images
from anomaly.images.download import ImageSource
from anomaly.images.rules import ImageRules
from anomaly.settings import Settings
from tests.parts.odd_server import OddServer
from tests.parts.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = json.loads((Path(__file__).parent / "odd_heads.json").read_text())
SETTINGS = Settings(image_retries=0, s3_attempts=1, image_read_timeout_s=2, detector_read_timeout_s=2)
RULES = ImageRules.from_extra({"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]})


def png(grey: int) -> bytes:
    written = io.BytesIO()
    Pillow.new("L", (8, 8), grey).save(written, "PNG")
    return written.getvalue()


FIRST, SECOND = png(1), png(2)
CA = trustme.CA()
AWS = boto3.Session("key", "secret", region_name="us-east-1")


@dataclass(frozen=True, kw_only=True)
class Reached:
    """An odd server, and how clients reach it. The first and the second request are for different hosts if a proxy allows that."""

    server: OddServer
    first: str
    second: str
    proxy: str | None = None

    @property
    def proxies(self) -> dict[str, str]:
        return {"http": self.proxy, "https": self.proxy} if self.proxy else {}


@pytest.fixture(params=["directly", "encrypted", "by a proxy", "by a tunnel"])
def reach(request: pytest.FixtureRequest, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], Reached]]:
    way = request.param
    tls = tls_of_localhost() if way in {"encrypted", "by a tunnel"} else None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    with contextlib.ExitStack() as opened:
        tunnel = opened.enter_context(Tunnel()).url if way == "by a tunnel" else None

        def reached(case: dict[str, Any]) -> Reached:
            server = opened.enter_context(OddServer([piece(text) for text in case["pieces"]], SECOND, ends=case["ends"], tls=tls))
            if way == "by a proxy":
                return Reached(server=server, first="http://first.example", second="http://second.example", proxy=server.url)
            return Reached(server=server, first=server.url, second=server.url, proxy=tunnel)

        yield reached


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    CA.cert_pem.write_to_path(path)
    return str(path)


def tls_of_localhost() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    return context


def piece(text: str) -> bytes:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(FIRST), FIRST)
    filled = text.encode("latin-1").replace(b"<SIZE>", b"%d" % len(FIRST))
    return filled.replace(b"<CHUNKS>", chunks).replace(b"<BODY>", FIRST)


def ended(ask: Callable[[], bytes | None]) -> bytes | str | None:
    try:
        return ask()
    except AnomalyError as exc:
        return exc.code


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_image_after_an_odd_response_is_the_one_that_was_asked_for(reach: Callable[..., Reached], case: dict[str, Any]) -> None:
    host = reach(case)
    rules = dataclasses.replace(RULES, proxy=host.proxy)
    with images.session(SETTINGS, rules) as session:
        source = ImageSource(session, SETTINGS, rules)
        got = ended(lambda: source.fetch(f"{host.first}/first").content)
        second = source.fetch(f"{host.second}/second").content

    assert second == SECOND
    assert got == (FIRST if case["answer"] == "image" else case["answer"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_answer_after_an_odd_response_is_that_of_the_request(
    reach: Callable[..., Reached], case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = reach(case)
    for scheme, proxy in host.proxies.items():
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
    with detectors.session(SETTINGS, host.first) as session:
        endpoint = Endpoint(session, SETTINGS, url=f"{host.first}/detect", headers={})
        got = ended(lambda: endpoint.post(b"{}", "application/json", idempotency_key="1").raw)
        second = endpoint.post(b"{}", "application/json", idempotency_key="2").raw

    assert second == SECOND
    assert got == FIRST or case["answer"] != "image"


@pytest.mark.parametrize("case", [case for case in CASES if "redirect" not in case["name"]], ids=lambda case: case["name"])
def test_the_object_after_an_odd_response_is_the_one_that_was_read(
    reach: Callable[..., Reached], case: dict[str, Any], ca_file: str
) -> None:
    host = reach(case)
    config = Config(**client_config(SETTINGS, endpoint_url=host.first), proxies=host.proxies or None)
    client = AWS.client("s3", endpoint_url=host.first, config=config, verify=ca_file)
    archive = Archive(client, "bucket")
    got = ended(lambda: archive.read("first"))
    second = archive.read("second")
    client.close()

    assert second == SECOND
    assert got == FIRST or case["answer"] != "image"


def test_a_plain_response_leaves_its_connection_open(reach: Callable[..., Reached]) -> None:
    host = reach(CASES[0])
    rules = dataclasses.replace(RULES, proxy=host.proxy)
    with images.session(SETTINGS, rules) as session:
        source = ImageSource(session, SETTINGS, rules)
        for number in range(3):
            source.fetch(f"{host.first}/{number}")

    assert host.server.asked == [1, 1, 1]
