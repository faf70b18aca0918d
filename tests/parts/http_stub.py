"""The scripted HTTP server of tests, chaos rows and the soak: answers by path, injects faults, records requests."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

DRAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    connection: int
    """Number of the TCP connection, from 1."""
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer and its faults. Delays are in seconds; closing the stub ends them."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_after_s: float = 0.0
    """Delay before the first byte."""
    trickle_s: float = 0.0
    """Delay between the bytes of the part named by `trickled`."""
    trickled: str = ""
    """`headers` or `body`: the part that is sent byte by byte."""
    cut_at: int | None = None
    """Close the connection after this many bytes of the body."""
    reset: bool = False
    """Reset the connection (RST), after `cut_at` bytes of the body if set, else at once."""
    chunked: bool = False
    """Send the body in chunks, without Content-Length."""
    raw: bytes | None = None
    """Bytes to send instead of an HTTP answer."""


Script = Callable[[Seen], Reply]


class HttpStub:
    """An HTTP server on 127.0.0.1, or with *tls* on https://localhost. A path without a script answers 404."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Seen] = []
        self.connections = 0
        self.closing = threading.Event()
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join(DRAIN_S)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"https://localhost:{self.port}{path}" if self._tls else f"http://{host}:{self.port}{path}"

    def at(self, path: str, *replies: Reply | Script) -> str:
        """Answer *path* with these replies in turn, then always with the last one; return its URL."""
        left = list(replies)

        def script(seen: Seen) -> Reply:
            with self._lock:
                reply = left.pop(0) if len(left) > 1 else left[0]
            return reply if isinstance(reply, Reply) else reply(seen)

        self._scripts[path] = script
        return self.url(path)

    def asked(self, path: str) -> list[Seen]:
        """Return the requests for *path*, with any query."""
        return [seen for seen in self.requests if seen.path.partition("?")[0] == path]

    def answer(self, seen: Seen) -> Reply:
        self.requests.append(seen)
        script = self._scripts.get(seen.path.partition("?")[0])
        return script(seen) if script else Reply(status=404)

    def connected(self) -> int:
        with self._lock:
            self.connections += 1
            return self.connections


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    stub: HttpStub

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """Close connections that clients keep open, so that their threads end."""
        for request in list(self._open):
            _shut(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.stub.connected()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client closed the connection, or the reply did

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named so in the base class
        pass

    def __getattr__(self, name: str) -> Any:
        """Serve every HTTP method."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(method=self.command, path=self.path, headers=headers, body=body, connection=self.number, at=time.monotonic())
        self._send(self.server.stub.answer(seen))

    def _send(self, reply: Reply) -> None:
        self._pause(reply.headers_after_s)
        if reply.raw is not None or (reply.reset and reply.cut_at is None):
            self.wfile.write(reply.raw or b"")
            self._end(reset=reply.reset)
            return
        head, body = _head(reply), b"" if self.command == "HEAD" else _framed(reply)[: reply.cut_at]
        if reply.trickled:
            self._write(head, reply.trickle_s if reply.trickled == "headers" else 0.0)
            self._write(body, reply.trickle_s if reply.trickled == "body" else 0.0)
        else:
            self.wfile.write(head + body)
        if reply.cut_at is not None:
            self._end(reset=reply.reset)
        self.close_connection = self.close_connection or reply.headers.get("Connection") == "close"

    def _write(self, data: bytes, pause_s: float) -> None:
        step = 1 if pause_s else len(data) or 1
        for start in range(0, len(data), step):
            self.wfile.write(data[start : start + step])
            self._pause(pause_s)

    def _pause(self, seconds: float) -> None:
        if seconds and self.server.stub.closing.wait(seconds):
            raise ConnectionAbortedError

    def _end(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            raise ConnectionAbortedError
        _shut(self.connection)


def _head(reply: Reply) -> bytes:
    length = {"Transfer-Encoding": "chunked"} if reply.chunked else {"Content-Length": str(len(reply.body))}
    headers = {"Content-Type": reply.content_type, **length, **reply.headers}
    phrase = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "Unknown"
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} {phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")


def _framed(reply: Reply) -> bytes:
    if not reply.chunked:
        return reply.body
    half = len(reply.body) // 2 or 1
    pieces = [piece for piece in (reply.body[:half], reply.body[half:]) if piece]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed before
        connection.shutdown(socket.SHUT_RDWR)
