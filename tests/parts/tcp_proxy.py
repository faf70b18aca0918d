"""A TCP proxy that can be switched while it runs: passes on, delays, cuts, resets, refuses, swallows, or stops at a message."""

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
    """Stops connections whose client sends certain bytes: before they go on, or with them gone on and their answer held."""

    def __init__(self, pattern: bytes, *, skip: int, deliver: bool) -> None:
        self._pattern = pattern
        self._skip = skip
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._cut = False
        self.deliver = deliver
        self.caught = 0
        """Connections that stand still in it, or did so until it was opened."""

    def catches(self, tail: bytes, piece: bytes) -> bool:
        """Whether the pattern ends in this piece, and it is this one's turn."""
        seen = tail[max(0, len(tail) - len(self._pattern) + 1) :] + piece
        if self._end.is_set() or self._pattern not in seen:
            return False
        with self._lock:
            self._skip -= 1
            self.caught += self._skip < 0
            return self._skip < 0

    def stand_still(self) -> bool:
        """Until it is opened; false when the connection is to be cut then."""
        self._end.wait()
        return not self._cut

    def release(self) -> None:
        """Let what it caught go on; it catches nothing more."""
        self._end.set()

    def cut(self) -> None:
        """Reset what it caught; it catches nothing more."""
        self._cut = True
        self._end.set()


@dataclass(eq=False)
class _Line:
    """A client's connection and ours to the server."""

    client: socket.socket
    server: socket.socket
    cut_after: dict[Side, int]
    swallowed: bool = False
    trap: Trap | None = None
    """Holds the server's answer."""
    tail: bytes = b""
    """What the client sent last."""
    ended: int = 0
    dead: bool = False

    def reset(self) -> None:
        """End both by RST."""
        self.dead = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads, for whose read the close would wait
            end.close()


class TcpProxy:
    """Listens on 127.0.0.1 from `with` to its end, and leads to one address. Its methods are for any thread."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._to = (host, port)
        self._listener: socket.socket | None = None
        self._lines: set[_Line] = set()
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

    def pass_on(self) -> None:
        """Connections from now on pass untouched; those of before stay as they are."""
        self._delay_s, self._cut_after, self._swallow = 0.0, {}, False
        if self._listener is None:
            self._listen()

    def delay(self, seconds: float) -> None:
        """Each piece, either way, goes on so much later."""
        self._delay_s = seconds

    def cut_after(self, size: int, *, sent_by: Side) -> None:
        """New connections are reset once this side has had so many bytes passed on."""
        self._cut_after = {sent_by: size}

    def reset(self) -> None:
        """Reset all connections that there are."""
        for line in list(self._lines):
            line.reset()

    def refuse(self) -> None:
        """Nobody listens any more, and what was connected is reset."""
        listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def black_hole(self) -> None:
        """Whatever is sent vanishes, without a word. A connection that was in it never comes back."""
        self._swallow = True
        for line in list(self._lines):
            line.swallowed = True

    def trap(self, pattern: bytes, *, skip: int = 0, deliver: bool = False) -> Trap:
        """Stop each connection whose client sends *pattern*, after so many that pass; see Trap."""
        trap = Trap(pattern, skip=skip, deliver=deliver)
        self._traps.append(trap)
        return trap

    @property
    def connections(self) -> int:
        """How many there are right now."""
        return len(self._lines)

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
        line = _Line(client, server, dict(self._cut_after), swallowed=self._swallow)
        self._lines.add(line)
        self._start(self._pump, line, "server")
        self._pump(line, "client")

    def _pump(self, line: _Line, sent_by: Side) -> None:
        """Carry one direction until its end, and pass on that it has ended."""
        source, target = (line.client, line.server) if sent_by == "client" else (line.server, line.client)
        try:
            while piece := source.recv(PIECE_BYTES):
                if not self._carry(line, sent_by, target, piece):
                    line.reset()
            if not (line.swallowed or line.dead):
                target.shutdown(socket.SHUT_WR)
        except OSError:
            line.reset()
        line.ended += 1
        if line.ended == len(("client", "server")):
            line.reset()
            self._lines.discard(line)

    def _carry(self, line: _Line, sent_by: Side, target: socket.socket, piece: bytes) -> bool:
        """Pass a piece on as the switches say; false when the connection ends with it."""
        if self._delay_s:
            self._closing.wait(self._delay_s)
        if sent_by == "client" and not self._past_traps(line, piece):
            return False
        if sent_by == "server" and line.trap and not line.trap.stand_still():
            return False
        if line.swallowed:
            return True
        left = line.cut_after.get(sent_by)
        target.sendall(piece[:left])
        if left is not None:
            line.cut_after[sent_by] = left - len(piece)
        return left is None or left > len(piece)

    def _past_traps(self, line: _Line, piece: bytes) -> bool:
        tail, line.tail = line.tail, (line.tail + piece)[-PATTERN_MAX_BYTES:]
        for trap in self._traps:
            if trap.catches(tail, piece):
                line.trap = trap if trap.deliver else None
                if not trap.deliver and not trap.stand_still():
                    return False
        return True

    def _start(self, target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()
