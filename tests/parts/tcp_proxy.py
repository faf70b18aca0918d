"""The TCP proxy of tests, chaos rows and the soak. Injects faults at run time: delays, resets, refusals, black holes, traps."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE_BYTES = 64 * 1024
PATTERN_MAX_BYTES = 1024
CONNECT_S = 5.0
Side = Literal["client", "server"]


class Trap:
    """Stops connections whose client sends certain bytes: before these are forwarded, or with *deliver* before their answer is."""

    def __init__(self, pattern: bytes, *, skip: int, deliver: bool) -> None:
        self._pattern = pattern
        self._skip = skip
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._cut = False
        self.deliver = deliver
        self.caught = 0
        """Connections that were stopped so far."""

    def catches(self, tail: bytes, piece: bytes) -> bool:
        """Return whether *piece* completes the pattern on a connection that is to be stopped."""
        seen = tail[max(0, len(tail) - len(self._pattern) + 1) :] + piece
        if self._end.is_set() or self._pattern not in seen:
            return False
        with self._lock:
            self._skip -= 1
            self.caught += self._skip < 0
            return self._skip < 0

    def wait(self) -> bool:
        """Block until `release` or `cut`; return False after `cut`."""
        self._end.wait()
        return not self._cut

    def release(self) -> None:
        """Let stopped connections continue; stop no more."""
        self._end.set()

    def cut(self) -> None:
        """Reset stopped connections; stop no more."""
        self._cut = True
        self._end.set()


@dataclass(eq=False)
class _Connection:
    """A client's connection and the one to the server."""

    client: socket.socket
    server: socket.socket
    cut_after: dict[Side, int]
    swallowed: bool = False
    trap: Trap | None = None
    """The trap that stops the server's answer."""
    tail: bytes = b""
    """Last bytes sent by the client."""
    ended: int = 0
    dead: bool = False

    def reset(self) -> None:
        """Reset both connections (RST)."""
        self.dead = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads, for whose read the close would wait
            end.close()


class TcpProxy:
    """A proxy on 127.0.0.1 to one address. Its methods may be called from any thread."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._to = (host, port)
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._traps: list[Trap] = []
        self._delay_s = 0.0
        self._cut_after: dict[Side, int] = {}
        self._swallow = False
        self._closing = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.refuse()
        for trap in self._traps:
            trap.cut()

    # ── switches

    def forward(self) -> None:
        """Forward new connections without faults; open connections keep theirs."""
        self._delay_s, self._cut_after, self._swallow = 0.0, {}, False
        if self._listener is None:
            self._listen()

    def delay(self, seconds: float) -> None:
        """Delay each received piece, in both directions."""
        self._delay_s = seconds

    def cut_after(self, size: int, *, sent_by: Side) -> None:
        """Reset each new connection once *size* bytes from this side were forwarded."""
        self._cut_after = {sent_by: size}

    def reset(self) -> None:
        """Reset all open connections."""
        for connection in list(self._connections):
            connection.reset()

    def refuse(self) -> None:
        """Stop listening, and reset all open connections."""
        listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def black_hole(self) -> None:
        """Drop everything that is sent, for good on connections that are open during it."""
        self._swallow = True
        for connection in list(self._connections):
            connection.swallowed = True

    def trap(self, pattern: bytes, *, skip: int = 0, deliver: bool = False) -> Trap:
        """Stop each connection whose client sends *pattern*, after *skip* that pass; see Trap."""
        trap = Trap(pattern, skip=skip, deliver=deliver)
        self._traps.append(trap)
        return trap

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    # ── connections

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._start(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._to, timeout=CONNECT_S)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server, dict(self._cut_after), swallowed=self._swallow)
        self._connections.add(connection)
        self._start(self._pump, connection, "server")
        self._pump(connection, "client")

    def _pump(self, connection: _Connection, sent_by: Side) -> None:
        """Forward one direction until its end, and forward the end."""
        source, target = (connection.client, connection.server) if sent_by == "client" else (connection.server, connection.client)
        try:
            while piece := source.recv(PIECE_BYTES):
                if not self._carry(connection, sent_by, target, piece):
                    connection.reset()
            if not (connection.swallowed or connection.dead):
                target.shutdown(socket.SHUT_WR)
        except OSError:
            connection.reset()
        connection.ended += 1
        if connection.ended == len(("client", "server")):
            connection.reset()
            self._connections.discard(connection)

    def _carry(self, connection: _Connection, sent_by: Side, target: socket.socket, piece: bytes) -> bool:
        """Forward a piece with the faults that are set; return False if the connection is to be reset."""
        if self._delay_s:
            self._closing.wait(self._delay_s)
        if sent_by == "client" and not self._past_traps(connection, piece):
            return False
        if sent_by == "server" and connection.trap and not connection.trap.wait():
            return False
        if connection.swallowed:
            return True
        left = connection.cut_after.get(sent_by)
        target.sendall(piece[:left])
        if left is not None:
            connection.cut_after[sent_by] = left - len(piece)
        return left is None or left > len(piece)

    def _past_traps(self, connection: _Connection, piece: bytes) -> bool:
        tail, connection.tail = connection.tail, (connection.tail + piece)[-PATTERN_MAX_BYTES:]
        for trap in self._traps:
            if trap.catches(tail, piece):
                connection.trap = trap if trap.deliver else None
                if not trap.deliver and not trap.wait():
                    return False
        return True

    def _start(self, target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()
