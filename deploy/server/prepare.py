"""Prepares the server before Airflow starts: `python -m deploy.server.prepare`, the service `init` of docker-compose.yaml.

Creates both databases with a role each, and the bucket of the service `s3`; checks the connections; migrates the tables of Airflow and
of the project. A failure prints one sentence and exits with 2, and no other service starts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import redis
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.fernet import Fernet
from psycopg import sql

from anomaly import connection_env
from anomaly.db.schema import migrate
from anomaly.errors import AnomalyError, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = 2
OWN_S3 = "http://s3:8333"
DATABASES = {"airflow": "SERVER_AIRFLOW_DB_PASSWORD", "records": "SERVER_RECORDS_DB_PASSWORD"}
"""Name of each database and of its owner, and the variable with the owner's password."""
CONNECT_S = 5


def main() -> int:
    try:
        for line in prepare(os.environ):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except AnomalyError as exc:
        sys.stderr.write(f"{exc}\n")
        return REFUSED
    return 0


def prepare(environ: Mapping[str, str]) -> list[str]:
    """Prepare the server; return a line for each applied migration.

    Raises:
        Misconfigured: something is missing or wrong.
        DatabaseUnavailable: the records database does not answer.
    """
    check_key(environ)
    check_profiles(environ)
    with superuser(environ.get("SERVER_POSTGRES_HOST", "postgres"), environ["SERVER_POSTGRES_PASSWORD"]) as server:
        ensure_databases(server, {name: environ[variable] for name, variable in DATABASES.items()})
    ensure_own_bucket(environ)
    connection_env.check(environ)
    migrate_airflow()
    applied = migrate(connection_env.records_dsn(environ))
    return [f"applied {name}" for name in applied] + ["the server is prepared"]


def check_key(environ: Mapping[str, str]) -> None:
    """Raise Misconfigured unless Airflow can encrypt with its key."""
    try:
        Fernet(environ["AIRFLOW__CORE__FERNET_KEY"])
    except ValueError as exc:
        raise Misconfigured("SERVER_FERNET_KEY in .env is no Fernet key; bin/secrets makes one") from exc


def check_profiles(environ: Mapping[str, str]) -> None:
    """Raise Misconfigured unless the services of the profiles that .env needs are running."""
    if environ["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor":
        _check_broker(environ["AIRFLOW__CELERY__BROKER_URL"])
    if environ["AIRFLOW__METRICS__STATSD_ON"].lower() == "true":
        _check_metrics(environ["AIRFLOW__METRICS__STATSD_HOST"])


def _check_broker(url: str) -> None:
    try:
        redis.Redis.from_url(url, socket_connect_timeout=CONNECT_S, socket_timeout=CONNECT_S).ping()
    except redis.AuthenticationError as exc:
        raise Misconfigured("redis refuses SERVER_REDIS_PASSWORD: recreate it with docker compose up --force-recreate redis") from exc
    except redis.RedisError as exc:
        raise Misconfigured("SERVER_EXECUTOR is CeleryExecutor and no redis answers: add celery to COMPOSE_PROFILES in .env") from exc


def _check_metrics(host: str) -> None:
    try:
        socket.getaddrinfo(host, None)
    except OSError as exc:
        raise Misconfigured(f"SERVER_METRICS is True and there is no {host}: add metrics to COMPOSE_PROFILES in .env") from exc


def superuser(host: str, password: str, *, port: int = 5432) -> psycopg.Connection[Any]:
    """Return a connection of Postgres's superuser.

    Raises:
        Misconfigured: the server does not answer, or refuses the password.
    """
    try:
        return psycopg.connect(
            host=host, port=port, user="postgres", password=password, dbname="postgres", connect_timeout=CONNECT_S, autocommit=True
        )
    except psycopg.OperationalError as exc:
        if "password authentication failed" not in str(exc):
            raise Misconfigured(f"no Postgres answers at {host}:{port}: {str(exc).strip().splitlines()[0]}") from exc
        raise Misconfigured(
            "Postgres refuses SERVER_POSTGRES_PASSWORD: its volume was created with another password; restore that one in .env"
        ) from exc


def ensure_databases(server: psycopg.Connection[Any], passwords: Mapping[str, str]) -> None:
    """Create each database with an owner of the same name and this password. No other role may connect to it."""
    server.execute("select pg_advisory_lock(hashtext('prepare the server'))")
    for name, password in passwords.items():
        _ensure_role(server, name, password)
        if not server.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            server.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(name)))
        server.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))


def _ensure_role(server: psycopg.Connection[Any], name: str, password: str) -> None:
    exists = server.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone()
    statement = sql.SQL("alter role {} login password {}" if exists else "create role {} login password {}")
    # Encrypted by the client, so that no server log can contain it.
    encrypted = server.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    server.execute(statement.format(sql.Identifier(name), sql.Literal(encrypted)))


def ensure_own_bucket(environ: Mapping[str, str]) -> None:
    """Create the bucket if its S3 service is the one of docker-compose.yaml; never on another service."""
    connection = connection_env.read(connection_env.S3, environ[connection_env.S3])
    if connection.extra.get("endpoint_url") != OWN_S3:
        return
    client = boto3.client(
        "s3",
        endpoint_url=OWN_S3,
        region_name=connection.extra.get("region_name"),
        aws_access_key_id=connection.login,
        aws_secret_access_key=connection.password,
    )
    with contextlib.suppress(BotoCoreError, ClientError):  # it exists, or the check of the connections reports the problem
        client.create_bucket(Bucket=connection.extra["bucket"])


def migrate_airflow() -> None:
    """Migrate Airflow's own tables, with the output of Airflow's command.

    Raises:
        Misconfigured: the command failed.
    """
    if subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=False).returncode != 0:
        raise Misconfigured("Airflow's tables could not be migrated; see the output above")


if __name__ == "__main__":
    sys.exit(main())
