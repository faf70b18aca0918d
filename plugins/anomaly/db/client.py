"""Connections to the records database: a bounded, checked pool, and a deadline for every call."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import QueuePool

from anomaly.backoff import delay_s
from anomaly.db.calls import Calls
from anomaly.db.errors import FOREIGN, translated, translating
from anomaly.db.prepared import Prepared
from anomaly.db.statements import Statements, shipped
from anomaly.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.errors import AnomalyError
    from anomaly.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
Params = Mapping[str, Any]

ROLLED_BACK = (errors.DeadlockDetected, errors.LockNotAvailable, errors.SerializationFailure)
"""The server says so itself: nothing happened, and the same statement may succeed now."""
REPEATS = 2
BACKOFF_S = 0.1
SLOW_S = 0.1
"""A faster statement is not worth a line of the log: there is one for each record."""
SESSION = """
select set_config('statement_timeout', '15s', false), set_config('lock_timeout', '5s', false),
       set_config('idle_in_transaction_session_timeout', '15s', false), set_config('application_name', 'anomaly', false),
       set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)
"""
"""A plan is kept for as long as its connection, and a table that was read as a whole while it was small is large by then. What runs often
has an index that was made for it; a table without one is still read as a whole. Nothing here is worth compiling."""


class CheckedPool(QueuePool):
    """At most `db_pool_max` connections, in autocommit; one that died or stood idle is checked before it is handed out."""

    def __init__(self, creator: Callable[[], Any], settings: Settings, *, clock: Callable[[], float]) -> None:
        super().__init__(
            creator,
            pool_size=settings.db_pool_max,
            max_overflow=0,
            timeout=settings.db_call_deadline_s,
            use_lifo=True,
            reset_on_return=None,
        )
        self.calls = Calls(deadline_s=settings.db_call_deadline_s, clock=clock)
        self._idle_check_s = settings.db_idle_check_s
        self._now = clock
        event.listen(self, "connect", self._on_connect)
        event.listen(self, "checkout", self._on_checkout)
        event.listen(self, "close", _on_close)

    def _on_connect(self, connection: Any, record: Any) -> None:
        connection.autocommit = True
        # A duplicate names this very connection, even after libpq has closed its own and the number is someone else's.
        record.info["line"] = line = socket.socket(fileno=os.dup(connection.fileno()))
        with self.calls.timed(line):
            connection.execute(SESSION)
        self.used(record)

    def used(self, record: Any) -> None:
        """The connection of that record, or of a proxy, has answered."""
        record.info["used"] = self._now()

    def _on_checkout(self, connection: Any, record: Any, _proxy: Any) -> None:
        if self._now() - record.info["used"] <= self._idle_check_s and not _has_something_to_say(connection):
            return
        try:
            with self.calls.timed(record.info["line"]):
                connection.execute("")
        except (psycopg.Error, OSError) as exc:
            log.info("database connection replaced error=%s", type(exc).__name__)
            raise InvalidatePoolError from exc


def _on_close(_connection: Any, record: Any) -> None:
    if (line := record.info.pop("line", None)) is not None:
        line.close()


def _has_something_to_say(connection: psycopg.Connection[Any]) -> bool:
    """Nobody asked, so it is a farewell: the server, or something between, has closed it."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except psycopg.Error:
        return True


def connector(dsn: str, settings: Settings) -> Callable[[], psycopg.Connection[Any]]:
    """What opens a connection to a DSN, within `db_connect_timeout_s`; for those who have no hook."""
    return lambda: psycopg.connect(dsn, autocommit=True, connect_timeout=settings.db_connect_timeout_s)


def checked_pool(creator: Callable[[], Any], settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> CheckedPool:
    """A pool with its first `db_pool_min` connections open. *creator* gives a new psycopg connection each time.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Misconfigured: it refuses the login.
    """
    pool = CheckedPool(creator, settings, clock=clock)
    with contextlib.ExitStack() as opened, translating():
        for _ in range(settings.db_pool_min):
            opened.callback(pool.connect().close)
    return pool


class Database:
    """Runs the project's statements, each one in a round trip and a transaction of its own."""

    def __init__(
        self,
        pool: CheckedPool,
        *,
        statements: Statements | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: Random | None = None,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._statements = statements or shipped()
        self._sleep = sleep
        self._rng = rng or Random()  # noqa: S311  # it spreads waits, and guards nothing
        self._tell_retried = retried

    def rows(self, name: str, params: Params, *, repeatable: bool = True) -> list[dict[str, Any]]:
        """The rows of a statement.

        After a deadlock or a lock timeout the statement is sent again, for nothing has happened. After a connection died under it,
        nobody knows; it is sent again only if it is *repeatable*, which means that doing it twice comes to the same.

        Raises:
            DatabaseUnavailable: no answer; what was not repeatable may have happened.
            Misconfigured: the schema does not fit, or the login is refused.
        """
        return self._repeated(_fetched, name, params, repeatable=repeatable)

    def count(self, name: str, params: Params, *, repeatable: bool = True) -> int:
        """How many rows a statement returns. For those that run for each record, since it costs less; otherwise as `rows`."""
        return self._repeated(_counted, name, params, repeatable=repeatable)

    def _repeated(self, run: Callable[[Any, str, str, Params], T], name: str, params: Params, *, repeatable: bool) -> T:
        failures = 0
        while True:
            try:
                return self._once(run, name, params)
            except FOREIGN as exc:
                failures += 1
                error = translated(exc)
                if failures > REPEATS or not (isinstance(exc, ROLLED_BACK) or (repeatable and _connection_lost(exc, error))):
                    raise error from exc
                log.warning("statement repeated name=%s failures=%d error=%s", name, failures, error)
                self._tell_retried()
            self._sleep(delay_s(failures, base_s=BACKOFF_S, cap_s=1.0, rng=self._rng))

    def row(self, name: str, params: Params, *, repeatable: bool = True) -> dict[str, Any] | None:
        """The first row of a statement, None where it has none."""
        return next(iter(self.rows(name, params, repeatable=repeatable)), None)

    def shut_overdue_calls(self) -> int:
        return self._pool.calls.shut_overdue()

    def pool_use(self) -> tuple[int, int]:
        """Connections in use, and open."""
        in_use = self._pool.checkedout()
        return in_use, in_use + self._pool.checkedin()

    def close(self) -> None:
        self._pool.dispose()

    def _once(self, run: Callable[[Any, str, str, Params], T], name: str, params: Params) -> T:
        text, began = self._statements.text(name), time.monotonic()
        proxy = self._pool.connect()
        try:
            with self._pool.calls.timed(proxy.info["line"]):
                found = run(proxy, name, text, params)
            self._pool.used(proxy)
        except BaseException as exc:
            # A shutdown that interrupts the call, too, leaves the connection in the middle of an answer.
            proxy.invalidate(exc)
            raise
        finally:
            proxy.close()
        if (took_s := time.monotonic() - began) >= SLOW_S:
            log.debug("statement took long name=%s took_ms=%.1f", name, took_s * 1000)
        return found


def _fetched(proxy: Any, _name: str, text: str, params: Params) -> list[dict[str, Any]]:
    with proxy.dbapi_connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(text, params)
        rows: list[dict[str, Any]] = cursor.fetchall()
        return rows


def _counted(proxy: Any, name: str, text: str, params: Params) -> int:
    if (prepared := proxy.info.get("prepared")) is None:
        prepared = proxy.info["prepared"] = Prepared(proxy.dbapi_connection)
    return int(prepared.run(name, text, params))


def _connection_lost(exc: Exception, error: AnomalyError) -> bool:
    """True where the connection died, or there was none to be had."""
    state = getattr(exc, "sqlstate", None) or ""
    return isinstance(error, DatabaseUnavailable) and (state == "" or state.startswith(("08", "57P")))
