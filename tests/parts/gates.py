"""Gates that stop work at a chosen point until a test opens them: one for calls in this process, one for statements in a database."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

LOCK = 4711
BLOCKED_MAX_S = 60.0


class CallGate:
    """Lets a number of calls of `wait` pass at once, and blocks later ones until `open`."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self.blocked = 0
        """Calls that were blocked so far."""

    def wait(self) -> None:
        with self._lock:
            self._passes -= 1
            blocks = self._passes < 0 and not self._opened.is_set()
            self.blocked += blocks
        if blocks:
            self._opened.wait(BLOCKED_MAX_S)

    def open(self) -> None:
        self._opened.set()


class StatementGate:
    """While shut, blocks other sessions' statements that write rows of a table, by a trigger that waits for an advisory lock.

    Args:
        connection: creates the trigger and holds the lock.
        table: of the schema `anomaly`.
        event: insert, update or delete.
        condition: SQL over `new` and `old`; rows for which it is false pass.
    """

    def __init__(self, connection: psycopg.Connection[Any], table: str, event: str, condition: str = "true") -> None:
        self._connection = connection
        statements = f"""
            create function anomaly.gate() returns trigger language plpgsql as
            $$ begin
                 if {condition} then perform pg_advisory_xact_lock_shared({LOCK}); end if;
                 if tg_op = 'DELETE' then return old; end if;
                 return new;
               end $$;
            create trigger gate before {event} on anomaly.{table} for each row execute function anomaly.gate()"""
        connection.execute(statements.encode())

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        self._connection.execute("select pg_advisory_lock(%s)", [LOCK])
        try:
            yield
        finally:
            self._connection.execute("select pg_advisory_unlock(%s)", [LOCK])

    def blocked(self) -> int:
        """Return the number of statements that wait for the gate."""
        waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory'"
        return len(self._connection.execute(waiting).fetchall())
