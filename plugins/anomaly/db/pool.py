"""A bounded pool of checked connections, with a deadline for every call."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import DictRow, dict_row
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import QueuePool

from anomaly.db import session
from anomaly.db.errors import translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anomaly.settings import Settings

log = logging.getLogger(__name__)


class CallDeadlines:
    """Shuts the sockets of calls that take too long, since libpq has no read timeout.

    For any thread. One thread has to call `shut_overdue` at regular intervals.
    """

    def __init__(self, *, deadline_s: float, clock: Callable[[], float]) -> None:
        self._deadline_s = deadline_s
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[socket.socket, float] = {}

    @contextlib.contextmanager
    def watching(self, sock: socket.socket) -> Iterator[None]:
        """Put a deadline on the call that runs inside the block and uses *sock*."""
        self._started[sock] = self._clock()
        try:
            yield
        finally:
            with self._lock:  # so that `shut_overdue` never shuts the socket under a later call
                self._started.pop(sock, None)

    def shut_overdue(self) -> int:
        """Shut the sockets of calls past their deadline, which fail at once, and return their number."""
        with self._lock:
            overdue = [sock for sock, started in list(self._started.items()) if self._clock() - started > self._deadline_s]
            for sock in overdue:
                del self._started[sock]
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        return len(overdue)


class CheckedPool(QueuePool):
    """At most `db_pool_max` connections, in autocommit. One that is readable or was idle is checked before it is used."""

    def __init__(self, creator: Callable[[], Any], settings: Settings, *, clock: Callable[[], float]) -> None:
        super().__init__(
            creator,
            pool_size=settings.db_pool_max,
            max_overflow=0,
            timeout=settings.db_call_deadline_s,
            use_lifo=True,
            reset_on_return=None,
        )
        self._connect = creator
        self.deadlines = CallDeadlines(deadline_s=settings.db_call_deadline_s, clock=clock)
        self._idle_check_s = settings.db_idle_check_s
        self._clock = clock
        self._lent: bool | None = None
        self.server_encoding = "UTF8"
        event.listen(self, "connect", self._on_connect)
        event.listen(self, "checkout", self._on_checkout)
        event.listen(self, "close", _on_close)

    @contextlib.contextmanager
    def cursor(self) -> Iterator[psycopg.Cursor[DictRow]]:
        """Lend the cursor of a connection for one call. A connection whose call fails is closed."""
        lent = self.connect()
        try:
            with self.deadlines.watching(lent.info["socket"]):
                yield lent.info["cursor"]
            self._mark_used(lent)
        except BaseException as exc:
            # After an interrupt, too, the rest of the answer is still to come.
            lent.invalidate(exc)
            raise
        finally:
            lent.close()

    def _mark_used(self, entry: Any) -> None:
        entry.info["used"] = self._clock()

    def _on_connect(self, connection: Any, record: Any) -> None:
        with contextlib.ExitStack() as after_failure:  # SQLAlchemy forgets a connection whose listener raises, and leaves it open
            after_failure.callback(connection.close)
            connection.autocommit = True
            # A duplicate refers to this connection even after libpq has closed its own descriptor and the number is in use again.
            sock = after_failure.enter_context(socket.socket(fileno=os.dup(connection.fileno())))
            self.server_encoding = session.server_encoding(connection)
            with self.deadlines.watching(sock):
                session.configure(connection, lent=self._is_lent(connection))
            record.info["socket"] = sock
            record.info["cursor"] = connection.cursor(row_factory=dict_row)
            self._mark_used(record)
            after_failure.pop_all()

    def _is_lent(self, connection: Any) -> bool:
        """Return whether connections go through a pooler that lends sessions. The pool finds out once."""
        if self._lent is None:
            self._lent = not session.is_direct(connection) and session.lends_sessions(self._connect)
            if self._lent:
                log.info("the database is behind a pooler that lends sessions: no limits of the session, no prepared statements")
        return self._lent

    def _on_checkout(self, connection: Any, record: Any, _proxy: Any) -> None:
        if self._clock() - record.info["used"] <= self._idle_check_s and not _is_readable(connection):
            return
        try:
            with self.deadlines.watching(record.info["socket"]):
                connection.execute("")
        except (psycopg.Error, OSError) as exc:
            log.info("database connection replaced error=%s", type(exc).__name__)
            raise InvalidatePoolError from exc


def _on_close(_connection: Any, record: Any) -> None:
    if (sock := record.info.pop("socket", None)) is not None:
        sock.close()


def _is_readable(connection: psycopg.Connection[Any]) -> bool:
    """Return whether an idle connection has something to read, which means that the server or a proxy has closed it."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except psycopg.Error:
        return True


def connector(dsn: str, settings: Settings) -> Callable[[], psycopg.Connection[Any]]:
    """Return a function that opens a connection to *dsn* within `db_connect_timeout_s`, for callers without an Airflow hook."""
    timeout_s = settings.db_connect_timeout_s
    return lambda: psycopg.connect(dsn, autocommit=True, connect_timeout=timeout_s, client_encoding="UTF8")


def open_pool(creator: Callable[[], Any], settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> CheckedPool:
    """Return a pool with its first `db_pool_min` connections open. *creator* opens a new psycopg connection.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Misconfigured: it refuses the login.
    """
    pool = CheckedPool(creator, settings, clock=clock)
    with contextlib.ExitStack() as opened, translating():
        for _ in range(settings.db_pool_min):
            opened.callback(pool.connect().close)
    return pool
