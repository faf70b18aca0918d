"""What goes over a connection, where it is encrypted and where a proxy is in between."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from urllib3 import Timeout

from anomaly.transport.session import REQUEST_ERRORS, PooledSession, read_body, request_target
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WAIT = Timeout(connect=5, read=5)
CA = trustme.CA()
LARGE = 256 * 1024


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpStub]:
    """A server that speaks TLS as localhost, trusted by whoever reads REQUESTS_CA_BUNDLE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with HttpStub(tls=context) as stub:
        yield stub


@pytest.fixture
def tunnel() -> Iterator[Tunnel]:
    with Tunnel() as proxy:
        yield proxy


def session(proxies: Mapping[str, str] | None = None, *, deadline_s: float = 20.0) -> PooledSession:
    return PooledSession(origins=1, connections=2, deadline_s=deadline_s, proxies=proxies or {})


def answer(by: PooledSession, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    method = "POST" if body is not None else "GET"
    with by.open_response(method, url, origin="it", headers=headers or {}, timeout=WAIT, body=body) as response:
        return read_body(response, max_bytes=100_000)


def test_an_encrypted_request_names_its_host_and_keeps_its_connection(secure: HttpStub) -> None:
    url = secure.at("/a", Reply(body=b"one"), Reply(body=b"two", chunked=True), Reply(body=b"three"))
    with session() as ours:
        assert [answer(ours, f"{url}?b=c", body) for body in (b"x", None, b"y" * (LARGE + 1))] == [b"one", b"two", b"three"]

    assert [(seen.method, seen.path, len(seen.body), seen.connection) for seen in secure.requests] == [
        ("POST", "/a?b=c", 1, 1),
        ("GET", "/a?b=c", 0, 1),
        ("POST", "/a?b=c", LARGE + 1, 1),
    ]
    assert {seen.headers["host"] for seen in secure.requests} == {f"localhost:{secure.port}"}


def test_a_certificate_that_nobody_vouches_for_is_a_failure(secure: HttpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with session() as ours, pytest.raises(REQUEST_ERRORS, match="CERTIFICATE_VERIFY_FAILED"):
        answer(ours, secure.at("/a", Reply()))
    assert secure.requests == []


def test_behind_a_proxy_an_encrypted_request_goes_through_a_tunnel(secure: HttpStub, tunnel: Tunnel) -> None:
    with session({"https": tunnel.url}) as ours:
        assert answer(ours, secure.at("/a", Reply(body=b"one")), b"x") == b"one"
        assert answer(ours, secure.at("/b", Reply(body=b"two"))) == b"two"

    assert tunnel.asked == [f"localhost:{secure.port}"]
    assert [(seen.path, seen.headers["host"]) for seen in secure.requests] == [(path, f"localhost:{secure.port}") for path in ("/a", "/b")]


def test_behind_a_proxy_a_slow_head_ends_by_the_deadline(stub: HttpStub) -> None:
    url = "http://images.example.com/a"
    stub.at(url, Reply(body=b"one", trickled="headers", trickle_s=0.05))  # would take over a minute, and no silence is long
    with session({"http": stub.url("").rstrip("/")}, deadline_s=0.2) as ours, pytest.raises(REQUEST_ERRORS, match="timed out"):
        answer(ours, url)
    assert [seen.path for seen in stub.requests] == [url]


def test_behind_a_tunnel_a_slow_head_ends_by_the_deadline(secure: HttpStub, tunnel: Tunnel) -> None:
    slow = secure.at("/a", Reply(body=b"one", trickled="headers", trickle_s=0.05))
    with session({"https": tunnel.url}, deadline_s=0.2) as ours, pytest.raises(REQUEST_ERRORS, match="timed out"):
        answer(ours, slow)
    assert len(secure.requests) == 1


SMUGGLED = b"oneHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"


def test_a_connection_with_bytes_after_the_body_is_not_used_again(stub: HttpStub) -> None:
    url = stub.at("/a", Reply(body=SMUGGLED, headers={"Content-Length": "3"}), Reply(body=b"three"))
    with session() as ours:
        assert [answer(ours, url), answer(ours, url)] == [b"one", b"three"]

    assert [seen.connection for seen in stub.requests] == [1, 2]


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"one", {}), (b"x" * 20_000, {"Content-Encoding": "identity"})], ids=["buffered", "decrypted"]
)
def test_an_encrypted_connection_with_bytes_after_the_body_is_not_used_again(
    secure: HttpStub, body: bytes, encoding: dict[str, str]
) -> None:
    """The second body ends in its second TLS record, of which no more is asked for than the body's last bytes."""
    long = Reply(body=body + b"HTTP/1.1 200 OK" * 100, headers={"Content-Length": str(len(body)), **encoding})
    url = secure.at("/a", long, Reply(body=b"two"))
    with session() as ours:
        assert [answer(ours, url), answer(ours, url)] == [body, b"two"]

    assert [seen.connection for seen in secure.requests] == [1, 2]


def test_a_read_body_leaves_its_connection_open(stub: HttpStub) -> None:
    url = stub.at("/a", Reply(body=b"one"), Reply(body=b"two", chunked=True), Reply())
    with session() as ours:
        assert [answer(ours, url) for _ in range(3)] == [b"one", b"two", b""]

    assert stub.connections == 1


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"host": "127.0.0.1:{port}", "accept-encoding": "identity"}),
        ({"host": "other", "Accept-Encoding": "gzip"}, {"host": "other", "accept-encoding": "gzip"}),
        ({"X-Name": "\xfc"}, {"host": "127.0.0.1:{port}", "accept-encoding": "identity", "x-name": "\xfc"}),
    ],
)
def test_a_request_has_the_headers_that_it_needs_once(stub: HttpStub, given: dict[str, str], sent: dict[str, str]) -> None:
    with session() as ours:
        answer(ours, stub.at("/a", Reply()), headers={"User-Agent": "anomaly", **given})

    sent = {"user-agent": "anomaly", **sent}
    assert dict(stub.requests[0].headers) == {name: value.format(port=stub.port) for name, value in sent.items()}


def test_a_body_that_is_empty_has_a_length(stub: HttpStub) -> None:
    with session() as ours:
        answer(ours, stub.at("/a", Reply()), b"")

    assert stub.requests[0].headers["content-length"] == "0"


def test_a_header_that_would_be_two_is_not_sent(stub: HttpStub) -> None:
    with session() as ours, pytest.raises(ValueError, match="Invalid header value"):
        answer(ours, stub.at("/a", Reply()), headers={"X-Name": "a\r\nX-Other: b"})

    assert stub.requests == []


def test_the_target_is_path_and_query() -> None:
    assert request_target("http://h:80/a//b?c=/d#e") == "/a//b?c=/d"
    assert request_target("https://h/") == "/"
