"""The figures of a load, as the tables of `docs/scale.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.table_stats import Growth, Table


@dataclass(frozen=True, slots=True)
class LoadFigures:
    records: int
    processes: int
    threads: int
    """Committing threads in each process."""
    chunk_size: int
    edge: int
    """Number of chunks at the start and at the end whose claims are compared."""
    took_s: float
    first_claims_ms: float
    """Median time to reap, claim and open a chunk, over the first *edge* chunks."""
    last_claims_ms: float
    claims_ms: float
    commit_p50_ms: float
    commit_p95_ms: float
    growth: Growth


def tables(load: LoadFigures) -> str:
    """Return the first two tables of `docs/scale.md`."""
    rows = [
        ("records, each with exactly one right result", f"{load.records:,}"),
        ("processes, and threads that commit in each", f"{load.processes}, {load.threads}"),
        ("claimed, opened and committed", f"{load.records / load.took_s:,.0f} records/s, for {load.took_s:,.0f} s"),
        (
            f"a chunk of {load.chunk_size} reaped, claimed and opened",
            f"{load.claims_ms:.1f} ms: {load.chunk_size / load.claims_ms * 1000:,.0f} records/s",
        ),
        (f"the first {load.edge} of them, the last {load.edge}", f"{load.first_claims_ms:.1f} ms, {load.last_claims_ms:.1f} ms"),
        ("a commit", f"{load.commit_p50_ms:.1f} ms at p50, {load.commit_p95_ms:.1f} ms at p95"),
        ("WAL a record", f"{load.growth.wal_bytes:,.0f} bytes, {load.growth.full_page_bytes:,.0f} of them full pages and commit marks"),
    ]
    first = [("", "measured"), ("---", "---"), *rows]
    head = (
        "table",
        "rows",
        "table bytes",
        "index bytes",
        "WAL bytes",
        "updates",
        "of them HOT",
        "dead rows at the end",
        "vacuums meanwhile",
    )
    second = [head, ("---", *("---:" for _ in head[1:])), *map(_cells, load.growth.tables)]
    return "\n\n".join("\n".join(f"| {' | '.join(cells)} |" for cells in each) for each in (first, second))


def _cells(table: Table) -> tuple[str, ...]:
    sizes = (
        f"{table.rows:.2f}",
        f"{table.table_bytes:,.0f}",
        f"{table.index_bytes:,.0f}",
        f"{table.wal_bytes:,.0f}",
        f"{table.updates:.2f}",
    )
    return (f"`{table.name}`", *sizes, "" if table.hot is None else f"{table.hot:.1%}", f"{table.dead:,}", f"{table.vacuums}")
