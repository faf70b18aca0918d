"""The statements in `sql/`."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Mapping


@functools.cache
def statement(name: str) -> LiteralString:
    """Return the text of `sql/<name>.sql`."""
    text: Any = (Path(__file__).parent / "sql" / f"{name}.sql").read_text()  # part of this package, as trusted as its code
    found: LiteralString = text
    return found


def row(connection: psycopg.Connection[Any], text: LiteralString, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run a statement that returns at most one row; return the row by column name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(text, params).fetchone()
    return found or {}


def now(dsn: str) -> datetime:
    """Return the time of the database's clock."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select clock_timestamp()").fetchone()
    return datetime.now(UTC) if found is None else found[0]
