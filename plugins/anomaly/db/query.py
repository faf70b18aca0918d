"""Reads the rows of a query that a user wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from anomaly.db.errors import translating
from anomaly.db.pool import connector
from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.settings import Settings

ROWS = 1000
"""Rows that are fetched at once."""


def rows_of_query(dsn: str, query: Any, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the rows of a query, which runs in a transaction that may only read.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Misconfigured: the query is wrong, or writes.
    """
    with translating(), connector(dsn, settings)() as connection, connection.transaction():
        connection.execute("set transaction read only")
        try:
            with connection.cursor("rows", row_factory=dict_row) as cursor:
                cursor.itersize = ROWS
                cursor.execute(query)
                yield from cursor
        except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError, psycopg.InternalError) as exc:
            raise Misconfigured(f"the query failed: {str(exc).splitlines()[0]}") from exc
