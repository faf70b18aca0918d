"""Prepares the server before Airflow starts: `python -m deploy.server.prepare`, the service `init` of docker-compose.yaml.

Afterwards both databases are there with a role each, the bucket is there, what the connections lead to answers, and the tables of
Airflow and of the project are up to date. What is wrong is one sentence and exit code 2, and nothing else starts.
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

WRONG = 2
OWN_S3 = "http://s3:8333"
DATABASES = {"airflow": "SERVER_AIRFLOW_DB_PASSWORD", "records": "SERVER_RECORDS_DB_PASSWORD"}
"""Each database's name, which is its owner's too, and where the owner's password stands."""
CONNECT_S = 5


def main() -> int:
    try:
        for line in prepare(os.environ):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except AnomalyError as exc:
        sys.stderr.write(f"{exc}\n")
        return WRONG
    return 0


def prepare(environ: Mapping[str, str]) -> list[str]:
    """Do all of it; return what was done, a line each.

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
    """Raise Misconfigured unless the profiles run that .env speaks of."""
    if environ["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor":
        _check_broker(environ["AIRFLOW__CELERY__BROKER_URL"])
    if environ["AIRFLOW__METRICS__STATSD_ON"].lower() == "true":
        _check_metrics(environ["AIRFLOW__METRICS__STATSD_HOST"])


def _check_broker(url: str) -> None:
    try:
        redis.Redis.from_url(url, socket_connect_timeout=CONNECT_S, socket_timeout=CONNECT_S).ping()
    except redis.AuthenticationError as exc:
        raise Misconfigured("redis refuses SERVER_REDIS_PASSWORD: start it anew with docker compose up --force-recreate redis") from exc
    except redis.RedisError as exc:
        raise Misconfigured("SERVER_EXECUTOR is CeleryExecutor and no redis answers: add celery to COMPOSE_PROFILES in .env") from exc


def _check_metrics(host: str) -> None:
    try:
        socket.getaddrinfo(host, None)
    except OSError as exc:
        raise Misconfigured(f"SERVER_METRICS is True and there is no {host}: add metrics to COMPOSE_PROFILES in .env") from exc


def superuser(host: str, password: str, *, port: int = 5432) -> psycopg.Connection[Any]:
    """Return a connection that may create roles and databases.

    Raises:
        Misconfigured: the server is not there, or has another password.
    """
    try:
        return psycopg.connect(
            host=host, port=port, user="postgres", password=password, dbname="postgres", connect_timeout=CONNECT_S, autocommit=True
        )
    except psycopg.OperationalError as exc:
        if "password authentication failed" not in str(exc):
            raise Misconfigured(f"no Postgres answers at {host}:{port}: {str(exc).strip().splitlines()[0]}") from exc
        raise Misconfigured(
            "Postgres refuses SERVER_POSTGRES_PASSWORD: its volume was made with another one, which has to stand in .env again"
        ) from exc


def ensure_databases(server: psycopg.Connection[Any], passwords: Mapping[str, str]) -> None:
    """Each of them belongs afterwards to a role of its name with that password, and nobody else may connect to it."""
    server.execute("select pg_advisory_lock(hashtext('prepare the server'))")
    for name, password in passwords.items():
        _ensure_role(server, name, password)
        if not server.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            server.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(name)))
        server.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))


def _ensure_role(server: psycopg.Connection[Any], name: str, password: str) -> None:
    there = server.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone()
    statement = sql.SQL("alter role {} login password {}" if there else "create role {} login password {}")
    # Encrypted here, so that no log of the server can hold it.
    encrypted = server.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    server.execute(statement.format(sql.Identifier(name), sql.Literal(encrypted)))


def ensure_own_bucket(environ: Mapping[str, str]) -> None:
    """Make the bucket where the S3 service is ours; somebody else's bucket is theirs to make."""
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
    with contextlib.suppress(BotoCoreError, ClientError):  # it is there, or the check of the connections says what is wrong
        client.create_bucket(Bucket=connection.extra["bucket"])


def migrate_airflow() -> None:
    """Bring Airflow's own tables up to date; what it says goes to our own output.

    Raises:
        Misconfigured: they could not be.
    """
    if subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=False).returncode != 0:
        raise Misconfigured("Airflow's tables could not be brought up to date; the reason stands above")


if __name__ == "__main__":
    sys.exit(main())
