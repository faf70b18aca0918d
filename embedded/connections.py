"""The four Airflow connections: which of them the person has set, whether they work, and what stands in for the others."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from anomaly.errors import Misconfigured
from embedded.connection_env import Given, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from embedded.web import WebService

DB, S3_BUCKET, DETECTOR, IMAGES = (f"AIRFLOW_CONN_ANOMALY_{name}" for name in ("DB", "S3", "DETECTOR", "IMAGES"))
CONNECT_S = 5
DATABASE = "anomaly"
HOOKS_OWN = frozenset(
    {
        "aws_conn_id",
        "azure_conn_id",
        "cluster-identifier",
        "cursor",
        "iam",
        "redshift",
        "redshift-serverless",
        "sqlalchemy_query",
        "sqlalchemy_scheme",
        "workgroup-name",
    }
)
"""Extras of a Postgres connection that Airflow's hook keeps to itself."""


def to_postgres(server: Postgres) -> str:
    return server.dsn(DATABASE)


def to_s3(server: S3) -> str:
    extra = {
        "bucket": server.bucket,
        "prefix": "",
        "endpoint_url": server.endpoint_url,
        "region_name": server.region,
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    return json.dumps({"conn_type": "aws", "login": server.access_key, "password": server.secret_key, "extra": extra})


def to_detector(service: WebService) -> str:
    return json.dumps({"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": service.port, "extra": {"dialect": "reference"}})


def to_images() -> str:
    """Images may come from this machine, and from nowhere else inside a private network."""
    return json.dumps({"conn_type": "http", "extra": {"allow_networks": ["127.0.0.0/8"]}})


def check_given(environ: Mapping[str, str]) -> None:
    """Try the services whose connections are set; nothing is changed there.

    Raises:
        Misconfigured: one cannot be read, or what it leads to does not answer.
    """
    checks = {DB: _check_database, S3_BUCKET: _check_bucket, DETECTOR: _check_detector, IMAGES: _check_nothing}
    for variable, check in checks.items():
        if environ.get(variable):
            check(read(variable, environ[variable]))


def given_dsn(environ: Mapping[str, str]) -> str:
    """The connection to the person's own database, as libpq reads it."""
    return _conninfo(read(DB, environ[DB]))


def _conninfo(connection: Given) -> str:
    extra = {key: str(value) for key, value in connection.extra.items() if key not in HOOKS_OWN}
    own = {"host": connection.host, "port": connection.port, "user": connection.login, "password": connection.password}
    try:
        return make_conninfo("", **{"connect_timeout": str(CONNECT_S)} | extra, **own, dbname=connection.schema)
    except psycopg.ProgrammingError as exc:
        raise Misconfigured(f"{DB} has an extra that Postgres does not know: {_line(exc)}") from exc


def _check_database(connection: Given) -> None:
    conninfo = _conninfo(connection)
    place = conninfo_to_dict(conninfo)
    try:
        psycopg.connect(conninfo).close()
    except psycopg.Error as exc:
        where = f"{place.get('host', 'its host')}:{place.get('port', 5432)}"
        raise Misconfigured(f"{DB} leads to a database at {where} that cannot be used: {_line(exc)}; correct it, or unset it") from exc


def _check_bucket(connection: Given) -> None:
    extra = connection.extra
    bucket = extra.get("bucket")
    if not bucket:
        raise Misconfigured(f'{S3_BUCKET} names no bucket; add "bucket" to its extra')
    try:
        _s3_client(connection, extra).head_bucket(Bucket=bucket)
    except ClientError as exc:
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        reason = {404: "does not exist; create it", 403: "may not be used with these keys; correct them"}.get(
            status or 0, f"answers {status}"
        )
        raise Misconfigured(f"the bucket {bucket} of {S3_BUCKET} {reason}, or name another one") from exc
    except (BotoCoreError, ValueError, TypeError) as exc:
        raise Misconfigured(f"{S3_BUCKET} leads to no S3 service: {_line(exc)}; correct it, or unset it") from exc


def _s3_client(connection: Given, extra: Mapping[str, Any]) -> Any:
    config = Config(**extra.get("config_kwargs", {})).merge(
        Config(connect_timeout=CONNECT_S, read_timeout=CONNECT_S, retries={"total_max_attempts": 1})
    )
    return boto3.client(
        "s3",
        endpoint_url=extra.get("endpoint_url"),
        region_name=extra.get("region_name"),
        aws_access_key_id=connection.login or None,
        aws_secret_access_key=connection.password or None,
        config=config,
    )


def _check_detector(connection: Given) -> None:
    host = connection.host or ""
    parts = urlsplit(host if "://" in host else f"{connection.schema or 'http'}://{host}")
    port = connection.port or parts.port or (443 if parts.scheme == "https" else 80)
    if not parts.hostname:
        raise Misconfigured(f"{DETECTOR} names no host")
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as exc:
        raise Misconfigured(
            f"{DETECTOR} leads to {parts.hostname}:{port}, where nothing answers: {_line(exc)}; correct it, or unset it"
        ) from exc


def _check_nothing(_: Given) -> None:
    """It names no host of its own: that it can be read is all there is to check."""


def _line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
