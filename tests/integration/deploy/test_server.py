"""The preparation of a server: it creates what is missing, and reports a problem in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
import yaml  # type: ignore[import-untyped]  # it ships no types
from cryptography.fernet import Fernet
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from anomaly.errors import Misconfigured
from deploy.server import login, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres

ROOT = Path(__file__).resolve().parents[3]
SECRET = "word-of-the-test"  # noqa: S105  # of a server of the test
NAMES = ("server_airflow", "server_records")


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """A server without these databases and roles; the test's are dropped afterwards."""
    yield postgres
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        for name in NAMES:
            connection.execute(f"drop database if exists {name} with (force)".encode())
            connection.execute(f"drop role if exists {name}".encode())


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ensure(server: Postgres, password: str = "first") -> None:  # noqa: S107  # of a temporary server
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        prepare.ensure_databases(connection, dict.fromkeys(NAMES, password))


def log_in(server: Postgres, role: str, password: str, database: str) -> None:
    psycopg.connect(host="127.0.0.1", port=server.port, user=role, password=password, dbname=database, connect_timeout=5).close()


def test_each_role_owns_its_database_and_cannot_connect_to_the_other(server: Postgres) -> None:
    ensure(server)
    for name in NAMES:
        log_in(server, name, "first", name)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        log_in(server, NAMES[0], "first", NAMES[1])


def test_a_changed_password_is_applied(server: Postgres) -> None:
    ensure(server)
    ensure(server, "second")
    log_in(server, NAMES[0], "second", NAMES[0])
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_in(server, NAMES[0], "first", NAMES[0])


def test_concurrent_preparations_succeed(server: Postgres) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure(server), range(4)))
    log_in(server, NAMES[1], "first", NAMES[1])


def test_an_interrupted_preparation_is_completed_by_the_next(server: Postgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection, pytest.raises(psycopg.errors.SyntaxError):
        prepare.ensure_databases(connection, {NAMES[0]: "first", "": "an empty name is refused"})
    ensure(server)
    log_in(server, NAMES[1], "first", NAMES[1])


def test_a_password_that_the_volume_does_not_have_is_one_sentence(server: Postgres) -> None:
    with pytest.raises(Misconfigured, match="Postgres refuses SERVER_POSTGRES_PASSWORD") as refused:
        prepare.superuser("127.0.0.1", "wrong", port=server.port)
    assert "\n" not in str(refused.value)


def test_a_missing_server_is_one_sentence(unused_port: int) -> None:
    with pytest.raises(Misconfigured, match=f"no Postgres answers at 127.0.0.1:{unused_port}: .*refused") as refused:
        prepare.superuser("127.0.0.1", "any", port=unused_port)
    assert "\n" not in str(refused.value)


def profiles(**other: str) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__METRICS__STATSD_ON": "False",
        "AIRFLOW__METRICS__STATSD_HOST": "statsd-exporter.invalid",
    } | other


def test_an_executor_without_its_broker_is_one_sentence(unused_port: int) -> None:
    given = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "AIRFLOW__CELERY__BROKER_URL": f"redis://:any@127.0.0.1:{unused_port}/0"}
    with pytest.raises(Misconfigured, match="no redis answers: add celery to COMPOSE_PROFILES"):
        prepare.check_profiles(profiles(**given))


def test_metrics_without_their_service_are_one_sentence() -> None:
    with pytest.raises(Misconfigured, match="add metrics to COMPOSE_PROFILES"):
        prepare.check_profiles(profiles(AIRFLOW__METRICS__STATSD_ON="True"))


def test_services_of_unused_profiles_are_not_checked() -> None:
    prepare.check_profiles(profiles())


def test_an_invalid_fernet_key_is_one_sentence() -> None:
    prepare.check_key({"AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()})
    with pytest.raises(Misconfigured, match=r"SERVER_FERNET_KEY in \.env is no Fernet key"):
        prepare.check_key({"AIRFLOW__CORE__FERNET_KEY": "short"})


def test_the_password_of_the_user_admin_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    for password in ("first", 'with "quotes"'):
        monkeypatch.setenv("SERVER_ADMIN_PASSWORD", password)
        login.main()
        written = tmp_path / login.FILE
        assert json.loads(written.read_text()) == {"admin": password}
        assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_redis_demands_the_password_of_compose_which_is_not_on_its_command_line(tmp_path: Path, unused_port: int) -> None:
    shell, option, script = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("/data", str(tmp_path)).replace("redis-server -", f"redis-server - --port {unused_port}")
    environ = os.environ | {"REDISCLI_AUTH": SECRET}
    with subprocess.Popen([shell, option, script], env=environ, stdout=subprocess.DEVNULL) as server:  # noqa: S603  # our own file
        try:
            client = redis.Redis(
                port=unused_port, password=SECRET, retry=Retry(ConstantBackoff(0.1), 100), retry_on_error=[redis.ConnectionError]
            )
            assert client.ping() is True
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=unused_port).ping()
            seen = Path(f"/proc/{server.pid}/cmdline").read_bytes()
            assert b"redis-server" in seen
            assert SECRET.encode() not in seen
        finally:
            server.terminate()
