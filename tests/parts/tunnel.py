"""An HTTP proxy that opens tunnels by CONNECT, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Tunnel:
    """Serves on 127.0.0.1 from `with` to its end."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """The addresses that it was asked to connect to."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"asked": self.asked}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        host, port = self.path.split(":")
        self.send_response(200)
        self.end_headers()
        with socket.create_connection((host, int(port))) as beyond:
            back = threading.Thread(target=_pump, args=(beyond, self.connection))
            back.start()
            _pump(self.connection, beyond)
            back.join(5)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        pass


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either end may leave first
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
