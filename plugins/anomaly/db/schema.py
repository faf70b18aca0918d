"""The database's schema: brought up to date by yoyo-migrations, and checked before it is used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import yoyo
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from anomaly.db.errors import translating
from anomaly.db.statements import FOLDER
from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MIGRATIONS = FOLDER / "migrations"
CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 120
"""How long a migration waits for another one that is under way."""


class _OneTransaction(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """Applies a migration and notes that it did, on one connection and so in one transaction: a crash leaves both or neither."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._given = connection
        super().__init__(parse_uri("postgresql+psycopg:///"), "_yoyo_migrations")

    def connect(self, _uri: str) -> psycopg.Connection[Any]:
        return self._given

    def copy(self) -> AbstractContextManager[_OneTransaction]:
        return contextlib.nullcontext(self)


def migrate(dsn: str) -> list[str]:
    """Apply what is missing, in order, and return the names of what was applied; side by side with another one it waits.

    Raises:
        DatabaseUnavailable: the database cannot be reached, or another migration took too long.
        Misconfigured: the login is refused, or may not create the schema.
    """
    with translating(), psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        connection.execute("select set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT_S}s"])
        connection.execute("select pg_advisory_lock(hashtext('anomaly migrations'))")
        connection.execute("create schema if not exists anomaly")
        connection.execute("set search_path to anomaly")
        return _applied(_OneTransaction(connection))


def _applied(backend: _OneTransaction) -> list[str]:
    backend.create_lock_table()
    # Under the advisory lock, which dies with its connection, yoyo's own lock can only be left over from a crash.
    backend.break_lock()
    todo = backend.to_apply(yoyo.read_migrations(str(MIGRATIONS)))
    for migration in todo:
        with backend.transaction():
            backend.apply_one(migration)
    return [migration.id for migration in todo]


def check_migrations(connection: psycopg.Connection[Any]) -> None:
    """Return where every migration is applied, those of a newer version included.

    Raises:
        Misconfigured: one is missing, or all of them are.
    """
    missing = known_migrations() - applied_migrations(connection)
    if missing:
        raise Misconfigured(f"the records database lacks {', '.join(sorted(missing))}: run bin/anomaly migrate")


def known_migrations() -> set[str]:
    """The migrations that this version knows."""
    return {path.stem for path in MIGRATIONS.glob("*.sql")}


def applied_migrations(connection: psycopg.Connection[Any]) -> set[str]:
    """The migrations that the database has seen, whichever version brought them.

    Raises:
        Misconfigured: it has seen none.
    """
    with translating():
        return {row[0] for row in connection.execute("select migration_id from anomaly._yoyo_migrations").fetchall()}
