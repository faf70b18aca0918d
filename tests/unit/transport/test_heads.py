"""Heads that are written and read by hand, held against the standard library."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING

import pytest

from anomaly.transport import heads

if TYPE_CHECKING:
    import socket

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n"


class _Line:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def by_the_standard_library(data: bytes) -> HTTPResponse:
    line: socket.socket = _Line(data)  # type: ignore[assignment]  # as much of one as it asks for
    response = HTTPResponse(line)
    response.begin()
    return response


def test_a_request_is_written_as_it_is_said() -> None:
    fields = {"Host": "h:8080", "X-Empty": "", "X-Name": "\xfc a\tb"}

    assert (
        heads.written("PUT", "/a%20b?c=d", fields.items())
        == b"PUT /a%20b?c=d HTTP/1.1\r\nHost: h:8080\r\nX-Empty: \r\nX-Name: \xfc a\tb\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("GE T", "/", "A", "b"),
        ("", "/", "A", "b"),
        ("GET", "", "A", "b"),
        ("GET", "/a b", "A", "b"),
        ("GET", "/a\r\nX: y", "A", "b"),
        ("GET", "/", "", "b"),
        ("GET", "/", "A:", "b"),
        ("GET", "/", "A b", "b"),
        ("GET", "/", "A\r\nX", "b"),
        ("GET", "/", "A", "b\r\nX: y"),
        ("GET", "/", "A", "b\nX: y"),
        ("GET", "/", "A", "b\r"),
        ("GET", "/", "A", "b\x00"),
        ("GET", "/", "A", "\u20ac"),
    ],
)
def test_nothing_can_be_slipped_into_a_request(method: str, target: str, name: str, value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the interpreter's own, where there is no such letter
        heads.written(method, target, [(name, value)])


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN + b"12345",
        b"HTTP/1.1 503 \r\nretry-after:  7 \t\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nCONTENT-LENGTH: 12\r\nConnection: Keep-Alive\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d: e\r\nX:\r\n\r\n",
        b"HTTP/1.1 200 \xfc\r\nX-Name: \xfc\xff\r\nContent-Length: 007\r\n\r\n",
    ],
)
def test_a_plain_head_reads_as_the_standard_library_reads_it(data: bytes) -> None:
    head, theirs = heads.read(data), by_the_standard_library(data)

    assert head is not None
    assert (head.status, head.reason, head.body_bytes) == (theirs.status, theirs.reason, theirs.length)
    assert head.fields == [(name, value.strip()) for name, value in theirs.headers.items()]
    assert (theirs.chunked, theirs.will_close) == (False, False)
    assert data[head.size :] == theirs.fp.read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"200", b"100"),
        PLAIN.replace(b"200", b"204"),
        PLAIN.replace(b"200", b"304"),
        PLAIN.replace(b"200", b"600"),
        PLAIN.replace(b" OK", b""),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b": image", b":\r\n image"),
        PLAIN.replace(b"image/jpeg", b"image\n/jpeg"),
        PLAIN.replace(b"Content-Type:", b"Content-Type :"),
        PLAIN.replace(b"Content-Type:", b"Content-Type"),
        PLAIN.replace(b"Content-Length: 5\r\n", b""),
        PLAIN.replace(b"Length: 5", b"Length: +5"),
        PLAIN.replace(b"Length: 5", b"Length: 5, 5"),
        PLAIN.replace(b"Length: 5", b"Length: \xb2"),
        PLAIN.replace(b"Length: 5", b"Length: 5\r\ncontent-length: 5"),
        PLAIN.replace(b"Content-Type: image/jpeg", b"Connection: close"),
        PLAIN.replace(b"Content-Type: image/jpeg", b"connection: keep-alive, upgrade"),
        PLAIN.replace(b"Content-Type: image/jpeg", b"Transfer-Encoding: chunked"),
    ],
)
def test_anything_else_is_left_to_the_standard_library(data: bytes) -> None:
    assert heads.read(data) is None
