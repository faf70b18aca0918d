"""Runs the services of docker-compose.yaml in a copy of the tree, and calls Airflow's API."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".state", "logs", ".env", "__pycache__", ".*_cache")
PROJECT = "anomaly-check"
UP_S, RUN_S = 600, 900
DAG = "api/v2/dags/anomaly_detection"
BEGAN = time.monotonic()


class Failed(Exception):
    """Raised when an expectation does not hold."""


class Server:
    """A copy of the tree with its own project name and ports. All methods except `ended` raise Failed when a command fails."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.env = self.tree / ".env"
        shutil.rmtree(self.tree, ignore_errors=True)
        shutil.copytree(ROOT, self.tree, ignore=NOT_COPIED, symlinks=True)
        succeeded([str(self.tree / "bin" / "secrets")])
        self.port = _free_port()
        self.set(SERVER_PORT=self.port, SERVER_S3_PORT=_free_port(), SERVER_GRAFANA_PORT=_free_port())
        # Airflow notices a killed worker after this time; its default of 300 s would only make the test longer.
        self.set(AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=60, ANOMALY_TASK_BACKOFF_S=5)
        # No scheduled run during the test, except the one that unpausing the DAG starts.
        self.set(ANOMALY_SCHEDULE="0 0 1 1 *")
        self._compose = ["docker", "compose"] if run(["docker", "compose", "version"]).returncode == 0 else ["docker-compose"]

    # ── .env

    def set(self, **values: object) -> None:
        with self.env.open("a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in values.items())

    def values(self) -> dict[str, str]:
        """Return the variables of .env; the last line of a name counts."""
        lines = (line.partition("=") for line in self.env.read_text().splitlines())
        return {name: value.strip("'") for name, _, value in lines}

    def secrets(self) -> dict[str, str]:
        return {name: value for name, value in self.values().items() if re.search("PASSWORD|SECRET|KEY", name)}

    @contextlib.contextmanager
    def wrong(self, **values: object) -> Iterator[None]:
        """Set these values in .env until exit."""
        right = self.env.read_text()
        self.set(**values)
        try:
            yield
        finally:
            self.env.write_text(right)

    # ── compose

    def ended(self, *words: str, given: str | None = None, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        return run([*self._compose, "--project-name", PROJECT, *words], cwd=self.tree, given=given, timeout_s=timeout_s)

    def compose(self, *words: str, timeout_s: float = UP_S) -> str:
        return _output(self.ended(*words, timeout_s=timeout_s))

    def version(self) -> str:
        return succeeded([*self._compose, "version", "--short"]).strip()

    def up(self, *words: str) -> float:
        """Start all services; expect them to be healthy and `init` to have succeeded. Return the seconds that it took."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--no-build", *words)
        took_s = time.monotonic() - began
        unhealthy = {name: is_ for name, is_ in self.states().items() if is_ != ("exited 0" if "-init-" in name else "healthy")}
        expect(not unhealthy, f"not healthy after up: {unhealthy}")
        return took_s

    def states(self) -> dict[str, str]:
        """Return the health of each container, or its state and exit code if it has no health check."""
        found = [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]
        return {each["Name"]: each["Health"] or f"{each['State']} {each['ExitCode']}" for each in found}

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, template: str) -> list[str]:
        """Return the template of `docker inspect` for each container of the project, in any state and profile."""
        ids = succeeded(["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"]).split()
        return succeeded(["docker", "inspect", "--format", template, *ids]).splitlines() if ids else []

    def execute(self, service: str, *words: str) -> str:
        return self.compose("exec", "--no-TTY", service, *words)

    def sql(self, statement: str) -> str:
        password = f"PGPASSWORD={self.values()['SERVER_RECORDS_DB_PASSWORD']}"
        psql = ["psql", "--host=127.0.0.1", "--username=records", "--tuples-only", "--no-align", "--command", statement, "records"]
        return self.compose("exec", "--no-TTY", "--env", password, "postgres", *psql)

    def demo(self, waiting: int) -> None:
        """Enqueue demo records until *waiting* of them have no verdict, and start the image host."""
        self.set(SERVER_DEMO_RECORDS=waiting)
        self.compose("--profile", "demo", "run", "--rm", "--no-TTY", "demo")

    # ── Airflow's API

    def call(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if path != "auth/token" and token is None:
            token = self.log_in(self.values()["SERVER_ADMIN_PASSWORD"])
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers, method=method), timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def refuses(self, method: str, path: str, body: object = None, **how: str) -> bool:
        try:
            self.call(method, path, body, **how)
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        return False

    def log_in(self, password: str) -> str:
        return str(self.call("POST", "auth/token", {"username": "admin", "password": password})["access_token"])

    def trigger(self, **conf: object) -> str:
        self.call("PATCH", DAG, {"is_paused": False})
        return str(self.call("POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def finished(self, run_id: str) -> str:
        """Wait for the end of a run; return its state."""
        wait_for(lambda: self._state(run_id) in {"success", "failed"}, RUN_S, f"the end of the run {run_id}")
        return self._state(run_id)

    def _state(self, run_id: str) -> str:
        return str(self.call("GET", f"{DAG}/dagRuns/{run_id}")["state"])

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"{DAG}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"])


def run(
    command: list[str], *, cwd: Path | None = None, given: str | None = None, timeout_s: float = UP_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # commands of this test
        command,
        cwd=cwd,
        input=given,
        stdin=None if given else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def succeeded(command: list[str]) -> str:
    return _output(run(command))


def _output(ended: subprocess.CompletedProcess[str]) -> str:
    if ended.returncode:
        said = "\n".join(filter(None, [ended.stdout[-2000:].strip(), ended.stderr[-2000:].strip()]))
        words = " ".join(word for word in ended.args if not word.startswith("PGPASSWORD="))
        raise Failed(f"{words[:300]} ended with {ended.returncode}: {said}")
    return ended.stdout


def wait_for(seen: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not seen():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within_s:.0f} s")
        time.sleep(2)


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise Failed(otherwise)


def say(text: str) -> None:
    sys.stdout.write(f"{time.monotonic() - BEGAN:5.0f} s  {text}\n")
    sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
