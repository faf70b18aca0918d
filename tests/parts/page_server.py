"""The page on a real HTTP server in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import uvicorn

from anomaly.page.access import local_access
from anomaly.page.app import create_app
from anomaly.page.services import Services

if TYPE_CHECKING:
    from types import TracebackType

START_S = 20


class PageServer:
    """Serves the page on a free port, with the connections of the environment and no cache."""

    def __init__(self) -> None:
        self._services = Services(cache_s=0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(create_app(local_access(), self._services), log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._services.reset()
        self._listener.close()
