"""Rows of any kind in a source: odd keys, times, types and tables. Each becomes one record, or is named; none stops the others."""

from __future__ import annotations

import json

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from anomaly.db.record_store import RecordStore
from anomaly.errors import Misconfigured
from tests.parts.record_builders import RecordsDb
from tests.parts.source_table import a_source, add_photos, create_photos, find, store_of


def create(db: RecordsDb, columns: str, *rows: str) -> None:
    """Create the table `shop.photos` with the columns `url` and `taken_at` and those that are given."""
    db.do("create schema shop")
    db.sql.execute(sql.SQL("create table shop.photos (url text default 'http://images/1', {})").format(sql.SQL(columns)))
    for row in rows:
        db.sql.execute(sql.SQL("insert into shop.photos {}").format(sql.SQL(row)))


def keys(db: RecordsDb) -> list[str]:
    return [row["source_key"] for row in db.rows("select source_key from anomaly.records order by source_key")]


UNIQUE = "taken_at timestamptz default now(), photo_id {} unique"


@pytest.mark.parametrize(
    ("type_", "values", "known"),
    [
        ("text", ["'a'", "null", "''"], ["", "a"]),
        ("text", ["repeat('é', 500)", "repeat('é', 501)", "'a'"], ["a", "é" * 500]),
        ("bigint", ["1", "null", "null"], ["1"]),
        ("numeric", ["1.50", "-3", "12345678901234567890", "'NaN'"], ["-3", "1.5", "12345678901234567890", "NaN"]),
        ("date", ["'2026-01-01'", "'infinity'", "'0044-03-15 BC'", "'300000-01-01'"], ["2026-01-01"]),
        ("timestamp", ["'2026-01-01'", "'-infinity'", "'294276-12-31 23:59:59'"], ["2026-01-01 00:00:00.000000"]),
        ("timestamptz", ["'2026-01-01 01:00+01'", "'infinity'", "'4713-01-01 BC'"], ["2026-01-01 00:00:00.000000"]),
    ],
)
def test_a_key_that_leads_back_to_no_row_is_refused_and_the_others_are_records(
    db: RecordsDb, type_: str, values: list[str], known: list[str]
) -> None:
    create(db, UNIQUE.format(type_), *(f"(photo_id) values ({value})" for value in values))
    for page in (1, 2, 100):
        found = find(db, page=page)
        db.do("update anomaly.sources set found_until = null")
    assert keys(db) == sorted(known)
    assert (found.added, found.changed, found.refused.rows) == (0, 0, len(values) - len(known))
    store_of(db).attach(trigger=True)
    db.do("create table copy as table shop.photos; delete from shop.photos; delete from anomaly.records")
    db.do("insert into shop.photos select * from copy")
    assert keys(db) == sorted(known)


def test_a_key_of_several_columns_with_a_null_is_refused(db: RecordsDb) -> None:
    create(db, "taken_at timestamptz default now(), a text, b int, unique (a, b)", "(a, b) values ('x', 1), ('x', null), (null, 1)")
    found = find(db, id=["a", "b"], page=1)
    assert (keys(db), found.refused.rows) == (['["x", "1"]'], 2)
    assert found.refused.faults[0].startswith('["x", null]: a column of its key is null')


@pytest.mark.parametrize("type_", ["date", "timestamp", "timestamptz"])
def test_a_time_of_capture_that_cannot_be_meant_stops_nobody(db: RecordsDb, type_: str) -> None:
    create(db, f"taken_at {type_}, photo_id int generated always as identity primary key")
    last = "5874897-12-31" if type_ == "date" else "294276-12-31 12:00"
    add = sql.SQL(
        "insert into shop.photos (taken_at) values ({}), ('infinity'), ('4713-02-01 BC'), ('-infinity'), (null), ('0001-01-01'), (now())"
    )
    db.sql.execute(add.format(sql.Literal(last)))
    for zone in ("UTC", "Pacific/Auckland", "America/Los_Angeles"):
        with RecordsDb(make_conninfo(db.dsn, options=f"-c timezone={zone}")) as there:
            for page in (1, 100):
                found = find(there, page=page, name=f"{zone} {page}", look_back="999999d")
                assert (found.added, found.refused.rows) == (1, 6)
                assert find(there, page=page, name=f"{zone} {page}", look_back="999999d").added == 0


@pytest.mark.parametrize(
    ("type_", "value", "attribute"),
    [
        ("json", r"""'{"a": "\u0000"}'""", r'{"a": "\u0000"}'),
        ("jsonb", """'{"a": [1]}'""", {"a": [1]}),
        ("double precision", "'NaN'", "NaN"),
        ("numeric", "'Infinity'", "Infinity"),
        ("uuid[]", "array['00000000-0000-0000-0000-000000000001']::uuid[]", ["00000000-0000-0000-0000-000000000001"]),
        ("bytea", r"'\x00ff'", r"\x00ff"),
        ("shop.color", "'red'", "red"),
        ("shop.code", "'x'", "x"),
        ("timestamptz", "'infinity'", "infinity"),
        ("inet", "'10.0.0.1'", "10.0.0.1"),
        ("boolean", "null", None),
    ],
)
def test_a_value_of_any_type_is_an_attribute(db: RecordsDb, type_: str, value: str, attribute: object) -> None:
    db.do("create schema shop; create type shop.color as enum ('red'); create domain shop.code as text check (value <> '')")
    db.sql.execute(
        sql.SQL("create table shop.photos (photo_id int primary key, url shop.code, taken_at timestamptz, extra {})").format(sql.SQL(type_))
    )
    insert = sql.SQL("insert into shop.photos values (%(id)s, 'http://images/1', now(), {})").format(sql.SQL(value))
    db.sql.execute(insert, {"id": 1})
    assert find(db, attributes=["extra"]).added == 1
    store_of(db, attributes=["extra"]).attach(trigger=True)
    db.sql.execute(insert, {"id": 2})
    found = db.rows("select attributes from anomaly.records")
    assert [row["attributes"] for row in found] == [{"extra": attribute}] * 2


def test_two_rows_with_one_key_on_different_pages_take_no_turns(db: RecordsDb) -> None:
    create_photos(db, count=3)
    db.do("create view shop.twice as select photo_id, url, taken_at from shop.photos union all select 1, 'http://other', '2026-02-01'")
    store = store_of(db, table="shop.twice", page=1)
    first = store.find_all()
    assert (first.added, first.changed, first.refused.faults) == (3, 0, ["1: another row has the same key"])
    [done] = db.rows("select id, token, image_url from anomaly.records where source_key = '1'")
    db.do("update shop.photos set url = 'http://new' where photo_id = 2")
    again = store.find_all()
    assert (again.added, again.changed, again.refused.rows) == (0, 1, 1)
    assert db.rows("select id, token, image_url from anomaly.records where source_key = '1'") == [done]


@pytest.mark.parametrize("page", [3, 100])
def test_a_time_of_capture_that_is_computed_costs_no_second_verdict_and_no_endless_look(db: RecordsDb, page: int) -> None:
    create_photos(db, count=3)
    db.do("create view shop.seen as select photo_id, url, clock_timestamp() as taken_at from shop.photos")
    store = store_of(db, table="shop.seen", page=page)
    if page == 3:
        with pytest.raises(Misconfigured, match="its rows move while they are read: name a time of capture that is stored"):
            store.find_all()
        return
    assert store.find_all().added == 3
    again = store.find_all()
    assert (again.changed, again.refused.rows) == (0, 3)
    assert again.refused.faults[0] == "1: its time of capture is another one each time it is read"
    assert store.preview().refused.rows == 3


def test_a_key_that_two_partitions_have_takes_no_turns(db: RecordsDb) -> None:
    db.do(
        """create schema shop;
           create table shop.photos (photo_id int, url text, taken_at timestamptz, primary key (photo_id, taken_at))
               partition by range (taken_at);
           create table shop.all_photos partition of shop.photos default;
           insert into shop.photos values (1, 'http://a', now() - interval '1 hour'), (1, 'http://b', now()), (2, 'http://c', now())"""
    )
    for _ in range(2):
        found = find(db, page=1)
        assert (found.changed, found.refused.faults) == (0, ["1: another row has the same key"])
    assert {row["image_url"] for row in db.rows("select image_url from anomaly.records")} == {"http://a", "http://c"}


def test_rows_of_a_materialized_view_and_of_a_table_with_rules_of_its_own_become_records(db: RecordsDb) -> None:
    create_photos(db, count=2)
    db.do("create materialized view shop.kept as table shop.photos with no data")
    with pytest.raises(Misconfigured, match=r"its rows cannot be read \(materialized view \"kept\" has not been populated\)"):
        find(db, table="shop.kept")
    db.do("refresh materialized view shop.kept")
    assert find(db, table="shop.kept").added == 2


@pytest.mark.parametrize("kind", ["stored", "virtual"])
def test_an_address_that_is_generated_is_read_and_a_trigger_uses_it_if_it_is_stored(db: RecordsDb, kind: str) -> None:
    db.do("create schema shop")
    url = f"generated always as ('http://images/' || photo_id) {kind}"
    db.do(f"create table shop.photos (photo_id int primary key, url text {url}, taken_at timestamptz default now())")
    add = "insert into shop.photos (photo_id) values (%(id)s)"
    db.do(add, id=1)
    assert find(db).added == 1
    if kind == "virtual":
        with pytest.raises(Misconfigured, match="a trigger does not see 'url', a column that is computed when it is read"):
            store_of(db).attach(trigger=True)
        return
    store_of(db).attach(trigger=True)
    db.do(add, id=2)
    assert db.rows("select image_url from anomaly.records where source_key = '2'") == [{"image_url": "http://images/2"}]


def test_rows_that_row_level_security_hides_are_no_records(db: RecordsDb) -> None:
    create_photos(db, count=4)
    role = sql.Identifier(f"reader_{db.sql.info.dbname}")
    db.sql.execute(
        sql.SQL(
            """create role {0}; grant usage on schema shop to {0}; grant select on shop.photos to {0};
               alter table shop.photos enable row level security; create policy mine on shop.photos using (photo_id <= 3)"""
        ).format(role)
    )
    db.sql.execute(sql.SQL("grant usage on schema anomaly to {0}; grant all on all tables in schema anomaly to {0}").format(role))
    try:
        with RecordsDb(make_conninfo(db.dsn, options=f"-c role=reader_{db.sql.info.dbname}")) as reader:
            assert find(reader).added == 3
    finally:
        db.sql.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))


def test_a_numeric_key_leads_back_to_its_row(db: RecordsDb) -> None:
    create(db, UNIQUE.format("numeric") + ", bad boolean", "(photo_id) values (1.50), (2)")
    source = a_source(write_back={"is_anomaly": "bad"})
    db.store = RecordStore(db.database, db.settings, sources=[source])
    find(db)
    for claim in db.open(db.claim()):
        db.commit(claim)
    assert db.rows("select bad from shop.photos") == [{"bad": True}] * 2


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ("photo_id = nonsense()", "function nonsense"),
        ("photo_id in (select photo_id from photos)", 'relation "photos" does not exist'),
    ],
)
def test_a_condition_that_a_trigger_cannot_evaluate_breaks_no_insert(db: RecordsDb, condition: str, fault: str) -> None:
    create_photos(db)
    db.do("set search_path to shop")
    with pytest.raises(Misconfigured, match=f"its rows cannot be read \\({fault}"):
        store_of(db, condition=condition).attach(trigger=True)
    add_photos(db)


def test_a_preview_shows_what_would_be_added_and_changes_nothing(db: RecordsDb) -> None:
    create_photos(db, count=5)
    find(db)
    add_photos(db, first=6, count=2)
    db.do("insert into shop.photos (photo_id, url, taken_at) values (11, null, now()), (12, 'http://x', null)")
    before = (db.everything(), db.rows("select * from anomaly.sources"))
    seen = store_of(db, attributes=["photo_id"]).preview()
    assert (db.everything(), db.rows("select * from anomaly.sources")) == before
    assert (seen.rows, seen.looked_at, seen.new, seen.known) == (9, 8, 2, 5)
    assert seen.refused.faults == ["11: it has no address of an image"]
    assert seen.example
    assert (seen.example["key"], json.loads(seen.example["attributes"])) == ("1", {"photo_id": 1})


def test_two_that_attach_at_once_make_one_trigger(db: RecordsDb) -> None:
    create_photos(db)
    done = [db.meanwhile(lambda: store_of(db).attach(trigger=True)) for _ in range(4)]
    assert len({each.result(timeout=30) for each in done}) == 1
    add_photos(db)
    assert keys(db) == ["1"]
