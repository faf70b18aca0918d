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

KEPT_BYTES = 64 * 1024
"""Of a body; a longer one is counted and forgotten but for its beginning."""
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


class Service(Protocol):
    """What listens on one port."""

    def connected(self) -> None: ...
    def begun(self, request: Request) -> None:
        """Its head is there; the body may still be under way."""

    def complete(self, request: Request, respond: Respond) -> None: ...
    def gone(self, request: Request) -> None:
        """Its client hung up before it was answered."""


class Respond(Protocol):
    def __call__(self, status: int, pieces: Sequence[bytes] = (), content_type: bytes = b"application/json") -> None: ...


class Request:
    """One request, as much of it as is there."""

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
        if self.length <= KEPT_BYTES or not self.body:
            self.body += data

    def has(self, header: bytes) -> bool:
        return header in self.head.lower()


class Lag:
    """A network's delay: what a client sends arrives so much later, and its first words, after the handshake, twice."""

    def __init__(self) -> None:
        self.round_trip_s = 0.0

    def due(self, now: float, last: float) -> float:
        """When something sent now arrives, which is never before the last thing; *last* is 0 on a new connection."""
        return max(last, now + self.round_trip_s * (1 if last else 2))


class Lagging(asyncio.Protocol):
    """A connection whose client is as far away as the lag says."""

    transport: asyncio.Transport

    def __init__(self, lag: Lag) -> None:
        self._lag = lag
        self._last = 0.0
        self._under_way: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's is one

    def data_received(self, data: bytes) -> None:
        if not self._lag.round_trip_s:
            self.arrived(data)
            return
        self._last = self._lag.due(self._loop.time(), self._last)
        self._under_way.append(data)
        self._loop.call_at(self._last, self._next)  # timers that are due together may come in any order

    def _next(self) -> None:
        self.arrived(self._under_way.popleft())

    def arrived(self, data: bytes) -> None:
        raise NotImplementedError


class Conversation(Lagging):
    """One connection of HTTP/1.1, kept alive, without pipelining and without chunked bodies from the client."""

    def __init__(self, service: Service, lag: Lag) -> None:
        super().__init__(lag)
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
        head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        phrase = HTTPStatus(status).phrase.encode()
        self.transport.writelines([head % (status, phrase, content_type, size), *(() if bodiless else pieces)])


def listener(service: Service, lag: Lag) -> Callable[[], Conversation]:
    return lambda: Conversation(service, lag)
