"""Reads and checks the connections in environment variables `AIRFLOW_CONN_ANOMALY_…`.

Does not import Airflow, which takes seconds, so that a start can refuse a wrong connection at once.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from anomaly.errors import AnomalyError, Misconfigured
from anomaly.models.source import EXTRA as SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DB, S3, DETECTOR, IMAGES = (f"AIRFLOW_CONN_ANOMALY_{name}" for name in ("DB", "S3", "DETECTOR", "IMAGES"))
TIMEOUT_S = 5
HOOK_EXTRAS = frozenset(
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
"""Extras of a Postgres connection that PostgresHook does not pass to libpq (its `ignored_extra_options`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConnection:
    """The fields of an Airflow connection."""

    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


class HasAddress(Protocol):
    """The fields of a connection that make an address: of one from the environment or of Airflow's own."""

    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def schema(self) -> str | None: ...


def read(variable: str, value: str) -> EnvConnection:
    """Parse the value of an environment variable as Airflow does.

    Raises:
        Misconfigured: it is neither a connection URI nor JSON.
    """
    try:
        return _from_json(json.loads(value)) if value.lstrip().startswith("{") else _from_uri(value)
    except (ValueError, TypeError, AttributeError) as exc:
        raise Misconfigured(f"{variable} is neither a connection URI nor JSON for Airflow; docs/operations.md shows both") from exc


def check(environ: Mapping[str, str]) -> None:
    """Connect to each service whose variable is set. Changes nothing there.

    Raises:
        Misconfigured: a variable cannot be parsed, or its service cannot be used.
    """
    for variable, check_service in {DB: _check_database, S3: _check_bucket, DETECTOR: _check_detector}.items():
        if environ.get(variable):
            with translating(variable):
                check_service(read(variable, environ[variable]))
    if environ.get(IMAGES):
        read(IMAGES, environ[IMAGES])  # it names no host to connect to


def records_dsn(environ: Mapping[str, str]) -> str:
    """Return the DSN of the records database, without the extras that are meant for Airflow's hook.

    Raises:
        Misconfigured: the variable cannot be parsed, or libpq does not know one of the extras.
    """
    with translating(DB):
        return dsn(read(DB, environ[DB]))


@contextlib.contextmanager
def translating(variable: str) -> Iterator[None]:
    """Raise what a library raises about the values of a connection as Misconfigured. Its text may quote a password."""
    try:
        yield
    except AnomalyError:
        raise
    except Exception as exc:  # noqa: BLE001  # libraries raise any error about a value that they do not expect
        raise Misconfigured(f"{variable}: a field or an extra has a value that cannot be used ({type(exc).__name__})") from None


def _from_json(value: Mapping[str, Any]) -> EnvConnection:
    extra = value.get("extra") or {}
    port = value.get("port")
    return EnvConnection(
        host=value.get("host"),
        port=int(port) if port else None,
        login=value.get("login"),
        password=value.get("password"),
        schema=value.get("schema"),
        extra=dict(json.loads(extra) if isinstance(extra, str) else extra),
    )


def _from_uri(uri: str) -> EnvConnection:
    """Parse `type://host` or `type://protocol://host`."""
    kind, separator, rest = uri.partition("://")
    if not kind or not separator:
        raise ValueError(kind)
    parts = urlsplit(rest if "://" in rest else f"//{rest}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return EnvConnection(
        host=_host(parts),
        port=parts.port,
        login=_unquoted(parts.username),
        password=_unquoted(parts.password),
        schema=_unquoted(parts.path.removeprefix("/")),
        extra=json.loads(query["__extra__"]) if "__extra__" in query else query,
    )


def _host(parts: SplitResult) -> str | None:
    name = unquote(parts.hostname or "")
    return f"{parts.scheme}://{name}" if name and parts.scheme else name or None


def _unquoted(part: str | None) -> str | None:
    return unquote(part) if part else None


def dsn(connection: EnvConnection) -> str:
    """Return the DSN of a database, without the extras that are meant for Airflow's hook.

    Raises:
        Misconfigured: libpq does not know one of the extras.
    """
    extra = {key: str(value) for key, value in connection.extra.items() if key not in HOOK_EXTRAS | {SOURCE}}
    password = _token(connection) if connection.extra.get("iam") else connection.password
    fields = {"host": connection.host, "port": connection.port, "user": connection.login, "password": password}
    try:
        return make_conninfo("", **{"connect_timeout": str(TIMEOUT_S), **fields, "dbname": connection.schema} | extra)
    except psycopg.ProgrammingError as exc:
        raise Misconfigured(f"{DB} has an extra that Postgres does not know: {_first_line(exc)}") from exc


def _token(connection: EnvConnection) -> str:
    """Return a token for a database in RDS, by the credentials that boto3 finds."""
    if others := connection.extra.keys() & {"redshift", "redshift-serverless", "azure_conn_id"}:
        raise Misconfigured(f"{DB}: there are tokens for databases in RDS only here, and the extra names {', '.join(sorted(others))}")
    try:
        rds = boto3.client("rds")
        token: str = rds.generate_db_auth_token(DBHostname=connection.host, Port=connection.port or 5432, DBUsername=connection.login)
    except BotoCoreError as exc:
        raise Misconfigured(f"{DB}: no token can be made: {_first_line(exc)}") from exc
    return token


def _check_database(connection: EnvConnection) -> None:
    conninfo = dsn(connection)
    server = conninfo_to_dict(conninfo)
    try:
        psycopg.connect(conninfo).close()
    except psycopg.Error as exc:
        address = f"{server.get('host', 'its host')}:{server.get('port', 5432)}"
        raise Misconfigured(f"{DB}: the database at {address} cannot be used: {_first_line(exc)}; correct it, or unset it") from exc


def _check_bucket(connection: EnvConnection) -> None:
    bucket = connection.extra.get("bucket")
    if not bucket:
        raise Misconfigured(f'{S3} names no bucket; add "bucket" to its extra')
    try:
        s3_client(connection).head_bucket(Bucket=bucket)
    except ClientError as exc:
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        problem = {404: "does not exist; create it", 403: "refuses these keys; correct them"}.get(status or 0, f"answers {status}")
        raise Misconfigured(f"the bucket {bucket} of {S3} {problem}, or name another one") from exc
    except (BotoCoreError, ValueError, TypeError) as exc:
        raise Misconfigured(f"{S3}: the S3 service cannot be used: {_first_line(exc)}; correct it, or unset it") from exc


def s3_client(connection: EnvConnection) -> Any:
    """Return a client without retries.

    Raises:
        Misconfigured: its options are no JSON object.
    """
    options = connection.extra.get("config_kwargs", {})
    if not isinstance(options, dict):
        raise Misconfigured(f"{S3}: config_kwargs must be a JSON object, so write the connection as JSON; docs/operations.md shows it")
    config = Config(**options).merge(Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}))
    return boto3.client(
        "s3",
        endpoint_url=connection.extra.get("endpoint_url"),
        region_name=connection.extra.get("region_name"),
        aws_access_key_id=connection.login or None,
        aws_secret_access_key=connection.password or None,
        config=config,
    )


def address(of: HasAddress, scheme: str) -> str:
    """Return the URL in a connection. The host may be a whole URL with a path; the schema names the scheme, by default *scheme*."""
    host = of.host or ""
    parts = urlsplit(host if "://" in host else f"{of.schema or scheme}://{host}")
    return parts._replace(netloc=f"{parts.netloc}:{of.port}").geturl() if of.port and not parts.port else parts.geturl()


def _check_detector(connection: EnvConnection) -> None:
    parts = urlsplit(address(connection, "http"))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not parts.hostname:
        raise Misconfigured(f"{DETECTOR} names no host")
    try:
        socket.create_connection((parts.hostname, port), timeout=TIMEOUT_S).close()
    except OSError as exc:
        raise Misconfigured(f"{DETECTOR}: nothing answers at {parts.hostname}:{port}: {_first_line(exc)}; correct it, or unset it") from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
