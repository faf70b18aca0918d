"""Tests of `benchmarks.scale` with few records, and of the SQL in `docs/scale.md`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import UniqueViolation

from benchmarks import scale
from benchmarks.bench import JobFailed
from benchmarks.figures import tables
from benchmarks.statements import sql
from benchmarks.table_stats import connect

if TYPE_CHECKING:
    from psycopg import Connection

    from embedded.postgres import Postgres

RECORDS = 2 * scale.CHUNK_SIZE + 50
"""A chunk for each of two processes, and a third one for the first of them."""
APPENDED = ("ai_results", "ai_flags", "processing_log")
PAGE = Path(__file__).parents[3] / "docs" / "scale.md"


def test_a_load_at_full_speed_measures_the_cost_of_a_record_in_each_table(postgres: Postgres) -> None:
    found = scale.measure(postgres, records=RECORDS, processes=2)
    by_name = {table.name: table for table in found.growth.tables}
    assert found.processes == 2
    assert [by_name[name].rows for name in APPENDED] == [1.0, 1.0, 1.0]
    assert (by_name["records"].updates, by_name["chunks"].rows) == (3.0, 3 / RECORDS)  # claimed, opened, committed
    assert all(by_name[name].wal_bytes > 100 for name in (*APPENDED, "records"))
    assert 0 < found.growth.full_page_bytes < found.growth.wal_bytes
    assert "`ai_results` | 1.00 |" in tables(found)
    with connect(postgres.dsn(scale.DATABASE)) as connection:
        connection.execute("delete from anomaly.ai_results where record_id = 7")
        with pytest.raises(JobFailed, match=r"'without_result': 1\b"):
            scale.check(connection, RECORDS)
    postgres.drop_database(scale.DATABASE)


def blocks() -> list[str]:
    """Return the SQL of the page: settings for vacuum, and partitions."""
    return re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def enqueue(connection: Connection[dict[str, Any]], records: int) -> None:
    connection.execute(sql("fill").encode(), {"images_url": "https://images.example", "records": records})


def rows_by_partition(connection: Connection[dict[str, Any]], table: str) -> dict[str, int]:
    query = f"select tableoid::regclass::text as name, count(*) as n from anomaly.{table} group by tableoid"  # noqa: S608  # our own words
    return {row["name"].removeprefix("anomaly."): row["n"] for row in connection.execute(query.encode())}


def test_partitioned_tables_keep_their_rows_and_take_further_ones(database: str) -> None:
    vacuum, partitions = blocks()
    half = 300
    with connect(database) as connection:
        enqueue(connection, half)
        scale.load(database, records=half, processes=1)
        bounds = {"100000000": str(half + 1), "200000000": "999", "2026-12-01": "now", "2027-01-01": "2100-01-01"}
        for theirs, ours in bounds.items():
            partitions = partitions.replace(theirs, ours)
        connection.execute(vacuum.encode())
        connection.execute(partitions.encode())
        enqueue(connection, half)
        connection.execute("update anomaly.batches set began_at = null")
        scale.load(database, records=half, processes=1)
        assert rows_by_partition(connection, "ai_results") == {"ai_results_0": half, "ai_results_1": half}
        assert rows_by_partition(connection, "processing_log") == {"processing_log_0": half, "processing_log_2026_12": half}
        history = connection.execute(
            "select count(*) as rows, count(distinct answer_key) as results from anomaly.record_history"
        ).fetchone()
        assert history == {"rows": 2 * half, "results": 2 * half}
        with pytest.raises(UniqueViolation):
            connection.execute("insert into anomaly.ai_results select * from anomaly.ai_results where record_id = 1")
        ids = connection.execute("select count(distinct id) as ids from anomaly.processing_log").fetchone()
        assert ids == {"ids": 2 * half}
