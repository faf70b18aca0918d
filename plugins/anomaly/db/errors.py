"""Translates errors of psycopg and SQLAlchemy into the project's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from sqlalchemy.exc import SQLAlchemyError

from anomaly.errors import AnomalyError, DatabaseUnavailable, DetectorAnswerInvalid, Misconfigured, ResultRefused, Retryable
from anomaly.program import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = (psycopg.Error, SQLAlchemyError)
WRONG_STATEMENT = "42"
"""The class of SQLSTATEs for syntax, names, types and privileges."""
LOCKED = (errors.LockNotAvailable, errors.DeadlockDetected)
REFUSED_ROWS = frozenset({"22", "23", "27", "44", "54", "P0"})
"""Classes of SQLSTATEs for a row that does not fit: values, constraints, triggers, checks of views, limits such as an index row's size."""
FAULTY_QUERY = frozenset({"0A", "21", "22", "25", "2F", "38", "39", "3F", "42", "54", "P0"})
"""Classes of SQLSTATEs for a query that fails until a person has changed it, or the view or function that it reads."""
LOGIN_REFUSED = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no such database",
    "no such user",
    "unsupported startup parameter",
    "server does not support SSL",
    "certificate verify failed",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
)
"""Parts of the messages of servers and PgBouncer when the login is refused; libpq passes no SQLSTATE on."""


class SourceWriteFailed(Retryable):
    """Raised when the row of a source is locked. Nothing was written."""

    code = "source_write_failed"


@contextlib.contextmanager
def storing_result() -> Iterator[None]:
    """Raise errors of a commit that concern one record as ResultRefused, and those of a row that stays locked as SourceWriteFailed."""
    try:
        yield
    except AnomalyError as exc:
        cause = exc.__cause__
        if isinstance(cause, LOCKED):
            raise SourceWriteFailed(f"the row of the source was not written: {_first_line(cause)}") from exc
        if isinstance(cause, psycopg.Error) and (cause.sqlstate or "")[:2] in REFUSED_ROWS and not isinstance(exc, Misconfigured):
            raise ResultRefused(f"the database refuses to store the result: {_first_line(cause)}") from exc
        raise


@contextlib.contextmanager
def reading_source(name: str, conn_id: str) -> Iterator[None]:
    """Raise errors of a statement that reads a source as errors that name the source: its rows are those of a query of the user."""
    try:
        yield
    except AnomalyError as exc:
        cause = exc.__cause__
        if not isinstance(cause, FOREIGN):
            raise
        message, state = _first_line(cause), getattr(cause, "sqlstate", None) or ""
        if isinstance(cause, errors.QueryCanceled):
            slow = "the query of its rows took too long; an index on the time of capture, or a simpler condition or view, makes it fast"
            raise DatabaseUnavailable(f"source {name}: {slow}: {message}") from exc
        if state[:2] in FAULTY_QUERY or isinstance(cause, errors.ObjectNotInPrerequisiteState):
            raise Misconfigured(f"source {name}: its rows cannot be read ({message}): correct the condition, or the table or view") from exc
        kind = Misconfigured if isinstance(exc, Misconfigured) else DatabaseUnavailable
        raise kind(f"source {name}: the database of {conn_id} cannot be used: {message}") from exc


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise errors of psycopg and SQLAlchemy as the project's own, with their cause."""
    try:
        yield
    except FOREIGN as exc:
        raise translate(exc) from exc


def translate(exc: Exception) -> AnomalyError:
    """Return the project's error for one of psycopg or SQLAlchemy. The most specific case comes first, and every error has one."""
    message = _first_line(exc)
    if wrong := _what_is_wrong(exc, message):
        return Misconfigured(wrong)
    if isinstance(exc, errors.DiskFull):
        return DatabaseUnavailable(f"the disk of the records database is full: {message}")
    if isinstance(exc, errors.DataError):
        return DetectorAnswerInvalid(f"the records database cannot store this: {message}")
    return DatabaseUnavailable(f"the records database is not available: {message}")


def _what_is_wrong(exc: Exception, message: str) -> str | None:
    """Return a sentence about an error that lasts until a person has changed something."""
    match exc:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName() | errors.UndefinedFunction():
            return f"the records database lacks what a statement names ({message}): run {PROGRAM} migrate"
        case errors.ReadOnlySqlTransaction():
            return f"the records database is read-only ({message}): name the primary server, or a login that may write"
        case psycopg.Error() if _login_refused(exc, message):
            return f"the records database refuses the login: {message}"
        case psycopg.Error(sqlstate=str(state)) if state.startswith(WRONG_STATEMENT):
            return f"the records database refuses a statement ({message}): run {PROGRAM} check-sql"
        case psycopg.ProgrammingError(sqlstate=None):
            return f"the connection of the records database is wrong: {message}"
        case _:
            return None


def _login_refused(exc: psycopg.Error, message: str) -> bool:
    if exc.sqlstate is None:
        return isinstance(exc, psycopg.OperationalError) and any(part in message for part in LOGIN_REFUSED)
    return isinstance(exc, errors.InvalidAuthorizationSpecification | errors.InvalidPassword | errors.InvalidCatalogName)


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:300]
