"""Which addresses are asked, and what is told to whom on the way. The corpora are in the files beside this one."""

from __future__ import annotations

import io
import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st
from PIL import Image as Pillow

from anomaly.errors import AddressBlocked, AnomalyError, ImageUnavailable, Misconfigured
from anomaly.escaping import escaped
from anomaly.images import download as images
from anomaly.images.address import ADDRESS_MAX_BYTES, parse, redacted
from anomaly.images.download import ImageSource
from anomaly.images.rules import ImageRules
from anomaly.settings import Settings
from tests.parts.fuzzing import fuzz
from tests.parts.http_stub import HttpStub, Reply

FOLDER = Path(__file__).parent
HOSTILE, PORTS, GOOD = (
    json.loads((FOLDER / f"{name}.json").read_text()) for name in ("hostile_addresses", "hostile_ports", "good_addresses")
)
ANY_PORT = ImageRules.from_extra({"allow_ports": ["1-65535"]})
LOOPBACK = ImageRules.from_extra({"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]})
SETTINGS = Settings(image_retries=1)
NAMES = {
    "localhost": "127.0.0.1",
    "metadata.google.internal": "169.254.169.254",
    "metadata.example": "168.63.129.16",
    "instance-data.ec2.internal": "169.254.169.254",
    "intranet.example": "10.1.2.3",
    "kubernetes.default.svc": "10.96.0.1",
}


def an_image() -> bytes:
    written = io.BytesIO()
    Pillow.new("L", (8, 8), 7).save(written, "PNG")
    return written.getvalue()


PNG = an_image()


def source(rules: ImageRules = LOOPBACK, waits: list[float] | None = None) -> ImageSource:
    slept = waits if waits is not None else []
    return ImageSource(images.session(SETTINGS, rules, sleep=slept.append), SETTINGS, rules)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses to which sockets connect; names are looked up in NAMES alone."""
    connected: list[Any] = []
    resolve = socket.getaddrinfo

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address)
            raise OSError("no connection was expected")

    def look_up(host: str, port: int, *args: Any, **kw: Any) -> Any:
        return resolve(NAMES.get(host.lower(), host), port, *args, **{**kw, "flags": socket.AI_NUMERICHOST})

    monkeypatch.setattr(socket, "socket", Watched)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return connected


@pytest.mark.parametrize(("address", "code"), HOSTILE)
def test_a_hostile_address_is_blocked_and_nothing_is_connected_to(network: list[Any], address: str, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(AnomalyError) as caught:
            source(ANY_PORT).fetch(address.replace("{port}", str(listener.getsockname()[1])))
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert (caught.value.code, network) == (code, [])


@pytest.mark.parametrize(("address", "code"), PORTS)
def test_a_port_is_blocked_unless_it_is_allowed(network: list[Any], address: str, code: str) -> None:
    with pytest.raises(AddressBlocked, match="allow_ports") as caught:
        source(ImageRules()).fetch(address)

    assert (caught.value.code, caught.value.may_concern_run, network) == (code, True, [])


def test_the_corpora_are_large() -> None:
    assert len(HOSTILE) + len(PORTS) >= 150
    assert len(GOOD) >= 40


@pytest.mark.parametrize(("address", "url", "origin", "authorization"), GOOD)
def test_a_good_address_is_read_as_browsers_do(address: str, url: str, origin: str, authorization: str | None) -> None:
    parsed = parse(address)
    assert (parsed.url, parsed.origin, parsed.authorization) == (url, origin, authorization)
    ImageRules().check(parsed)
    assert parse(parsed.url) == parse(url)


def test_ports_are_allowed_by_number_range_and_origin() -> None:
    rules = ImageRules.from_extra({"allow_ports": [8080, "9000-9002"], "hosts": ["http://a.example:7000"]}, host="b.example:7001")
    for allowed in ("http://x:8080/", "https://x:9000/", "http://x:9002/", "http://a.example:7000/", "https://b.example:7001/"):
        rules.check(parse(allowed))
    for blocked in ("http://x:8081/", "http://x:9003/", "http://b.example:7000/", "http://b.example:7001/"):
        with pytest.raises(AddressBlocked, match="allow_ports"):
            rules.check(parse(blocked))


@pytest.mark.parametrize("wrong", [0, 65536, "a", "9-8", "1-65536", None, "-1"])
def test_a_wrong_port_is_named(wrong: Any) -> None:
    with pytest.raises(Misconfigured, match="anomaly_images"):
        ImageRules.from_extra({"allow_ports": [wrong]})


def test_an_address_that_is_missing_or_too_long_is_blocked() -> None:
    with pytest.raises(AddressBlocked, match="no address"):
        source().fetch(None)
    start = "https://images.example/"
    assert parse(start + "a" * (ADDRESS_MAX_BYTES - len(start)))
    with pytest.raises(AddressBlocked, match="longer than 8192 bytes") as caught:
        parse(start + "a" * (ADDRESS_MAX_BYTES - len(start) + 1))
    assert len(str(caught.value)) < 300


# --- user and password


def test_user_and_password_go_to_their_host_only(stub: HttpStub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stub.at("/c", Reply(body=PNG))
    stub.at("/b", Reply(status=302, headers={"Location": stub.url("/c", host="localhost")}))
    url = stub.at("/a", Reply(status=302, headers={"Location": "/b"})).replace("://", "://user:S%2FECRET@")
    assert source().fetch(url).content == PNG

    expected = "Basic dXNlcjpTL0VDUkVU"
    assert [seen.headers.get("authorization") for seen in stub.requests] == [expected, expected, None]
    assert "ECRET" not in caplog.text
    assert expected not in caplog.text


def test_headers_of_the_connection_have_priority_over_user_and_password(stub: HttpStub) -> None:
    extra = {"headers": {"authorization": "Bearer b"}, "hosts": [stub.url("")], "allow_networks": ["127.0.0.0/8"]}
    source(ImageRules.from_extra(extra)).fetch(stub.at("/a", Reply(body=PNG)).replace("://", "://user:password@"))

    assert stub.requests[0].headers["authorization"] == "Bearer b"


SECRETS = ["SECRET", "SEC/RET", "SEC?RET", "SEC#RET", "SEC@RET", "12/SECRET", "S:E@C/RET", "SEC\\RET", "/SECRET", "?SECRET", "1/2?3#SECRET"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form", ["http://user:{}@h.example/a", "http://user:{}@h.example:99999/a", "user:{}@h.example/a", "http:/user:{}@h/"]
)
def test_no_password_is_shown(secret: str, form: str) -> None:
    url = form.format(secret)
    for shown in (redacted(url), str(_blocked(url))):
        assert not {"SEC", "RET"} & set(shown.replace("SECRET", "SEC").replace("/", " ").replace("@", " ").split())
        assert "SECRET" not in shown


def _blocked(url: str) -> AnomalyError | None:
    try:
        parse(url)
    except AnomalyError as exc:
        return exc
    return None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h.example/a.png?sig=SECRET#x", "https://h.example/a.png"),
        ("https://h.example/photos/12@N00/a.png", "https://h.example/photos/12@N00/a.png"),
        ("https://user:password@h.example:8443/a.png", "https://h.example:8443/a.png"),
        ("https://h.example:8443/a@b.png", "https://***"),
        ("ht\ntp://a", r"ht\ntp://a"),
        ("http://a/\x1b[31m", r"http://a/\x1b[31m"),
    ],
)
def test_an_address_is_shown_in_one_line(url: str, shown: str) -> None:
    assert redacted(url) == shown


# --- what hosts ask for


def test_a_host_that_negotiates_is_offered_anything_else_last(stub: HttpStub) -> None:
    def negotiate(seen: Any) -> Reply:
        return Reply(body=PNG) if "*/*" in seen.headers["accept"] else Reply(status=406)

    assert source().fetch(stub.at("/a", negotiate)).content == PNG
    assert stub.requests[0].headers["accept"] == "image/*, */*;q=0.1"


def test_a_cookie_holds_for_one_chain_of_redirects_and_its_host(stub: HttpStub) -> None:
    def gate(seen: Any) -> Reply:
        if seen.headers.get("cookie") == "id=1":
            return Reply(status=302, headers={"Location": stub.url("/other", host="localhost")})
        return Reply(status=302, headers={"Location": "/gate", "Set-Cookie": "id=1; Path=/"})

    stub.at("/other", Reply(body=PNG))
    made = source()
    url = stub.at("/gate", gate)
    for _ in range(2):
        assert made.fetch(url).content == PNG

    assert [seen.headers.get("cookie") for seen in stub.requests] == [None, "id=1", None] * 2


def test_an_image_that_is_still_being_made_is_asked_for_again(stub: HttpStub) -> None:
    waits: list[float] = []
    made = source(waits=waits)
    later = Reply(status=202, headers={"Retry-After": "7"}, body=b"{}")
    assert made.fetch(stub.at("/a", later, Reply(body=PNG))).content == PNG
    assert waits == pytest.approx([7.0], rel=0.1)

    with pytest.raises(ImageUnavailable, match="still being made"):
        made.fetch(stub.at("/b", later))
    assert len(stub.asked("/b")) == 2
    assert made.fetch(stub.at("/c", Reply(status=202, body=PNG))).content == PNG


# --- fuzzed

WORDS = "http:// https:// // / \\ ? # @ : [ ] % %25 %00 .. . 127.0.0.1 0x7f.1 ::1 \u2100 \u00df xn-- user:pa example"
PIECES = [*WORDS.split(), "\u0663", "80", "ftp:", "\uff20", "\u3002", "\n", "\t", " ", "\0", "\ud800", "a" * 70]
TEXTS = st.one_of(
    st.text(), st.lists(st.sampled_from(PIECES)).map("".join), st.lists(st.sampled_from(PIECES)).map(lambda p: "http://" + "".join(p))
)
BASE = parse("https://user:password@images.example/a/b.png")


@fuzz(TEXTS, examples=500)
@example("\xa0")
def test_any_text_is_an_address_or_blocked(text: str) -> None:
    for base in (None, BASE):
        try:
            address = parse(text, base=base)
        except AddressBlocked:
            assert escaped(redacted(text)) == redacted(text)
        else:
            assert parse(address.url).url == address.url
            assert address.url.isascii()
            assert address.authorization != BASE.authorization or address.origin == BASE.origin or "user:pa" in text


LATIN = st.lists(st.sampled_from([piece.encode("utf-8", "replace").decode("latin-1") for piece in PIECES])).map("".join)


@fuzz(location=LATIN, examples=150)
def test_any_redirect_ends_in_an_error_of_ours(redirecting: tuple[HttpStub, ImageSource], location: str) -> None:
    stub, made = redirecting
    one_line = location.replace("\n", "").replace("\0", "")
    head = f"HTTP/1.1 302 Found\r\nLocation: {one_line}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with pytest.raises(AnomalyError):
        made.fetch(stub.at("/a", Reply(raw=head)))
    stub.requests.clear()


@pytest.fixture
def redirecting(stub: HttpStub, monkeypatch: pytest.MonkeyPatch) -> tuple[HttpStub, ImageSource]:
    """A server and a source that may reach it; no name is looked up."""
    resolve = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **kw: Any) -> Any:
        return resolve(host, port, *args, **{**kw, "flags": socket.AI_NUMERICHOST})

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    rules = ImageRules.from_extra({"allow_networks": ["127.0.0.1/32"], "hosts": [stub.url("")]})
    brief = Settings(image_retries=0, image_read_timeout_s=1)  # another server of this machine may be silent
    return stub, ImageSource(images.session(brief, rules), brief, rules)
