"""The one place where errors of psycopg and SQLAlchemy become our own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from sqlalchemy.exc import SQLAlchemyError

from anomaly.errors import DatabaseUnavailable, DetectorAnswerInvalid, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.errors import AnomalyError

FOREIGN = (psycopg.Error, SQLAlchemyError)
WRONG_STATEMENT = "42"
"""The class of SQLSTATEs for syntax, names, types and privileges."""
LOGIN_REFUSED = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
)
"""Parts of what libpq says when it may not connect; it hands no SQLSTATE on."""


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Within it, whatever psycopg or SQLAlchemy raises leaves as one of our own errors."""
    try:
        yield
    except FOREIGN as exc:
        raise translate(exc) from exc


def translate(exc: Exception) -> AnomalyError:
    """Our word for an error of psycopg or of SQLAlchemy; the most specific first, and none is left out."""
    said = _first_line(exc)
    match exc:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName() | errors.UndefinedFunction():
            return Misconfigured(f"the records database lacks what a statement names ({said}): run bin/anomaly migrate")
        case psycopg.Error() if _login_refused(exc, said):
            return Misconfigured(f"the records database refuses the login: {said}")
        case psycopg.Error(sqlstate=str(state)) if state.startswith(WRONG_STATEMENT):
            return Misconfigured(f"the records database refuses a statement ({said}): run bin/anomaly check-sql")
        case psycopg.ProgrammingError(sqlstate=None):
            return Misconfigured(f"the connection of the records database is wrong: {said}")
        case errors.DataError():
            return DetectorAnswerInvalid(f"the records database cannot store this: {said}")
        case _:
            return DatabaseUnavailable(f"the records database is not available: {said}")


def _login_refused(exc: psycopg.Error, said: str) -> bool:
    if exc.sqlstate is None:
        return isinstance(exc, psycopg.OperationalError) and any(part in said for part in LOGIN_REFUSED)
    return isinstance(exc, errors.InvalidAuthorizationSpecification | errors.InvalidPassword | errors.InvalidCatalogName)


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:300]
