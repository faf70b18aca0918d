"""PgBouncer as a child process, in front of an embedded Postgres."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from embedded.process import Server
from embedded.state import LOOPBACK, ports

if TYPE_CHECKING:
    from pathlib import Path

    from embedded.postgres import Postgres

NOBODY = 65534


class PgBouncer(Server):
    """A pooler for all databases of a server. *mode* is session, transaction or statement; *options* are those of `pgbouncer.ini`."""

    def __init__(self, folder: Path, server: Postgres, *, mode: str, **options: object) -> None:
        super().__init__("pgbouncer", folder, stop_signal=signal.SIGTERM, stop_s=5)
        self._server = server
        self._options = {"pool_mode": mode, "auth_type": "scram-sha-256", "unix_socket_dir": "", **options}

    def dsn(self, database: str) -> str:
        return f"postgresql://{self._server.user}:{self._server.password}@{self.address}/{database}"

    def start(self) -> None:
        if (program := shutil.which("pgbouncer")) is None:
            pytest.skip("there is no pgbouncer on this machine; apt-get install pgbouncer")
        self.port = ports(self.folder / "ports.json", self.name)[self.name]
        users, config = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text(f'"{self._server.user}" "{self._server.password}"\n')
        listen = {"listen_addr": LOOPBACK, "listen_port": self.port, "auth_file": users}
        lines = [f"{name} = {value}" for name, value in (listen | self._options).items()]
        upstream = f"* = host={LOOPBACK} port={self._server.port}"
        config.write_text("\n".join(["[databases]", upstream, "[pgbouncer]", *lines, ""]))
        user = NOBODY if os.geteuid() == 0 else None  # it refuses to run as root
        for path in (users, config):
            path.chmod(0o600)
            if user is not None:
                os.chown(path, user, user)
        _let_through(self.folder)
        self._child.start([program, config], cwd=self.folder, user=user)

    def ready(self) -> bool:
        self.check()
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _let_through(folder: Path) -> None:
    """Let another user reach the files of a temporary folder."""
    for each in (folder, *folder.parents[:3]):
        if each.owner() == folder.owner() and each.name != "tmp":
            each.chmod(each.stat().st_mode | 0o011)
