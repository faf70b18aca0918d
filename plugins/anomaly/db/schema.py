"""Migrates the database's schema with yoyo-migrations, and checks that it is up to date."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import yoyo
from psycopg import sql
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from anomaly.db import session
from anomaly.db.errors import translating
from anomaly.db.statements import FOLDER, default_statements, no_sql
from anomaly.errors import Misconfigured
from anomaly.program import PROGRAM

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MIGRATIONS = FOLDER / "migrations"
CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 120
"""Longest wait for another migration to finish."""
LENT = (
    f"the records database is behind a pooler that lends sessions (PgBouncer in transaction mode), and migrations need their own: run "
    f"{PROGRAM} migrate --dsn with the address of the server itself"
)


class _OneTransaction(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """Applies and records each migration in one transaction, on one connection, so that a crash leaves both or neither."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._shared = connection
        super().__init__(parse_uri("postgresql+psycopg:///"), "_yoyo_migrations")

    def connect(self, dburi: str) -> psycopg.Connection[Any]:  # noqa: ARG002  # yoyo passes it
        return self._shared

    def copy(self) -> AbstractContextManager[_OneTransaction]:
        return contextlib.nullcontext(self)


def migrate(dsn: str) -> list[str]:
    """Apply the missing migrations in order, and return their names. Waits for a migration that is already running.

    Raises:
        DatabaseUnavailable: the database cannot be reached, or another migration took too long.
        Misconfigured: the login is refused, or may not create the schema, or the files of the migrations are missing,
            or some have to be applied through a pooler that lends sessions.
    """
    known_migrations()
    with translating(), _connect(dsn) as connection:
        if not session.is_direct(connection) and session.lends_sessions(partial(_connect, dsn)):
            if _missing(connection):
                raise Misconfigured(LENT)
            return []
        connection.execute("select set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT_S}s"])
        connection.execute("set statement_timeout to 0")
        connection.execute("select pg_advisory_lock(hashtext('anomaly migrations'))")
        connection.execute("set datestyle to iso")
        _ensure_schema(connection)
        connection.execute("set search_path to anomaly")
        return _applied(_OneTransaction(connection))


def _connect(dsn: str) -> psycopg.Connection[Any]:
    # psycopg returns text of a database in SQL_ASCII as bytes unless the client has an encoding.
    return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, client_encoding="UTF8")


def _ensure_schema(connection: psycopg.Connection[Any]) -> None:
    """Create the schema unless it exists: `if not exists` alone would need the privilege to create it in either case."""
    user = sql.Identifier(connection.info.user).as_string(connection)
    usable = connection.execute(
        "select has_schema_privilege(oid, 'create') and has_schema_privilege(oid, 'usage') from pg_namespace where nspname = 'anomaly'"
    ).fetchone()
    if usable and not usable[0]:
        raise Misconfigured(f"the login may not create tables in the schema anomaly: grant create, usage on schema anomaly to {user}")
    if not usable:
        try:
            connection.execute("create schema if not exists anomaly")
        except psycopg.errors.InsufficientPrivilege as exc:
            raise Misconfigured(
                f"the login may not create the schema anomaly: let an administrator run: create schema anomaly authorization {user}"
            ) from exc


def _applied(backend: _OneTransaction) -> list[str]:
    backend.create_lock_table()
    # The advisory lock ends with its connection, so yoyo's own lock can only be left over from a crash.
    backend.break_lock()
    todo = backend.to_apply(yoyo.read_migrations(str(MIGRATIONS)))
    for migration in todo:
        with backend.transaction():
            backend.apply_one(migration)
    return [migration.id for migration in todo]


def try_claim(dsn: str) -> None:
    """Try to lock a record as a claim does, or to create the schema if there is none, and roll back.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Misconfigured: the login is refused, or may not do this.
    """
    with translating(), _connect(dsn) as connection, connection.transaction(force_rollback=True):
        if sentence := session.why_read_only(connection):
            raise Misconfigured(sentence)
        if connection.execute("select to_regclass('anomaly.records')").fetchone() == (None,):
            _ensure_schema(connection)
        else:
            connection.execute(default_statements()["try_claim"])


def missing_migrations(dsn: str) -> list[str]:
    """Return the names of the migrations that `migrate` would apply, in order.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Misconfigured: the login is refused, or the files of the migrations are missing.
    """
    with translating(), _connect(dsn) as connection:
        return _missing(connection)


def _missing(connection: psycopg.Connection[Any]) -> list[str]:
    begun = connection.execute("select to_regclass('anomaly._yoyo_migrations') is not null").fetchone() == (True,)
    return sorted(known_migrations() - (applied_migrations(connection) if begun else set()))


def check_migrations(connection: psycopg.Connection[Any]) -> None:
    """Check that every migration of this version is applied. Those of a newer version may be as well.

    Raises:
        Misconfigured: a migration is missing.
    """
    missing = known_migrations() - applied_migrations(connection)
    if missing:
        raise Misconfigured(f"the records database lacks {', '.join(sorted(missing))}: run {PROGRAM} migrate")


def known_migrations() -> set[str]:
    """Return the ids of the migrations that this version ships.

    Raises:
        Misconfigured: their files are missing.
    """
    if not (known := {path.stem for path in MIGRATIONS.glob("*.sql")}):
        raise Misconfigured(no_sql(MIGRATIONS))
    return known


def applied_migrations(connection: psycopg.Connection[Any]) -> set[str]:
    """Return the ids of the migrations that the database has, of any version.

    Raises:
        Misconfigured: it has none.
    """
    with translating():
        return {row[0] for row in connection.execute("select migration_id from anomaly._yoyo_migrations").fetchall()}
