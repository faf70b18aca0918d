"""A server whose first response is written byte by byte by a test; every later one is a plain one."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

PAUSE_S = 0.02


class OddServer:
    """Serves on 127.0.0.1 from `with` to its end.

    Args:
        pieces: the first response. They are sent one by one, with a pause before each but the first.
        body: of each later response.
        ends: whether the connection ends after the first response.
        tls: with it, the server speaks TLS as localhost.
    """

    def __init__(self, pieces: Sequence[bytes], body: bytes, *, ends: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._pieces, self._ends, self._tls = list(pieces), ends, tls
        self._plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._connections = 0
        self.asked: list[int] = []
        """The connection of each request, from 1."""

    @property
    def url(self) -> str:
        return f"{'https://localhost' if self._tls else 'http://127.0.0.1'}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):  # it has ended
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(connection)
                self._connections += 1
                self._start(self._serve, connection, self._connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            if self._tls:
                connection = opened.enter_context(self._tls.wrap_socket(connection, server_side=True))
                self._open.append(connection)
            requests = opened.enter_context(connection.makefile("rb"))
            while _read_request(requests):
                with self._lock:
                    first = not self.asked
                    self.asked.append(number)
                if not first:
                    connection.sendall(self._plain)
                    continue
                for count, piece in enumerate(self._pieces):
                    if count and self._closing.wait(PAUSE_S):
                        return
                    connection.sendall(piece)
                if self._ends:
                    connection.shutdown(socket.SHUT_RDWR)


def _read_request(requests: BinaryIO) -> bool:
    length, line = 0, requests.readline()
    if not line:
        return False
    while line.strip():
        line = requests.readline()
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    requests.read(length)
    return True
