"""Airflow's components as child processes, on the embedded Postgres."""

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
from embedded.process import ROOT, ChildProcess
from embedded.state import LOOPBACK, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

COMPONENTS = {
    # In the order in which they stop: tasks report their end to the API. The API itself has no state, so a short time is enough.
    "scheduler": (("scheduler", "--skip-serve-logs"), 15),
    "dag-processor": (("dag-processor",), 5),
    "api-server": (("api-server",), 2),
}
"""Arguments of each component's command and seconds until it is killed. No triggerer: no task of the project is deferrable."""
DEFAULTS = {
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
}
"""Sized for two cores. Variables in the environment take precedence."""
UNSCHEDULED = {"ANOMALY_SCHEDULE": "none"}
API_TIMEOUT_S = 60
"""The first answers take long on a loaded machine."""


def settings(folder: Path, *, database: str, port: int) -> dict[str, str]:
    """Return the environment variables with which any `airflow` command uses this Airflow."""
    key = secret(folder / "fernet_key").encode().ljust(32)[:32]
    address = f"http://{LOOPBACK}:{port}"
    fixed = {
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
    return {name: os.environ.get(name, default) for name, default in DEFAULTS.items()} | fixed


class Airflow:
    """An Airflow installation: its tables, its three components and its API."""

    name = "airflow"

    def __init__(self, folder: Path, *, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._env = os.environ | env
        self._url = env["AIRFLOW__API__BASE_URL"]
        self._session = requests.Session()
        self._session.trust_env = False
        self._migration = ChildProcess("airflow-db", folder)
        # stop_all: the scheduler alone would wait until its tasks have processed everything that is due.
        self._components = {
            name: ChildProcess(name, folder, stop_signal=signal.SIGTERM, stop_s=stop_s, stop_all=True)
            for name, (_, stop_s) in COMPONENTS.items()
        }

    @property
    def address(self) -> str:
        return self._url

    @property
    def log(self) -> Path:
        return self._migration.log.parent

    def start_migration(self) -> None:
        """Start to migrate Airflow's own tables, without waiting."""
        self._command(self._migration, "db", "migrate")

    def migration_finished(self) -> bool:
        """Return whether the migration has ended; also true if none was started.

        Raises:
            StartFailed: it failed.
        """
        code = self._migration.exit_code() if self._migration.started else 0
        if code is None:
            return False
        self._migration.stop()
        if code != 0:
            raise StartFailed(f"Airflow's tables could not be created; the log is {self._migration.log}")
        return True

    def start(self, *, scheduled: bool = True) -> None:
        """Start the components. Unless *scheduled*, the DAG has no schedule until `schedule` is called."""
        for name in self._components:
            self._start(name, {} if scheduled else UNSCHEDULED)

    def schedule(self) -> None:
        """Give the DAG its schedule, which the DAG processor reads from the environment."""
        self._components["dag-processor"].stop()
        self._start("dag-processor", {})

    def ready(self) -> bool:
        """Return whether the API answers and the scheduler is healthy."""
        self.check()
        try:
            health = self._session.get(f"{self._url}/api/v2/monitor/health", timeout=API_TIMEOUT_S).json()
        except (requests.RequestException, ValueError):
            return False
        return bool(health["scheduler"]["status"] == "healthy")

    def check(self) -> None:
        for component in self._components.values():
            component.check()

    def request_stop(self) -> None:
        """Do nothing: its components stop one after another."""

    def stop(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        """Stop the components. *on_wait* is called with the seconds that tasks have left."""
        self._migration.stop()
        for component in self._components.values():
            component.stop(on_wait)
            on_wait = lambda _: None  # noqa: E731  # the tasks end with the scheduler, which is the first
        self._session.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Call Airflow's API; return the status (2xx or 404) and the decoded answer.

        Raises:
            StartFailed: the API answered with another status.
        """
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self._url}/auth/token", timeout=API_TIMEOUT_S).json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        answer = self._session.request(method, f"{self._url}/api/v2/{path}", json=body, timeout=API_TIMEOUT_S)
        if not answer.ok and answer.status_code != HTTPStatus.NOT_FOUND:
            raise StartFailed(f"Airflow refused {method} {path} with {answer.status_code}; its log is {self.log / 'api-server.log'}")
        return answer.status_code, answer.json() if answer.content else None

    def _start(self, name: str, env: Mapping[str, str]) -> None:
        self._command(self._components[name], *COMPONENTS[name][0], env=env)

    def _command(self, child: ChildProcess, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        child.start([sys.executable, "-m", "airflow", *arguments], cwd=ROOT, env=self._env | dict(env or {}))


def schema_comment() -> str:
    """Return the comment on Airflow's database that records which version created its tables."""
    return f"tables of airflow {version('apache-airflow')}"
