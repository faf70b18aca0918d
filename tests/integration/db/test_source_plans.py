"""Plans of the look at a source: a range of the index by time, in the table and in the records, also on tables that were never analyzed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.session import configure
from anomaly.db.source_sql import SourceSql
from anomaly.db.statements import default_statements
from tests.parts.plans import Node, rows_read, scans_of
from tests.parts.source_table import a_source, create_photos, find

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb

ROWS = 20_000
DAY = 24 * 60
"""Rows of a day: they are captured a minute apart."""
TYPES = {"photo_id": "bigint", "url": "text", "taken_at": "timestamp with time zone"}
PAGE = 1000


@pytest.fixture(params=[False, True], ids=["never analyzed", "analyzed"])
def db(db: RecordsDb, request: pytest.FixtureRequest) -> RecordsDb:
    """A table of which every row is a record."""
    db.do("alter table anomaly.records set (autovacuum_enabled = false)")
    create_photos(db, count=ROWS)
    db.do("alter table shop.photos set (autovacuum_enabled = false)")
    find(db)
    if request.param:
        db.do("vacuum analyze anomaly.records")
        db.do("vacuum analyze shop.photos")
    configure(db.sql, lent=False)
    return db


def read_page(db: RecordsDb, after_key: str | None) -> tuple[list[Node], list[dict[str, Any]]]:
    """Return the scans of the table, and the rows of a page within the look-back of a day."""
    text = SourceSql(a_source(), TYPES).reading("page").as_string()
    [row] = db.rows("select (now() - interval '1 day')::text as after")
    params = {"after": row["after"], "after_key": after_key, "until": "infinity", "size": PAGE}
    return scans_of(db, text, table="photos", **params), db.rows(text, **params)


@pytest.mark.parametrize("after_key", [None, str(ROWS - DAY)])
def test_a_run_without_new_rows_reads_a_range_of_the_index_by_time(db: RecordsDb, after_key: str | None) -> None:
    scans, page = read_page(db, after_key)
    by_index = [node for node in scans if node["Node Type"] != "Bitmap Heap Scan"]
    assert {node.get("Index Name") for node in by_index} == {"photos_taken_at_idx"}
    assert len(page) == PAGE
    assert rows_read(by_index) <= DAY + 1
    assert find(db).added == 0


@pytest.mark.parametrize("new", [0, 3])
def test_known_rows_are_found_by_time_and_only_the_others_by_their_key(db: RecordsDb, new: int) -> None:
    _, page = read_page(db, None)
    db.do("delete from anomaly.records where source_key = any(%(keys)s)", keys=[row["key"] for row in page[:new]])
    columns: dict[str, Any] = {f"{name}s": [row[name] for row in page] for name in ("key", "image_url", "captured_at")}
    attributes = [row["attributes"] for row in page]
    scans = scans_of(db, default_statements()["add_source_rows"], **columns, attributes=attributes, source="shop.photos", size=None)
    run = {node["Index Name"]: node for node in scans if node["Actual Loops"]}
    assert set(run) - {"records_pkey"} == {"records_source_time", *(["records_source_key"] if new else [])}
    assert rows_read(scans) <= PAGE
    assert run["records_source_time"]["Actual Loops"] == PAGE
    assert not new or run["records_source_key"]["Actual Loops"] == new
