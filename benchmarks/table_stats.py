"""What a load did to our tables: bytes, WAL, dead rows, and updates in place, by Postgres's own counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, Self

import psycopg
from psycopg.rows import dict_row

from benchmarks.statements import sql

if TYPE_CHECKING:
    from psycopg import Connection

SAMPLE_BYTES = 64 * 1024 * 1024
"""WAL at the end that is taken apart by table; Postgres has recycled what is much older."""


@dataclass(frozen=True, slots=True)
class State:
    """The counters at one moment."""

    lsn: str
    tables: dict[str, dict[str, int]]

    @classmethod
    def of(cls, connection: Connection[dict[str, Any]]) -> Self:
        connection.execute("select pg_stat_force_next_flush()")
        tables = {row.pop("name"): row for row in connection.execute(sql("table_growth")).fetchall()}
        return cls(one(connection, "select pg_current_wal_insert_lsn()::text as value"), tables)


@dataclass(frozen=True, slots=True)
class Table:
    """What one table grew by, for each record."""

    name: str
    rows: float
    table_bytes: float
    index_bytes: float
    wal_bytes: float
    updates: float
    hot: float | None
    """The share of the updates that changed no index; None without any."""
    dead: int
    """Rows that wait for a vacuum."""
    vacuums: int


@dataclass(frozen=True, slots=True)
class Growth:
    tables: list[Table]
    wal_bytes: float
    """A record, all of it."""
    full_page_bytes: float
    """Of it, pages as a whole after a checkpoint, and marks of commits."""


def connect(dsn: str) -> Connection[dict[str, Any]]:
    return psycopg.connect(dsn, autocommit=True, row_factory=dict_row)


def one(connection: Connection[dict[str, Any]], query: LiteralString, *params: Any) -> Any:
    """The column `value` of the only row."""
    row = connection.execute(query, params).fetchone()
    return row and row["value"]


def growth(connection: Connection[dict[str, Any]], before: State, after: State, *, records: int) -> Growth:
    wal = one(connection, "select pg_wal_lsn_diff(%s, %s)::double precision as value", after.lsn, before.lsn) / records
    by_table = _wal_by_table(connection, before, after)
    tables = [_table(name, before.tables[name], after.tables[name], by_table.get(name, 0.0), records=records) for name in after.tables]
    return Growth([each for each in tables if each.rows or each.updates], wal, wal - sum(by_table.values()))


def _wal_by_table(connection: Connection[dict[str, Any]], before: State, after: State) -> dict[str, float]:
    """Bytes a record in the last stretch of the WAL."""
    query = "select (%s::pg_lsn - least(%s::numeric, pg_wal_lsn_diff(%s, %s)))::text as value"
    first = one(connection, query, after.lsn, SAMPLE_BYTES, after.lsn, before.lsn)
    found = connection.execute(sql("wal_by_table"), {"first": first, "last": after.lsn}).fetchall()
    return {row["name"]: row["bytes"] for row in found}


def _table(name: str, before: dict[str, int], after: dict[str, int], wal_bytes: float, *, records: int) -> Table:
    grown = {column: after[column] - before[column] for column in after}
    return Table(
        name=name,
        rows=grown["inserted"] / records,
        table_bytes=grown["table_bytes"] / records,
        index_bytes=grown["index_bytes"] / records,
        wal_bytes=wal_bytes,
        updates=grown["updated"] / records,
        hot=grown["updated_hot"] / grown["updated"] if grown["updated"] else None,
        dead=after["dead"],
        vacuums=grown["vacuumed"],
    )
