"""Airflow's components as our own children, on the embedded Postgres."""

from __future__ import annotations

import base64
import os
import signal
import sys
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import requests

from embedded.errors import StartFailed
from embedded.process import ROOT, Child
from embedded.state import LOOPBACK, secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMPONENTS = {
    # The order in which they stop: the tasks tell by the API how they ended. The API itself keeps nothing, so it may be cut short.
    "scheduler": (("scheduler", "--skip-serve-logs"), 15),
    "dag-processor": (("dag-processor",), 5),
    "api-server": (("api-server",), 2),
}
"""The words of each component's command, and the seconds it may take to stop. There is no triggerer: nothing of ours is deferred."""
DEFAULTS = {
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
}
"""Sized for two cores; a variable that is set in the environment wins."""
ANSWER_S = 60
"""Generous: on a loaded machine its first answers take long."""


def settings(folder: Path, *, database: str, port: int) -> dict[str, str]:
    """The variables that make any `airflow` command speak with this Airflow."""
    key = secret(folder / "fernet_key").encode().ljust(32)[:32]
    address = f"http://{LOOPBACK}:{port}"
    own = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secret(folder / "secret_key"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret(folder / "jwt_secret") * 2,
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(key).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
    }
    return {name: os.environ.get(name, default) for name, default in DEFAULTS.items()} | own


class Airflow:
    """Its tables, its three components, and the few calls of its API that `bin/run` makes."""

    name = "airflow"

    def __init__(self, folder: Path, *, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._env = os.environ | env
        self._url = env["AIRFLOW__API__BASE_URL"]
        self._session = requests.Session()
        self._session.trust_env = False
        self._migration = Child("airflow-db", folder)
        # The scheduler's tasks are asked too: by itself it would wait until they have drained everything that is due.
        self._components = {
            name: Child(name, folder, stop_signal=signal.SIGTERM, stop_s=stop_s, stop_all=True) for name, (_, stop_s) in COMPONENTS.items()
        }

    @property
    def address(self) -> str:
        return self._url

    @property
    def log(self) -> Path:
        return self._migration.log.parent

    def start_migration(self) -> None:
        """Begin to bring Airflow's own tables up to date."""
        self._command(self._migration, "db", "migrate")

    def migrated(self) -> bool:
        """Whether the tables are up to date by now; also where no migration was begun.

        Raises:
            StartFailed: they could not be.
        """
        code = self._migration.finished() if self._migration.started else 0
        if code is None:
            return False
        self._migration.stop()
        if code != 0:
            raise StartFailed(f"Airflow's tables could not be made; the log is {self._migration.log}")
        return True

    def start(self) -> None:
        for name, component in self._components.items():
            self._command(component, *COMPONENTS[name][0])

    def ready(self) -> bool:
        """Whether the API answers and the scheduler is at work."""
        self.check()
        try:
            health = self._session.get(f"{self._url}/api/v2/monitor/health", timeout=ANSWER_S).json()
        except (requests.RequestException, ValueError):
            return False
        return bool(health["scheduler"]["status"] == "healthy")

    def check(self) -> None:
        for component in self._components.values():
            component.check()

    def ask(self) -> None:
        """Nothing: its components stop one after another."""

    def stop(self) -> None:
        self._migration.stop()
        for component in self._components.values():
            component.stop()
        self._session.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """One call of Airflow's API: its status, which is a good one or 404, and its answer.

        Raises:
            StartFailed: any other status.
        """
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self._url}/auth/token", timeout=ANSWER_S).json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        answer = self._session.request(method, f"{self._url}/api/v2/{path}", json=body, timeout=ANSWER_S)
        if not answer.ok and answer.status_code != HTTPStatus.NOT_FOUND:
            raise StartFailed(f"Airflow refused {method} {path} with {answer.status_code}; its log is {self.log / 'api-server.log'}")
        return answer.status_code, answer.json() if answer.content else None

    def _command(self, child: Child, *words: str) -> None:
        child.start([sys.executable, "-m", "airflow", *words], cwd=ROOT, env=self._env)


def migrated_comment() -> str:
    """What stands on Airflow's database once this version has made its tables."""
    return f"tables of airflow {version('apache-airflow')}"
