"""The settings of database sessions, and the detection of poolers that lend a session for one transaction only."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg import DataError, errors
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import Connection
    from psycopg.abc import Buffer

CLIENT_SETTINGS = {"DateStyle": "ISO", "client_encoding": "UTF8", "application_name": "anomaly"}
"""Psycopg reads times in ISO style only. PgBouncer applies these to whichever session runs a transaction of the client."""
SESSION_SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "enable_seqscan": "off",
    "jit": "off",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
}
"""A prepared plan lives as long as its connection, and a table that was small when it was planned may be large by then. Frequent statements
have an index made for them; without one, Postgres still scans the table. No statement here is worth compiling. The statements are
written for READ COMMITTED, and times in seconds need all their digits."""
SQL_ASCII = "SQL_ASCII"
FIRST_TIME, LAST_TIME = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_SET = "select set_config(name, value, false) from unnest(%s::text[], %s::text[]) as s (name, value)"
_UNFIT = """
select name from pg_settings
 where (name = 'default_transaction_isolation' and setting <> 'read committed') or (name = 'extra_float_digits' and setting::integer < 1)
"""
_READ_ONLY = "select pg_is_in_recovery(), current_setting('transaction_read_only')::boolean"
_PID = "select pg_backend_pid()"
_ROUNDS = 3


class LenientTextLoader(TextLoader):
    """Reads text as UTF-8, with replacement characters: a database in SQL_ASCII holds any bytes."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "replace")


class LenientTimeLoader(TimestamptzLoader):
    """Reads times, those before the year 1 and after 9999 as the first and the last that Python has. Infinity is refused."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            if text.endswith(b"infinity"):
                raise
            return FIRST_TIME if text.endswith(b"BC") or text.startswith(b"0001") else LAST_TIME


def configure(connection: Connection[Any], *, lent: bool) -> None:
    """Set what the project's statements rely on. A session that is *lent* for a transaction gets only the settings of the client.

    It would keep other settings, and prepared statements, for the next client.
    """
    client_settings = dict(CLIENT_SETTINGS)
    connection.adapters.register_loader("timestamptz", LenientTimeLoader)
    if server_encoding(connection) == SQL_ASCII:
        client_settings["client_encoding"] = SQL_ASCII  # the server would refuse to send bytes that are not UTF-8
        for name in ("text", "varchar", "bpchar", "name"):
            connection.adapters.register_loader(name, LenientTextLoader)
    if lent:
        connection.prepare_threshold = None
    _apply(connection, client_settings if lent else client_settings | SESSION_SETTINGS)


def without_preparing(connect: Callable[[], Any]) -> Any:
    """Open a connection that plans each statement for its parameters."""
    connection = connect()
    connection.prepare_threshold = None
    return connection


def _apply(connection: Connection[Any], settings: Mapping[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_SET, [list(settings), list(settings.values())], prepare=False)


def server_encoding(connection: Connection[Any]) -> str:
    """Return the encoding of the database, by Postgres's name."""
    return connection.info.parameter_status("server_encoding") or "UTF8"


def is_direct(connection: Connection[Any]) -> bool:
    """Return whether the server itself accepted the connection: a pooler makes up the process id that it sends to its clients."""
    return _pid(connection) == connection.info.backend_pid


def lends_sessions(connect: Callable[[], Connection[Any]]) -> bool:
    """Return whether a client's session may be another one in its next transaction, as with PgBouncer in transaction or statement mode."""
    with closing(connect()) as first, closing(connect()) as second:
        first.autocommit = second.autocommit = True
        for _ in range(_ROUNDS):
            seen = {_pid(first), _pid(first)}
            try:
                with second.transaction():
                    if _pid(second) in seen:
                        return True
                    seen.add(_pid(first))
            except errors.ProtocolViolation:  # statement mode has no transactions
                return True
            if len(seen) > 1:
                return True
    return False


def unfit_defaults(connection: Connection[Any]) -> dict[str, str]:
    """Return the settings that give statements other results than runs need, with the value that they should have."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(_UNFIT, prepare=False).fetchall()
    return {name: SESSION_SETTINGS[name] for (name,) in rows}


def why_read_only(connection: Connection[Any]) -> str:
    """Return why nothing can be written and how to fix it; empty if it can."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        ((standby, read_only),) = cursor.execute(_READ_ONLY, prepare=False).fetchall()
    if standby:
        return "the server is a standby and read-only: name the primary server in the connection"
    if read_only:
        login = connection.info.user
        return f"transactions are read-only by default: set default_transaction_read_only to off for the database or the login {login}"
    return ""


def _pid(connection: Connection[Any]) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        ((pid,),) = cursor.execute(_PID, prepare=False).fetchall()
    return int(pid)
