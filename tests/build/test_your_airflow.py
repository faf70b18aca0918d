"""An Airflow that knows nothing of the project: `airflow standalone`, the wheel, connections made by its API, verdicts in the tables."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
import requests
from psycopg.conninfo import conninfo_to_dict

from tests.build.conftest import PAGE, environment, run
from tests.dags.conftest import ANSWER, a_png
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres
    from embedded.s3 import S3

RECORDS = 12
START_S, RUN_S, STOP_S = 240, 240, 30
COMMANDS = re.findall(r"^ +(anomaly (?:migrate|init|doctor).*)$", PAGE.read_text(), re.MULTILINE)
"""Those that the page asks for, in its order."""
DAGS = {"anomaly_detection", "anomaly_maintenance"}


def free_ports(count: int) -> list[str]:
    with ExitStack() as taken:
        listeners = [taken.enter_context(closing(socket.socket())) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [str(listener.getsockname()[1]) for listener in listeners]


class Standalone:
    """`airflow standalone` of an environment, with nothing set but its ports and its folder."""

    def __init__(self, bin_folder: Path, home: Path) -> None:
        self.bin = bin_folder
        self.dags = home / "dags"
        port, workers, triggers = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",  # it starts its components by their name
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": port,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": workers,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": triggers,
        }
        self.log = home / "standalone.log"
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [self.bin / "airflow", "standalone"],
                cwd=self.log.parent,
                env=environment() | self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        # Its whole group, since it passes no signal on to its components.
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        finally:
            os.killpg(self._process.pid, signal.SIGKILL)

    def until(self, within_s: float, found: Any) -> Any:
        """Return what *found* returns as soon as that is true; Airflow sends no event that could be waited for."""
        deadline = time.monotonic() + within_s
        while not (value := found()):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()[-20_000:]
            time.sleep(0.5)  # as the docstring says
        return value

    def log_in(self) -> bool:
        try:
            answer = self._session.get(f"{self.url}/auth/token", timeout=30)
        except requests.RequestException:
            return False
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def page(self, path: str) -> str:
        answer = self._session.get(f"{self.url}/{path}", timeout=60)
        assert answer.ok, answer.text
        return answer.text

    def run(self, command: str) -> str:
        return run(Path("/bin/bash"), "-c", command, env=self.env)


@pytest.fixture
def stub() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        stub.at("/detect", ANSWER)
        yield stub


def connections(dsn: str, s3: S3, stub: HttpStub) -> list[dict[str, Any]]:
    to = conninfo_to_dict(dsn)
    return [
        {
            "connection_id": "anomaly_db",
            "conn_type": "postgres",
            "host": to["host"],
            "port": int(str(to["port"])),
            "login": to["user"],
            "password": to["password"],
            "schema": to["dbname"],
        },
        {
            "connection_id": "anomaly_s3",
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": f'{{"bucket": "{s3.bucket}", "prefix": "mine", "endpoint_url": "{s3.endpoint_url}", "region_name": "{s3.region}"}}',
        },
        {
            "connection_id": "anomaly_detector",
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": stub.port,
            "extra": '{"dialect": "generic", "path": "/detect"}',
        },
        {
            "connection_id": "anomaly_images",
            "conn_type": "http",
            "extra": '{"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]}',
        },
    ]


@pytest.mark.timeout(600)
def test_an_airflow_of_ones_own_has_verdicts_after_the_wheel_four_connections_and_two_commands(
    installed: Path, postgres: Postgres, s3: S3, stub: HttpStub, tmp_path: Path
) -> None:
    postgres.ensure_database("records_of_ones_own")
    dsn = postgres.dsn("records_of_ones_own")
    with Standalone(installed / "bin", tmp_path) as airflow:
        airflow.until(START_S, airflow.log_in)
        for connection in connections(dsn, s3, stub):
            airflow.call("POST", "connections", connection)
        said = [airflow.run(command) for command in COMMANDS]
        assert said[0].startswith("applied 0001_records_and_claims\n")
        assert [line for line in said[2].splitlines() if line.startswith("BAD")] == []
        with psycopg.connect(dsn, autocommit=True) as sql:
            for number in range(RECORDS):
                url = stub.at(f"/{number}.png", Reply(body=a_png(number), content_type="image/png"))
                sql.execute("insert into anomaly.records (image_url, captured_at) values (%s, now() - interval '1 hour')", [url])
            airflow.until(START_S, lambda: {dag["dag_id"] for dag in airflow.call("GET", "dags")["dags"]} == DAGS)
            assert airflow.call("GET", "importErrors")["import_errors"] == []
            airflow.call("PATCH", "dags/anomaly_detection", {"is_paused": False})
            airflow.call("POST", "dags/anomaly_detection/dagRuns", {"logical_date": None})
            # Beside the one that is scheduled. Either may claim the records.
            states = airflow.until(RUN_S, lambda: ended(airflow.call("GET", "dags/anomaly_detection/dagRuns")["dag_runs"]))
            assert "<h1" in airflow.page("anomaly/")
            verdicts = sql.execute("select count(*), count(distinct record_id) from anomaly.ai_results").fetchone()
        assert (states, verdicts) == ({"success"}, (RECORDS, RECORDS)), airflow.log.read_text()


def ended(runs: list[dict[str, Any]]) -> set[str]:
    """Return the states of the runs once all have ended."""
    states = {run["state"] for run in runs}
    return states if states <= {"success", "failed"} else set()
