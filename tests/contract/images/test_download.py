"""The real session against a real server; only sleep and randomness are ours."""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from anomaly.errors import (
    AddressBlocked,
    AnomalyError,
    ImageDenied,
    ImageNotAnImage,
    ImageNotFound,
    ImageTooLarge,
    ImageUnavailable,
    Misconfigured,
)
from anomaly.images import download as images
from anomaly.images.download import ImageSource
from anomaly.images.rules import ImageRules
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_PORT = ["1-65535"]
PUBLIC = ImageRules.from_extra({"allow_ports": ANY_PORT})
LOOPBACK = ImageRules.from_extra({"allow_networks": ["127.0.0.0/8", "::1/128"], "allow_ports": ANY_PORT})


class Least(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002  # the signature is the base class's
        return a


class Most(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002  # the signature is the base class's
        return b


def an_image(kind: str = "PNG", *, size: tuple[int, int] = (40, 30)) -> bytes:
    written = io.BytesIO()
    Pillow.effect_noise(size, 60).save(written, kind)
    return written.getvalue()


PNG = an_image()
Make = Callable[..., ImageSource]


@pytest.fixture
def waits() -> list[float]:
    """What was slept, in seconds."""
    return []


@pytest.fixture
def source(waits: list[float]) -> Iterator[Make]:
    sessions = []

    def make(rules: ImageRules = LOOPBACK, *, rng: Random | None = None, **settings: Any) -> ImageSource:
        chosen = Settings(**settings)
        sessions.append(images.session(chosen, rules, sleep=waits.append, rng=rng or Least()))
        return ImageSource(sessions[-1], chosen, rules)

    yield make
    for session in sessions:
        session.close()


def test_an_image_comes_whole_with_hash_size_and_the_type_of_its_content(stub: HttpStub, source: Make) -> None:
    image = source().fetch(stub.at("/a", Reply(body=PNG, content_type="text/html")))

    assert (image.content, image.media_type, image.width_px, image.height_px) == (PNG, "image/png", 40, 30)
    assert len(image.sha256) == 64


def test_failures_are_retried_after_1_2_and_4_seconds(stub: HttpStub, source: Make, waits: list[float]) -> None:
    url = stub.at("/a", Reply(status=500), Reply(status=502), Reply(status=504), Reply(body=PNG))

    assert source().fetch(url).content == PNG
    assert waits == [1.0, 2.0, 4.0]


def test_after_three_retries_the_image_is_unavailable(stub: HttpStub, source: Make, waits: list[float]) -> None:
    with pytest.raises(ImageUnavailable, match="answered 503"):
        source().fetch(stub.at("/a", Reply(status=503)))

    assert waits == [1.0, 2.0, 4.0]
    assert len(stub.asked("/a")) == 4


def test_the_waits_grow_by_at_most_a_tenth(stub: HttpStub, source: Make, waits: list[float]) -> None:
    with pytest.raises(ImageUnavailable):
        source(rng=Most()).fetch(stub.at("/a", Reply(status=500)))

    assert waits == pytest.approx([1.1, 2.2, 4.4])


def test_number_and_length_of_retries_are_settings(stub: HttpStub, source: Make, waits: list[float]) -> None:
    with pytest.raises(ImageUnavailable):
        source(image_retries=2, image_backoff_s=0.5).fetch(stub.at("/a", Reply(status=500)))

    assert waits == [0.5, 1.0]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_retry_after_is_honoured(stub: HttpStub, source: Make, waits: list[float], status: int) -> None:
    url = stub.at("/a", Reply(status=status, headers={"Retry-After": "30"}), Reply(body=PNG))

    assert source().fetch(url).content == PNG
    assert waits == [30.0]


def test_a_short_retry_after_does_not_shorten_the_backoff(stub: HttpStub, source: Make, waits: list[float]) -> None:
    soon = Reply(status=503, headers={"Retry-After": "1"})
    source().fetch(stub.at("/a", soon, soon, soon, Reply(body=PNG)))

    assert waits == [1.0, 2.0, 4.0]


def test_a_longer_retry_after_than_30_s_is_left_to_a_later_attempt(stub: HttpStub, source: Make, waits: list[float]) -> None:
    with pytest.raises(ImageUnavailable, match="answered 429"):
        source().fetch(stub.at("/a", Reply(status=429, headers={"Retry-After": "31"}), Reply(body=PNG)))

    assert waits == []


@pytest.mark.parametrize("broken", [Reply(reset=True), Reply(raw=b""), Reply(raw=b"what?\r\n\r\n")], ids=["reset", "closed", "no HTTP"])
def test_a_broken_connection_is_retried(stub: HttpStub, source: Make, waits: list[float], broken: Reply) -> None:
    assert source().fetch(stub.at("/a", broken, Reply(body=PNG))).content == PNG
    assert waits == [1.0]


def test_a_refused_connection_is_retried(source: Make, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(ImageUnavailable, match="NewConnectionError"):
            source().fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/a")

    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 418])
def test_a_refusal_is_not_retried(stub: HttpStub, source: Make, waits: list[float], status: int) -> None:
    with pytest.raises(ImageNotFound if status in {404, 410} else ImageDenied):
        source().fetch(stub.at("/a", Reply(status=status, headers={"Retry-After": "1"})))

    assert waits == []
    assert len(stub.asked("/a")) == 1


def test_every_status_ends_in_an_image_or_an_error_of_ours(stub: HttpStub, source: Make) -> None:
    made = source(image_retries=0)
    for status in range(200, 600):
        try:
            assert made.fetch(stub.at("/a", Reply(status=status, body=PNG, headers={"Connection": "close"}))).content == PNG
        except AnomalyError:
            assert status >= 204
        else:
            assert status < 300


def test_silence_of_30_seconds_is_what_the_socket_waits_for(stub: HttpStub, source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s: list[float | None] = []

    class Watched(socket.socket):
        def settimeout(self, value: float | None) -> None:
            set_s.append(value)
            super().settimeout(value)

    url, made = stub.at("/a", Reply(body=PNG)), source()
    monkeypatch.setattr(socket, "socket", Watched)
    made.fetch(url)

    assert set_s == [5.0, 30.0]  # to connect, then to read


def test_silence_before_the_answer_is_a_failure_and_retried(stub: HttpStub, source: Make, waits: list[float]) -> None:
    url = stub.at("/a", Reply(headers_after_s=60, body=PNG), Reply(body=PNG))

    assert source(image_read_timeout_s=0.1).fetch(url).content == PNG
    assert waits == [1.0]


def test_silence_within_the_body_is_a_failure(stub: HttpStub, source: Make) -> None:
    with pytest.raises(ImageUnavailable, match="ReadTimeoutError"):
        source(image_read_timeout_s=0.1).fetch(stub.at("/a", Reply(body=PNG, trickled="body", trickle_s=60)))


@pytest.mark.parametrize("part", ["headers", "body"])
def test_an_answer_that_trickles_ends_at_the_deadline(stub: HttpStub, source: Make, part: str) -> None:
    reply = Reply(body=PNG, trickled=part, trickle_s=0.05)  # would take over a minute, and no silence is long
    with pytest.raises(ImageUnavailable, match="ReadTimeoutError"):
        source(image_deadline_s=1, image_retries=0).fetch(stub.at("/a", reply))


@pytest.mark.parametrize(
    "short",
    [
        Reply(body=PNG, cut_at=100),
        Reply(body=PNG, cut_at=100, reset=True),
        Reply(body=PNG, cut_at=100, chunked=True),
        Reply(body=PNG, headers={"Content-Encoding": "gzip"}),
    ],
    ids=["closed", "reset", "chunked", "no gzip"],
)
def test_a_body_that_does_not_come_whole_is_unavailable_for_now(stub: HttpStub, source: Make, short: Reply) -> None:
    with pytest.raises(ImageUnavailable):
        source().fetch(stub.at("/a", short))


def test_a_chunked_body_is_read(stub: HttpStub, source: Make) -> None:
    assert source().fetch(stub.at("/a", Reply(body=PNG, chunked=True))).content == PNG


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: {size}\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: {size}\n\n",
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Long: {long}\r\nContent-Length: {size}\r\n\r\n",
    ],
)
def test_a_head_may_be_written_in_any_way(stub: HttpStub, source: Make, head: str) -> None:
    raw = head.format(size=len(PNG), long="x" * 40_000).encode() + PNG
    assert source(image_retries=0).fetch(stub.at("/a", Reply(raw=raw))).content == PNG


def test_an_announced_length_over_the_limit_is_refused_before_it_is_read(stub: HttpStub, source: Make) -> None:
    announced = Reply(body=PNG, headers={"Content-Length": "1000000"}, cut_at=0)
    with pytest.raises(ImageTooLarge, match="1000000 bytes"):
        source(image_max_bytes=999_999).fetch(stub.at("/a", announced))


def test_an_unannounced_length_is_counted_while_it_is_read(stub: HttpStub, source: Make) -> None:
    with pytest.raises(ImageTooLarge):
        source(image_max_bytes=len(PNG) - 1).fetch(stub.at("/a", Reply(body=PNG, chunked=True)))
    assert source(image_max_bytes=len(PNG)).fetch(stub.at("/b", Reply(body=PNG, chunked=True))).content == PNG


def test_a_page_instead_of_an_image_is_no_image(stub: HttpStub, source: Make) -> None:
    with pytest.raises(ImageNotAnImage):
        source().fetch(stub.at("/a", Reply(body=b"<html>Please log in</html>", content_type="image/png")))


def test_redirects_are_followed_five_times(stub: HttpStub, source: Make) -> None:
    for number in range(6):
        stub.at(f"/{number}", Reply(status=302, headers={"Location": f"/{number + 1}"}))
    stub.at("/6", Reply(body=PNG))

    assert source().fetch(stub.url("/1")).content == PNG
    with pytest.raises(ImageDenied, match="5 redirects"):
        source().fetch(stub.url("/0"))


@pytest.mark.parametrize("chunked", [True, False])
def test_a_redirects_large_body_is_not_read_to_its_end(stub: HttpStub, source: Make, chunked: bool) -> None:  # noqa: FBT001  # a case
    stub.at("/b", Reply(body=PNG))
    large = Reply(status=302, headers={"Location": "/b"}, body=b" " * 10_000_000, chunked=chunked)

    assert source().fetch(stub.at("/a", large)).content == PNG
    assert stub.connections == 2  # read to its end, the first would have been used again


def test_a_redirects_broken_body_does_not_matter(stub: HttpStub, source: Make) -> None:
    stub.at("/b", Reply(body=PNG))

    assert source().fetch(stub.at("/a", Reply(status=302, headers={"Location": "/b"}, body=b"moved", cut_at=1))).content == PNG


def test_redirects_keep_the_connection(stub: HttpStub, source: Make) -> None:
    stub.at("/b", Reply(body=PNG))
    url = stub.at("/a", Reply(status=302, headers={"Location": "/b"}, body=b"moved"))
    made = source()
    for _ in range(5):
        made.fetch(url)

    assert stub.connections == 1


# --- where images may come from


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0", "[::]"])
def test_loopback_by_any_name_is_not_even_connected_to(stub: HttpStub, source: Make, host: str) -> None:
    with pytest.raises((AddressBlocked, ImageUnavailable)) as caught:
        source(PUBLIC, image_retries=0).fetch(stub.url("/a", host=host))

    assert stub.connections == 0
    assert isinstance(caught.value, AddressBlocked) or "NameResolutionError" in str(caught.value)


def test_a_name_that_resolves_to_loopback_is_blocked(stub: HttpStub, source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **kw: resolve("127.0.0.1" if host.endswith(".test") else host, *args, **kw)
    )
    with pytest.raises(AddressBlocked, match=r"images\.test"):
        source(PUBLIC).fetch(stub.url("/a", host="images.test"))
    assert stub.connections == 0

    stub.at("/a", Reply(body=PNG))
    assert source().fetch(stub.url("/a", host="images.test")).content == PNG
    assert stub.requests[0].headers["host"] == f"images.test:{stub.port}"


def test_what_was_judged_is_what_is_connected_to(stub: HttpStub, source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that says first 8.8.8.8 and then 127.0.0.1 gains nothing: the name is not looked up again."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: str, *args: Any, **kw: Any) -> Any:
        asked.append(host)
        return resolve({1: "127.0.0.2"}.get(len(asked), "127.0.0.1") if host == "rebinding.test" else host, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    rules = ImageRules.from_extra({"allow_networks": ["127.0.0.2/32"], "allow_ports": ANY_PORT})
    with pytest.raises(ImageUnavailable, match="NewConnectionError"):
        source(rules, image_retries=0).fetch(stub.url("/a", host="rebinding.test"))

    assert asked == ["rebinding.test", "127.0.0.2"]
    assert stub.connections == 0


def test_the_silent_addresses_of_a_name_share_the_deadline(source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    resolve = socket.getaddrinfo

    def many(host: str, port: int, *args: Any, **kw: Any) -> Any:
        if host == "silent.test":
            return [entry for last in range(1, 200) for entry in resolve(f"127.0.0.{last}", port, *args, **kw)]
        tried.append(host)
        return resolve(host, port, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", many)
    with socket.create_server(("", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        queued = [socket.socket() for _ in range(4)]  # they fill the backlog, so that nothing else is accepted
        for each in queued:
            each.setblocking(False)  # the name is the standard library's
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(ImageUnavailable, match="ConnectTimeoutError"):
            source(image_deadline_s=1, image_connect_timeout_s=0.1, image_retries=0).fetch(f"http://silent.test:{port}/a")
        for each in queued:
            each.close()

    assert 0 < len(tried) < 20


def test_a_redirect_to_a_blocked_address_is_blocked(stub: HttpStub, source: Make) -> None:
    inner = stub.at("/inner", Reply(body=PNG))
    rules = ImageRules.from_extra({"allow_networks": ["127.0.0.1/32"], "allow_ports": ANY_PORT})
    url = stub.at("/a", Reply(status=302, headers={"Location": inner.replace("127.0.0.1", "127.0.0.2")}))
    with pytest.raises(AddressBlocked, match=r"127\.0\.0\.2"):
        source(rules).fetch(url)

    assert stub.connections == 1
    assert stub.asked("/inner") == []


@pytest.mark.parametrize(
    "url",
    ["", "a.png", "file:///etc/passwd", "ftp://example.com/a", "gopher://127.0.0.1/", "http://", "http:///a", "http://[::1", "http://a:99999/",
     "http://exa mple.com/", "data:image/png;base64,AAAA", "http://*/", "httpx://example.com/", "http://\0/"],
)  # fmt: skip
def test_what_is_no_web_address_is_blocked(source: Make, waits: list[float], url: str) -> None:
    with pytest.raises(AddressBlocked):
        source().fetch(url)
    assert waits == []


def test_a_redirect_to_another_scheme_is_blocked(stub: HttpStub, source: Make) -> None:
    with pytest.raises(AddressBlocked):
        source().fetch(stub.at("/a", Reply(status=302, headers={"Location": "file:///etc/passwd"})))


# --- what is told to whom


def test_headers_go_to_the_connections_hosts_only(stub: HttpStub, source: Make) -> None:
    extra = {
        "headers": {"X-Key": "k"},
        "hosts": [f"http://127.0.0.1:{stub.port}"],
        "allow_networks": ["127.0.0.0/8"],
        "allow_ports": ANY_PORT,
    }
    stub.at("/b", Reply(body=PNG))
    source(ImageRules.from_extra(extra)).fetch(stub.at("/a", Reply(status=302, headers={"Location": stub.url("/b", host="localhost")})))

    assert [(seen.path, seen.headers.get("x-key")) for seen in stub.requests] == [("/a", "k"), ("/b", None)]


def test_a_host_without_scheme_gets_its_headers_by_https_only() -> None:
    assert ImageRules.from_extra({}, host="images.example.com").origins == {"https://images.example.com:443"}


def test_cookies_are_not_kept(stub: HttpStub, source: Make) -> None:
    made = source()
    for _ in range(2):
        made.fetch(stub.at("/a", Reply(body=PNG, headers={"Set-Cookie": "id=1; Path=/"})))

    assert "cookie" not in stub.requests[1].headers


def test_proxies_and_passwords_of_the_environment_are_not_used(
    stub: HttpStub, source: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login l password p\n")
    monkeypatch.setitem(os.environ, "NETRC", str(tmp_path / "netrc"))
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:9")
    source().fetch(stub.at("/a", Reply(body=PNG)))

    assert "authorization" not in stub.requests[0].headers


def test_a_configured_proxy_is_asked_instead_of_the_host(stub: HttpStub, source: Make) -> None:
    stub.at("http://images.example.com/a", Reply(body=PNG))
    source(ImageRules.from_extra({"proxy": stub.url("")})).fetch("http://images.example.com/a")

    assert stub.requests[0].path == "http://images.example.com/a"


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "168.63.129.16", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "127.1", "[::ffff:10.0.0.1]", "[fd00::1]"],
)
def test_behind_a_proxy_a_host_that_is_a_forbidden_address_in_any_spelling_is_not_asked_for(
    stub: HttpStub, source: Make, host: str
) -> None:
    with pytest.raises(AddressBlocked, match="allow_networks"):
        source(ImageRules.from_extra({"proxy": stub.url("")})).fetch(f"http://{host}/a")
    assert stub.requests == []


@pytest.mark.parametrize("proxy", ["", "proxy", "http://", "http://[", "socks5://127.0.0.1:1080", "ftp://proxy", "http://127..0.1"])
def test_a_proxy_that_is_no_address_is_refused_before_any_record_fails(proxy: str) -> None:
    with pytest.raises(Misconfigured, match="connection anomaly_images: "):
        ImageRules.from_extra({"proxy": proxy})


def test_no_query_string_or_password_is_written_down(stub: HttpStub, source: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stub.at("/a", Reply(reset=True), Reply(status=500), Reply(status=404))
    for url in (stub.url("/a?sig=SECRET#SECRET"), stub.url("/b?sig=SECRET", host="u:SECRET@127.0.0.1"), "http://u:SECRET@[::1/?SECRET"):
        with pytest.raises(AnomalyError) as caught:
            source().fetch(url)
        assert "SECRET" not in str(caught.value)
        assert "SECRET" not in str(caught.value.__cause__)

    assert "/a" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    "extra", [{"header": {}}, {"headers": []}, {"allow_networks": ["10.0.0.1/8"]}, {"allow_networks": [None]}, {"hosts": ["ftp://a"]}]
)
def test_a_wrong_extra_is_named(extra: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="anomaly_images"):
        ImageRules.from_extra(extra)


# --- many at once


def test_many_downloads_share_as_many_connections_as_there_are_workers(stub: HttpStub, source: Make) -> None:
    made, url = source(fetch_workers=8), stub.at("/a", Reply(body=PNG))
    with ThreadPoolExecutor(8) as pool:
        assert all(image.content == PNG for image in pool.map(made.fetch, [url] * 200))

    assert len(stub.requests) == 200
    assert stub.connections <= 8


def test_a_shutdown_interrupts_a_wait(stub: HttpStub) -> None:
    class Shutdown(BaseException):
        pass

    def interrupted(_: float) -> None:
        raise Shutdown

    settings = Settings()
    with images.session(settings, LOOPBACK, sleep=interrupted) as session, pytest.raises(Shutdown):
        ImageSource(session, settings, LOOPBACK).fetch(stub.at("/a", Reply(status=503)))
