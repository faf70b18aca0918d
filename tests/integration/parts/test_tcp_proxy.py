from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.parts.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WITHIN_S = 10.0


class Echo:
    """A server that echoes and records what it receives."""

    def __init__(self) -> None:
        self.got = b""
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(1000):
                    self.got += piece
                    connection.sendall(piece)
            except OSError:
                self.resets += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[TcpProxy]:
    with TcpProxy(echo.port) as made:
        yield made


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with connect(proxy) as connection:
        yield connection


def connect(proxy: TcpProxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=WITHIN_S)
    connection.settimeout(WITHIN_S)
    return connection


def says(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1000)


def silent(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return not connection.recv(1000)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(WITHIN_S)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_both_directions_and_their_end_are_forwarded(proxy: TcpProxy, client: socket.socket) -> None:
    assert says(client, b"hello") == b"hello"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    until(lambda: proxy.connections == 0)


def test_a_delay_applies_to_every_piece(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.delay(0.1)
    began = time.monotonic()
    assert says(client, b"hello") == b"hello"
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("side", "seen"), [("client", b"abcd"), ("server", b"abcdefgh")])
def test_a_connection_is_reset_after_a_number_of_bytes_from_one_side(proxy: TcpProxy, echo: Echo, side: str, seen: bytes) -> None:
    proxy.cut_after(4, sent_by=side)  # type: ignore[arg-type]  # pytest hands on a plain text
    with connect(proxy) as client:
        client.sendall(b"abcdefgh")
        until(lambda: echo.got == seen)
        with pytest.raises(ConnectionResetError):
            [client.recv(4) for _ in range(3)]


def test_a_reset_closes_both_sides_and_the_next_connection_is_forwarded(proxy: TcpProxy, echo: Echo, client: socket.socket) -> None:
    assert says(client, b"one") == b"one"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    until(lambda: echo.resets == 1)
    with connect(proxy) as other:
        assert says(other, b"two") == b"two"


def test_a_refused_client_can_connect_to_the_same_port_after_forward(proxy: TcpProxy, client: socket.socket) -> None:
    assert says(client, b"one") == b"one"
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.forward()
    with connect(proxy) as other:
        assert says(other, b"two") == b"two"


def test_a_black_hole_drops_open_and_new_connections_for_good_and_later_ones_are_forwarded(proxy: TcpProxy, echo: Echo) -> None:
    with connect(proxy) as old, connect(proxy) as other_old:
        assert says(old, b"one") == says(other_old, b"one") == b"one"
        proxy.black_hole()
        with connect(proxy) as new:
            old.sendall(b"two")
            new.sendall(b"three")
            assert silent(old)
            assert silent(new)
            proxy.forward()
            other_old.sendall(b"four")
            assert silent(other_old)
        with connect(proxy) as later:
            assert says(later, b"five") == b"five"
    assert echo.got == b"oneonefive"


def test_a_trap_stops_a_match_before_the_server_receives_it(proxy: TcpProxy, echo: Echo, client: socket.socket) -> None:
    trap = proxy.trap(b"commit", skip=1)
    assert says(client, b"commit 1") == b"commit 1"
    client.sendall(b"com")
    assert client.recv(10) == b"com"
    client.sendall(b"mit 2")
    until(lambda: trap.caught == 1)
    assert silent(client)
    assert echo.got == b"commit 1com"
    trap.release()
    assert client.recv(10) == b"mit 2"
    assert says(client, b"commit 3") == b"commit 3"


def test_a_trap_that_delivers_stops_only_the_answer(proxy: TcpProxy, echo: Echo, client: socket.socket) -> None:
    trap = proxy.trap(b"commit", deliver=True)
    client.sendall(b"commit")
    until(lambda: echo.got == b"commit")
    assert trap.caught == 1
    assert silent(client)
    trap.release()
    assert client.recv(10) == b"commit"


@pytest.mark.parametrize("deliver", [True, False])
def test_stopped_connections_can_be_cut_while_others_are_forwarded(
    proxy: TcpProxy, echo: Echo, client: socket.socket, *, deliver: bool
) -> None:
    trap = proxy.trap(b"commit", deliver=deliver)
    client.sendall(b"commit")
    until(lambda: trap.caught == 1 and echo.got == (b"commit" if deliver else b""))
    trap.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with connect(proxy) as other:
        assert says(other, b"commit") == b"commit"


def test_the_bytes_of_a_client_that_died_in_a_trap_are_dropped(proxy: TcpProxy, echo: Echo) -> None:
    trap = proxy.trap(b"commit")
    with connect(proxy) as client:
        client.sendall(b"commit")
        until(lambda: trap.caught == 1)
    trap.cut()
    until(lambda: proxy.connections == 0)
    assert echo.got == b""
