"""Measures the effect of a load on the project's tables by Postgres's counters: bytes, WAL, dead rows, HOT updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, Self

import psycopg
from psycopg.rows import dict_row

from benchmarks.statements import sql

if TYPE_CHECKING:
    from psycopg import Connection

SAMPLE_BYTES = 64 * 1024 * 1024
"""Bytes of WAL at the end that are attributed to tables. Older WAL may have been recycled."""


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
    """The growth of one table for each record."""

    name: str
    rows: float
    table_bytes: float
    index_bytes: float
    wal_bytes: float
    updates: float
    hot: float | None
    """Share of the updates that changed no index; None without updates."""
    dead: int
    """Dead rows, which wait for a vacuum."""
    vacuums: int


@dataclass(frozen=True, slots=True)
class Growth:
    tables: list[Table]
    wal_bytes: float
    """Bytes a record."""
    full_page_bytes: float
    """The part of it that is full pages after a checkpoint, and commit records."""


def connect(dsn: str) -> Connection[dict[str, Any]]:
    return psycopg.connect(dsn, autocommit=True, row_factory=dict_row)


def one(connection: Connection[dict[str, Any]], query: LiteralString, *params: Any) -> Any:
    """Return the column `value` of the only row."""
    row = connection.execute(query, params).fetchone()
    return row and row["value"]


def growth(connection: Connection[dict[str, Any]], before: State, after: State, *, records: int) -> Growth:
    wal = one(connection, "select pg_wal_lsn_diff(%s, %s)::double precision as value", after.lsn, before.lsn) / records
    by_table = _wal_by_table(connection, before, after)
    tables = [_table(name, before.tables[name], after.tables[name], by_table.get(name, 0.0), records=records) for name in after.tables]
    return Growth([each for each in tables if each.rows or each.updates], wal, wal - sum(by_table.values()))


def _wal_by_table(connection: Connection[dict[str, Any]], before: State, after: State) -> dict[str, float]:
    """Return the bytes of WAL a record by table, in the last part of the WAL."""
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
