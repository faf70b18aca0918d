"""What a load came to, as the tables of `docs/scale.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.table_stats import Growth, Table


@dataclass(frozen=True, slots=True)
class Figures:
    records: int
    processes: int
    threads: int
    """That commit, in each process."""
    chunk_size: int
    edge: int
    """Chunks at the start and at the end whose claims are compared."""
    took_s: float
    first_claims_ms: float
    """A chunk reaped, claimed and opened: the median over the first of them."""
    last_claims_ms: float
    claims_ms: float
    commit_p50_ms: float
    commit_p95_ms: float
    growth: Growth


def tables(of: Figures) -> str:
    """The first two tables of `docs/scale.md`."""
    rows = [
        ("records, each with exactly one right result", f"{of.records:,}"),
        ("processes, and threads that commit in each", f"{of.processes}, {of.threads}"),
        ("claimed, opened and committed", f"{of.records / of.took_s:,.0f} records/s, for {of.took_s:,.0f} s"),
        (
            f"a chunk of {of.chunk_size} reaped, claimed and opened",
            f"{of.claims_ms:.1f} ms: {of.chunk_size / of.claims_ms * 1000:,.0f} records/s",
        ),
        (f"the first {of.edge} of them, the last {of.edge}", f"{of.first_claims_ms:.1f} ms, {of.last_claims_ms:.1f} ms"),
        ("a commit", f"{of.commit_p50_ms:.1f} ms at p50, {of.commit_p95_ms:.1f} ms at p95"),
        ("WAL a record", f"{of.growth.wal_bytes:,.0f} bytes, {of.growth.full_page_bytes:,.0f} of them full pages and commit marks"),
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
    second = [head, ("---", *("---:" for _ in head[1:])), *map(_cells, of.growth.tables)]
    return "\n\n".join("\n".join(f"| {' | '.join(cells)} |" for cells in each) for each in (first, second))


def _cells(of: Table) -> tuple[str, ...]:
    sizes = (f"{of.rows:.2f}", f"{of.table_bytes:,.0f}", f"{of.index_bytes:,.0f}", f"{of.wal_bytes:,.0f}", f"{of.updates:.2f}")
    return (f"`{of.name}`", *sizes, "" if of.hot is None else f"{of.hot:.1%}", f"{of.dead:,}", f"{of.vacuums}")
