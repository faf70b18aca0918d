"""Redis as a child process, on the loopback interface, with a random password: the broker of Celery workers."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import redis

from embedded.errors import StartFailed
from embedded.process import Server
from embedded.state import LOOPBACK, ports, secret

if TYPE_CHECKING:
    from pathlib import Path


class Redis(Server):
    """A Redis server without persistence."""

    def __init__(self, folder: Path) -> None:
        super().__init__("redis", folder, stop_signal=signal.SIGTERM, stop_s=5)

    @property
    def url(self) -> str:
        return f"redis://:{secret(self.folder / 'password')}@{self.address}/0"

    def start(self) -> None:
        if (program := shutil.which("redis-server")) is None:
            raise StartFailed("there is no redis-server on this machine; install it, for example by apt-get install redis-server")
        self.port = ports(self.folder / "ports.json", self.name)[self.name]
        config = self.folder / "redis.conf"
        password = secret(self.folder / "password")
        config.write_text(f'bind {LOOPBACK}\nport {self.port}\nrequirepass {password}\nsave ""\nappendonly no\ndir "{self.folder}"\n')
        config.chmod(0o600)
        self._child.start([program, config], cwd=self.folder)

    def ready(self) -> bool:
        self.check()
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
