"""A minimal HTTP server that uses little processor time, so that a benchmark measures its clients.

It injects no faults; for those see `tests.parts.http_stub`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BODY_MAX_BYTES = 64 * 1024
"""Largest body that is kept whole. Of larger ones, the first bytes are kept."""
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


class Service(Protocol):
    """A service behind one port."""

    def connected(self) -> None: ...
    def begun(self, request: Request) -> None:
        """Called when the head is received; the body may follow."""

    def complete(self, request: Request, respond: Respond) -> None: ...
    def gone(self, request: Request) -> None:
        """Called when the client disconnects before the response."""


class Respond(Protocol):
    def __call__(self, status: int, pieces: Sequence[bytes] = (), content_type: bytes = b"application/json") -> None: ...


class Request:
    """A request that is being received."""

    def __init__(self, head: bytes) -> None:
        method, target, _ = head[: head.index(b"\r\n")].split(b" ", 2)
        length = _LENGTH.search(head)
        self.head = head
        self.method = method.decode()
        self.target = target.decode()
        self.length = int(length[1]) if length else 0
        self.body = bytearray()
        self.left = self.length

    def feed(self, data: bytes) -> None:
        self.left -= len(data)
        if self.length <= BODY_MAX_BYTES or not self.body:
            self.body += data

    def has(self, header: bytes) -> bool:
        return header in self.head.lower()


class RoundTrip:
    """A network's round trip time. Data from a client is delayed by one; its first data by two, for the handshake."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def due(self, now: float, last: float) -> float:
        """Return when data sent at *now* arrives. *last* is the arrival of the data before it, 0 on a new connection."""
        return max(last, now + self.seconds * (1 if last else 2))


class DelayedProtocol(asyncio.Protocol):
    """A connection whose received data is delayed."""

    transport: asyncio.Transport

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._last = 0.0
        self._under_way: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's is one

    def data_received(self, data: bytes) -> None:
        if not self._round_trip.seconds:
            self.arrived(data)
            return
        self._last = self._round_trip.due(self._loop.time(), self._last)
        self._under_way.append(data)
        self._loop.call_at(self._last, self._next)  # timers of one time may fire in any order

    def _next(self) -> None:
        self.arrived(self._under_way.popleft())

    def arrived(self, data: bytes) -> None:
        raise NotImplementedError


class HttpConnection(DelayedProtocol):
    """A connection of HTTP/1.1 with keep-alive, without pipelining and chunked requests."""

    def __init__(self, service: Service, round_trip: RoundTrip) -> None:
        super().__init__(round_trip)
        self._service = service
        self._buffer = b""
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._service.connected()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._request is not None:
            self._service.gone(self._request)

    def arrived(self, data: bytes) -> None:
        if self._request is None:
            self._buffer += data
            if (end := self._buffer.find(_END)) < 0:
                return
            self._request = Request(self._buffer[: end + len(_END)])
            data, self._buffer = self._buffer[end + len(_END) :], b""
            self._service.begun(self._request)
            if not data and _EXPECT.search(self._request.head):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._request.feed(data)
        if self._request.left <= 0:
            self._service.complete(self._request, self._respond)

    def _respond(self, status: int, pieces: Sequence[bytes] = (), content_type: bytes = b"application/json") -> None:
        size = sum(map(len, pieces))
        bodiless = self._request is not None and self._request.method == "HEAD"
        self._request = None
        # obstore takes a put without an ETag for a failure.
        head = b'HTTP/1.1 %d %s\r\nETag: "0"\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n'
        phrase = HTTPStatus(status).phrase.encode()
        self.transport.writelines([head % (status, phrase, content_type, size), *(() if bodiless else pieces)])


def listener(service: Service, round_trip: RoundTrip) -> Callable[[], HttpConnection]:
    return lambda: HttpConnection(service, round_trip)
