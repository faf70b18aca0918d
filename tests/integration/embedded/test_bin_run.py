"""`bin/run` with bad input: one sentence, exit code 2, and nothing started."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from filelock import FileLock

from embedded import connections
from embedded.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedded.postgres import Postgres
    from embedded.s3 import S3


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Runs `bin/run` with variables and options, asserts that it refuses and starts nothing, and returns its sentence."""
    state = tmp_path / "state"

    def run(*options: str, **variables: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "AIRFLOW"))}
        env = kept | {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW_HOME": str(tmp_path / "airflow")} | variables
        command = [sys.executable, "-m", "embedded", "--once", "--state", str(state), *options]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603  # a constant command
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert ended.stdout == ""
        assert not list(state.glob("*/"))
        (sentence,) = ended.stderr.splitlines()
        return sentence

    return run


def test_a_setting_that_is_no_number(refused: Callable[..., str]) -> None:
    assert refused(ANOMALY_LEASE_S="abc") == "ANOMALY_LEASE_S must be a number, not 'abc'"


def test_a_setting_that_does_not_exist(refused: Callable[..., str]) -> None:
    assert "ANOMALY_LEASES" in refused(ANOMALY_LEASES="1")


def test_a_schedule_or_a_time_zone_that_airflow_could_not_read(refused: Callable[..., str]) -> None:
    assert refused(ANOMALY_SCHEDULE="every day").startswith("ANOMALY_SCHEDULE is not a cron expression")
    assert refused(ANOMALY_TIMEZONE="Mars/Base") == "ANOMALY_TIMEZONE is not a time zone such as Europe/Berlin: 'Mars/Base'"


def test_a_name_that_is_almost_right(refused: Callable[..., str]) -> None:
    said = refused(AIRFLOW_CONN_ANOMALY_DETECTER="http://detector.example")
    assert said == "there is no variable AIRFLOW_CONN_ANOMALY_DETECTER; did you mean AIRFLOW_CONN_ANOMALY_DETECTOR?"


def test_a_database_of_the_user_without_a_detector_of_the_user(refused: Callable[..., str], postgres: Postgres) -> None:
    said = refused(AIRFLOW_CONN_ANOMALY_DB=postgres.dsn())
    assert said.startswith("AIRFLOW_CONN_ANOMALY_DB is set and AIRFLOW_CONN_ANOMALY_DETECTOR is not")


def test_a_busy_port(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert re.match(rf"port {port} is in use .* --port", refused("--port", str(port)))


def test_a_second_start_in_the_same_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with FileLock(tmp_path / "state" / "run.lock"):
        assert "another bin/run uses this folder" in refused()


def test_a_database_where_nothing_listens(refused: Callable[..., str]) -> None:
    said = refused("--demo", AIRFLOW_CONN_ANOMALY_DB="postgresql://u:secret@127.0.0.1:1/db")
    assert re.match(r"AIRFLOW_CONN_ANOMALY_DB: the database at 127.0.0.1:1 cannot be used: .* refused.*; correct it, or unset it", said)
    assert "secret" not in said


def test_a_bucket_that_does_not_exist_leaves_the_users_database_unchanged(refused: Callable[..., str], postgres: Postgres, s3: S3) -> None:
    postgres.ensure_database("theirs")
    bucket = json.loads(connections.to_s3(s3))
    bucket["extra"]["bucket"] = "elsewhere"
    said = refused("--demo", AIRFLOW_CONN_ANOMALY_DB=postgres.dsn("theirs"), AIRFLOW_CONN_ANOMALY_S3=json.dumps(bucket))
    assert said == "the bucket elsewhere of AIRFLOW_CONN_ANOMALY_S3 does not exist; create it, or name another one"
    with psycopg.connect(postgres.dsn("theirs")) as connection:
        assert connection.execute("select 1 from pg_namespace where nspname = 'anomaly'").fetchone() is None


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """The folder is on a disk of 8 MB, which only the process has mounted."""
    state = tmp_path / "state"
    state.mkdir()
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode:  # noqa: S607  # of the system
        pytest.skip("this machine allows no mounts of one's own")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "AIRFLOW"))}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW_HOME": str(tmp_path / "airflow")}
    start = f"mount -t tmpfs -o size=8m none '{state}' && exec '{sys.executable}' -m embedded --once --state '{state}' --port 0"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = ["unshare", "-Urm", "sh", "-c", start.replace("--port 0", f"--port {port}")]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603  # a constant command
    assert ended.returncode == 1, ended.stdout + ended.stderr
    (sentence,) = ended.stderr.splitlines()
    assert sentence.endswith("MB left): free some space and start again")
    assert "is full" in sentence
