"""Secrets and ports that the embedded services keep between starts."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from embedded.errors import PortBusy
from embedded.state import LOOPBACK, ports, require_free, secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def test_a_secret_is_kept_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "password"
    made = secret(path)
    assert len(made) >= 32
    assert secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_secrets_differ(tmp_path: Path) -> None:
    assert secret(tmp_path / "one") != secret(tmp_path / "two")


def test_ports_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    first = ports(tmp_path / "ports.json", "http", "grpc")
    assert ports(tmp_path / "ports.json", "http", "grpc") == first
    assert len(set(first.values())) == 2


def test_a_kept_port_that_is_busy_is_replaced(tmp_path: Path, busy_port: int) -> None:
    kept = tmp_path / "ports.json"
    kept.write_text(json.dumps({"http": busy_port}))
    chosen = ports(kept, "http")["http"]
    assert chosen != busy_port
    assert ports(kept, "http")["http"] == chosen


def test_no_two_names_get_the_same_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as another:
        first, second = one.getsockname()[1], another.getsockname()[1]
    offered = iter([first, first, second])
    assert ports(tmp_path / "ports.json", "a", "b", choose=lambda _low, _high: next(offered)) == {"a": first, "b": second}


def test_an_incomplete_file_of_ports_is_replaced(tmp_path: Path) -> None:
    kept = tmp_path / "ports.json"
    kept.write_text('{"http": 25')
    assert json.loads(kept.read_text() if ports(kept, "http") else "") == ports(kept, "http")


def test_a_requested_port_that_is_busy_is_refused_and_not_replaced(busy_port: int) -> None:
    with pytest.raises(PortBusy, match=f"port {busy_port} is in use .* --port"):
        require_free(busy_port)
