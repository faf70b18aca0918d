"""Airflow's api-server in a process of its own, with users of the simple auth manager."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
START_S = 300
PASSWORD = "only-on-this-machine"  # noqa: S105  # of users that exist for a test
USERS = {"nobody": "", "viewer": "viewer", "inspector": "user"}
"""Roles by name."""


class ApiServer:
    """Serves on a free port from entry to exit, with a metadata database of SQLite and, unless *plugins* is another folder, the plugin.

    Args:
        home: Airflow's folder, which is empty.
        connections: Airflow's connections as environment variables.
        plugins: the plugins folder.
    """

    def __init__(self, home: Path, connections: Mapping[str, str], *, plugins: Path = ROOT / "plugins") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = home / "api-server.log"
        self._passwords = home / "passwords.json"
        self._tokens: dict[str, str] = {}
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
        self._env = {
            **env,
            **connections,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        }

    def __enter__(self) -> Self:
        self._passwords.write_text(json.dumps(dict.fromkeys(USERS, PASSWORD)))
        command = [sys.executable, "-m", "airflow"]
        subprocess.run([*command, "db", "migrate"], env=self._env, check=True, capture_output=True)  # noqa: S603  # our own command
        with self._log.open("w") as out:
            self._process = subprocess.Popen(  # noqa: S603  # as above
                [*command, "api-server", "--host", "127.0.0.1", "--port", str(self._port)],
                env=self._env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if httpx.get(f"{self.url}/api/v2/version", timeout=10).status_code == HTTPStatus.OK:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()[-4000:]
            time.sleep(0.2)

    def client(self, user: str | None) -> httpx.Client:
        """Return a client that has logged in as a browser has: with a cookie."""
        cookies = {"_token": self._token(user)} if user else {}
        return httpx.Client(base_url=self.url, cookies=cookies, headers={"Origin": self.url}, timeout=60)

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            answer = httpx.post(f"{self.url}/auth/token", json={"username": user, "password": PASSWORD}, timeout=60)
            assert answer.status_code == HTTPStatus.CREATED, answer.text
            self._tokens[user] = answer.json()["access_token"]
        return self._tokens[user]
