"""Runs the project's statements, and repeats those that failed for now."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Cursor, errors
from psycopg.rows import DictRow

from anomaly.backoff import delay_s
from anomaly.db.encoding import codecs_of, fitted
from anomaly.db.errors import FOREIGN, translate
from anomaly.db.statements import Statements, default_statements
from anomaly.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg.sql import Composed

    from anomaly.db.pool import CheckedPool
    from anomaly.errors import AnomalyError

log = logging.getLogger(__name__)

T = TypeVar("T")
Params = Mapping[str, Any]

ROLLED_BACK = (errors.DeadlockDetected, errors.LockNotAvailable, errors.SerializationFailure)
"""Errors after which nothing has changed and the same statement may succeed."""
RETRIES = 2
BACKOFF_S = 0.1
SLOW_S = 0.1
"""Faster statements are not logged: there is one for each record."""


class Database:
    """Runs statements by name, each in one round trip and a transaction of its own. For any thread."""

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
        self.statements = statements or default_statements()
        self._sleep = sleep
        self._rng = rng or Random()  # noqa: S311  # for jitter
        self._on_retry = retried

    def fetch_all(self, name: str, params: Params, *, idempotent: bool = True) -> list[dict[str, Any]]:
        """Run a statement and return its rows.

        After a deadlock or a lock timeout it is sent again, since nothing has changed. After the connection died under it, its outcome is
        unknown; it is sent again only if it is *idempotent*. Characters that the database's encoding lacks are replaced.

        Raises:
            DatabaseUnavailable: there was no answer; a statement that is not idempotent may have taken effect.
            Misconfigured: the schema does not fit, or the login is refused.
        """
        return self._run(name, params, Cursor[DictRow].fetchall, idempotent=idempotent)

    def fetch_one(self, name: str, params: Params, *, idempotent: bool = True) -> dict[str, Any] | None:
        """Run a statement and return its first row, or None; otherwise as `fetch_all`."""
        return self._run(name, params, Cursor[DictRow].fetchone, idempotent=idempotent)

    def execute(self, name: str, params: Params, *, idempotent: bool = True) -> int:
        """Run a statement and return how many rows it returns; otherwise as `fetch_all`.

        The statement is prepared when a connection first runs it. For statements that run once for each record.
        """
        rows: int = self._run(name, params, attrgetter("rowcount"), idempotent=idempotent, prepare=True)
        return rows

    def _run(
        self, name: str, params: Params, result: Callable[[Cursor[DictRow]], T], *, idempotent: bool, prepare: bool | None = None
    ) -> T:
        text = self.statements[name]
        failures = 0
        codecs: Iterator[str] | None = None
        while True:
            began = time.monotonic()
            try:
                with self._pool.cursor() as cursor:
                    found = result(cursor.execute(text, params, prepare=prepare))
            except errors.UntranslatableCharacter as exc:
                codecs = codecs or iter(codecs_of(self._pool.server_encoding))
                codec = next(codecs, None)
                if codec is None:
                    raise translate(exc) from exc
                params = fitted(params, codec)
                continue
            except FOREIGN as exc:
                failures += 1
                error = translate(exc)
                if failures > RETRIES or not (isinstance(exc, ROLLED_BACK) or (idempotent and _connection_lost(exc, error))):
                    raise error from exc
                log.warning("statement repeated name=%s failures=%d error=%s", name, failures, error)
                self._on_retry()
            else:
                if (took_s := time.monotonic() - began) >= SLOW_S:
                    log.debug("slow statement name=%s took_ms=%.1f", name, took_s * 1000)
                return found
            self._sleep(delay_s(failures, base_s=BACKOFF_S, cap_s=1.0, rng=self._rng))

    def including(self, composed: Mapping[str, Composed]) -> Database:
        """Return this database, on the same pool, with further statements by name."""
        statements = self.statements.including(composed)
        return Database(self._pool, statements=statements, sleep=self._sleep, rng=self._rng, retried=self._on_retry)

    def run(self, name: str) -> None:
        """Run a statement that has no parameters and returns no rows; otherwise as `fetch_all`."""
        self._run(name, {}, lambda _: None, idempotent=True)

    def shut_overdue_calls(self) -> int:
        """Shut the sockets of calls past their deadline, and return their number."""
        return self._pool.deadlines.shut_overdue()

    def pool_use(self) -> tuple[int, int]:
        """Return the number of connections in use and of those that are open."""
        in_use = self._pool.checkedout()
        return in_use, in_use + self._pool.checkedin()

    def close(self) -> None:
        self._pool.dispose()


def _connection_lost(exc: Exception, error: AnomalyError) -> bool:
    """Return whether the connection died, or none could be opened."""
    state = getattr(exc, "sqlstate", None) or ""
    return isinstance(error, DatabaseUnavailable) and (state == "" or state.startswith(("08", "57P")))
