"""A proxy to Postgres that counts round trips: a client sends after the server has sent. Adds the latency of a network.

It injects no faults; for those see `tests.parts.tcp_proxy`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.http_server import DelayedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.http_server import RoundTrip


class PostgresProxy:
    """A proxy to a port of this machine."""

    def __init__(self) -> None:
        self.port = 0
        self.reset()

    def reset(self) -> None:
        self.connections = self.round_trips = 0

    def stats(self) -> dict[str, Any]:
        return {"connections": self.connections, "round_trips": self.round_trips}

    def listener(self, round_trip: RoundTrip) -> Callable[[], _Client]:
        return lambda: _Client(self, round_trip)


class _Client(DelayedProtocol):
    def __init__(self, proxy: PostgresProxy, round_trip: RoundTrip) -> None:
        super().__init__(round_trip)
        self._proxy = proxy
        self._server: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._spoke = False
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.connections += 1
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        server, _ = await self._loop.create_connection(lambda: _Server(self), "127.0.0.1", self._proxy.port)
        self._server = server
        server.writelines(self._early)
        if self.transport.is_closing():
            server.close()

    def arrived(self, data: bytes) -> None:
        if not self._spoke:
            self._spoke = True
            self._proxy.round_trips += 1
        if self._server is None:
            self._early.append(data)
        elif not self._server.is_closing():
            self._server.write(data)

    def answered(self, data: bytes) -> None:
        self._spoke = False
        if not self.transport.is_closing():  # a client that terminates may close before the answer
            self.transport.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._server is not None:
            # The client's last data is still delayed.
            self._loop.call_later(self._round_trip.seconds, self._server.close)


class _Server(asyncio.Protocol):
    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._client.transport.close()
