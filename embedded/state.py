"""Secrets and ports of the embedded services, kept in files between starts."""

from __future__ import annotations

import json
import random
import secrets
import socket
from typing import TYPE_CHECKING

from embedded.errors import PortBusy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_000, 32_000  # below the ephemeral ports, so that a kept port stays free


def secret(path: Path) -> str:
    """Return the secret in the file *path*; create it if missing, readable by its owner only."""
    try:
        return path.read_text()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(secrets.token_urlsafe(24))
    draft.replace(path)
    return path.read_text()


def is_free(port: int) -> bool:
    """Return whether *port* of the loopback interface is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Check the port that the user asked for.

    Raises:
        PortBusy: another program listens on it.
    """
    if not is_free(port):
        raise PortBusy(f"port {port} is in use by another program; end that program, or choose another port with --port")


def ports(path: Path, *names: str, choose: Callable[[int, int], int] = random.randint) -> dict[str, int]:
    """Return a port for each of *names*, and write them to *path*: the port of the last start if it is free, else another one."""
    try:
        kept: dict[str, int] = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    chosen: dict[str, int] = {}
    for name in names:
        port = kept.get(name, 0)
        while port in chosen.values() or not port or not is_free(port):
            port = choose(FIRST_PORT, LAST_PORT)
        chosen[name] = port
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept | chosen))
    return chosen
