"""A verdict is written to the row of the user's table in the transaction of the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from anomaly.db.errors import SourceWriteFailed
from anomaly.db.record_store import RecordStore
from anomaly.db.reviews import Decision, ReviewStore
from anomaly.db.source_store import with_write_back
from anomaly.errors import DatabaseUnavailable, LeaseLost, ResultRefused
from tests.parts.record_builders import RecordsDb, an_answer
from tests.parts.source_table import a_source, create_photos, find, store_of

if TYPE_CHECKING:
    from anomaly.models.records import Claim

WRITTEN = {"is_anomaly": "verdict", "score": "p", "label": "class", "processed_at": "judged_at"}
KEYS = ["bigint", "uuid", "text", "character(12)", "date"]


def claim(db: RecordsDb, *, count: int = 1, key: str = "bigint", **changes: Any) -> tuple[Claim, ...]:
    """Claim rows of a new table; the store writes to them."""
    create_photos(db, key, count=count)
    source = a_source(**{"write_back": WRITTEN, **changes})
    db.store = RecordStore(db.database, db.settings, sources=[source])
    find(db, **changes)
    return db.open(db.claim())


def row(db: RecordsDb, number: int = 1) -> dict[str, Any]:
    [found] = db.rows("select verdict, p, class, judged_at, reviewed from shop.photos where url = 'http://images/' || %(n)s", n=number)
    return found


UNTOUCHED = {"verdict": None, "p": None, "class": None, "judged_at": None, "reviewed": None}


@pytest.mark.parametrize("key", KEYS)
def test_a_commit_writes_the_verdict_to_its_row_and_to_no_other(db: RecordsDb, key: str) -> None:
    first, *_ = claim(db, count=3, key=key)
    db.commit(first)
    found = row(db)
    assert found.pop("judged_at") == db.record(first.record_id)["processed_at"]
    assert found == {"verdict": True, "p": pytest.approx(0.9), "class": "crack", "reviewed": None}
    assert row(db, 2) == row(db, 3) == UNTOUCHED


def test_a_key_of_several_columns_finds_its_row_in_a_partitioned_table(db: RecordsDb) -> None:
    db.do(
        """create schema shop;
           create table shop.photos (id uuid, taken_at timestamptz, url text, verdict boolean, primary key (id, taken_at))
               partition by range (taken_at);
           create table shop.january partition of shop.photos for values from ('2026-01-01') to ('2026-02-01');
           create table shop.others partition of shop.photos default;
           insert into shop.photos select md5(i::text)::uuid, '2026-01-31 23:59:59.123457'::timestamptz + i * interval '1 min', 'http://x'
             from generate_series(0, 1) as i"""
    )
    for number, key in enumerate(["id", ["id", "taken_at"]]):
        source: dict[str, Any] = {"id": key, "write_back": {"is_anomaly": "verdict"}, "name": str(number)}
        db.store = RecordStore(db.database, db.settings, sources=[a_source(**source)])
        assert find(db, **source).added == 2
        run = db.run(str(number))
        for each in db.open(db.claim(run), run=run):
            db.commit(each)
        assert db.rows("select verdict from shop.photos") == [{"verdict": True}] * 2
        db.do("update shop.photos set verdict = null")


def test_a_row_that_is_gone_is_no_error(db: RecordsDb) -> None:
    [gone] = claim(db)
    db.do("delete from shop.photos")
    db.commit(gone)
    assert db.record(gone.record_id)["status"] == "done"


def test_a_stale_commit_writes_nothing(db: RecordsDb) -> None:
    [stale] = claim(db)
    db.do("update anomaly.records set token = token + 1")
    with pytest.raises(LeaseLost):
        db.commit(stale)
    assert row(db) == UNTOUCHED


@pytest.mark.parametrize("table", ["anomaly.records", "anomaly.ai_results", "anomaly.processing_log", "anomaly.ai_flags", "shop.photos"])
def test_a_commit_that_fails_in_any_part_writes_nothing(db: RecordsDb, table: str) -> None:
    [held] = claim(db)
    db.do("create function fail() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    db.do(f"create trigger fail before insert or update on {table} for each row execute function fail()")
    before = db.everything()
    with pytest.raises(ResultRefused, match="the database refuses to store the result: no"):
        db.commit(held)
    assert (db.everything(), row(db)) == (before, UNTOUCHED)
    db.do(f"drop trigger fail on {table}")
    db.commit(held)
    assert row(db)["verdict"] is True


def test_a_row_that_the_user_has_locked_costs_three_short_waits_and_the_record_is_tried_later(db: RecordsDb) -> None:
    [held] = claim(db)
    with psycopg.connect(db.dsn) as user:
        user.execute("select from shop.photos for update")
        with pytest.raises(SourceWriteFailed, match="lock timeout"):
            db.commit(held)
        assert user.execute("select 1").fetchone() == (1,)
    assert len(db.waits) == 2
    db.commit(held)
    assert row(db)["verdict"] is True


def test_a_lock_that_is_released_in_time_costs_nothing(db: RecordsDb) -> None:
    [held] = claim(db)
    with psycopg.connect(db.dsn) as user:
        user.execute("select from shop.photos for update")
        db.on_wait = user.rollback
        db.commit(held)
    assert row(db)["verdict"] is True


def test_two_commits_of_one_record_write_its_row_once(db: RecordsDb) -> None:
    [held] = claim(db)
    gate = db.gate("ai_flags", "insert")
    with gate.shut():
        first = db.meanwhile(lambda: db.commit(held))
        db.await_blocked()
        second = db.meanwhile(lambda: db.commit(held))
        db.await_blocked(2)
    first.result(timeout=10)
    second.result(timeout=10)
    assert db.rows("select count(*) as n from anomaly.ai_results") == [{"n": 1}]
    assert row(db)["verdict"] is True


def test_each_source_gets_the_verdicts_on_its_own_rows(db: RecordsDb) -> None:
    create_photos(db, count=1)
    db.do(
        """create table shop.scans (id text primary key, url text, at timestamptz, bad boolean);
           insert into shop.scans values ('x', 'http://s', now())"""
    )
    photos = a_source(write_back={"is_anomaly": "verdict"})
    scans = a_source(table="shop.scans", id="id", captured_at="at", write_back={"is_anomaly": "bad"})
    db.store = RecordStore(db.database, db.settings, sources=[photos, scans])
    find(db)
    find(db, table="shop.scans", id="id", captured_at="at")
    db.add(1)
    for each in db.open(db.claim()):
        db.commit(each, an_answer(is_anomaly=each.image_url == "http://s"))
    assert (row(db)["verdict"], db.rows("select bad from shop.scans")) == (False, [{"bad": True}])


@pytest.mark.parametrize(
    "name", ['"; drop table shop.photos; --', "select", "100%(x)s", "ünïcödé 画像", "x" * 63, "{}", "a'b\\", "held", "r"]
)
def test_columns_are_quoted_whatever_they_are_called(db: RecordsDb, name: str) -> None:
    create_photos(db, count=1)
    for column, new in (("verdict", name), ("photo_id", name[::-1] + "_" if len(name) < 63 else "i" * 63)):
        db.sql.execute(sql.SQL("alter table shop.photos rename column {} to {}").format(sql.Identifier(column), sql.Identifier(new)))
    source = a_source(id=new, write_back={"is_anomaly": name}, name=name)
    db.store = RecordStore(db.database, db.settings, sources=[source])
    find(db, id=new, name=name)
    [held] = db.open(db.claim())
    db.commit(held)
    [found] = db.rows("select * from shop.photos")
    assert found[name] is True


def test_values_that_the_column_does_not_take_concern_that_row_alone(db: RecordsDb) -> None:
    first, second = claim(db, count=2)
    db.do("alter table shop.photos add check (photo_id <> 1 or class <> 'crack')")
    with pytest.raises(ResultRefused, match="violates check constraint"):
        db.commit(first)
    db.commit(second)
    assert (row(db, 1), row(db, 2)["class"]) == (UNTOUCHED, "crack")


@pytest.mark.parametrize("type_", ["timestamp", "date"])
def test_times_are_written_in_utc(db: RecordsDb, type_: str) -> None:
    create_photos(db, count=1)
    db.sql.execute(sql.SQL("alter table shop.photos drop column judged_at, add column judged_at {}").format(sql.SQL(type_)))
    db.store = RecordStore(db.database, db.settings, sources=[a_source(write_back=WRITTEN)])
    find(db)
    [held] = db.open(db.claim())
    db.commit(held)
    [found] = db.rows(
        """select p.judged_at in ((r.processed_at at time zone 'UTC')::timestamp, (r.processed_at at time zone 'UTC')::date) as same
             from shop.photos as p, anomaly.records as r"""
    )
    assert found["same"]


GRANTED = "create role {}; grant usage on schema shop to {}; grant select on shop.photos to {}"


@pytest.mark.parametrize(
    ("prepare", "option", "table", "fault"),
    [
        (
            "create view shop.joined as select p.* from shop.photos as p join shop.photos as q using (photo_id)",
            "",
            "shop.joined",
            "shop.joined cannot be updated, so write_back is not possible",
        ),
        (
            "alter table shop.photos drop column verdict, add column verdict boolean generated always as (photo_id > 1) stored",
            "",
            "shop.photos",
            "'verdict' is generated and cannot be written",
        ),
        (GRANTED, "role", "shop.photos", "the login may not write 'verdict', 'p', 'class', 'judged_at' of shop.photos: grant update on it"),
        ("create role {}", "role", "shop.photos", "the login may not use the schema shop: grant usage on schema shop to it"),
        (
            "create role {}; grant usage on schema shop to {}; grant update on shop.photos to {}",
            "role",
            "shop.photos",
            "the login may not read 'photo_id', 'url', 'taken_at' of shop.photos: grant select on it",
        ),
        (
            GRANTED + "; grant update on shop.photos to {}; alter table shop.photos enable row level security",
            "role",
            "shop.photos",
            "row-level security of shop.photos applies to the login",
        ),
        (
            "select 1",
            "default_transaction_read_only=on",
            "shop.photos",
            "shop.photos is in a read-only database, so write_back is not possible",
        ),
    ],
)
def test_a_source_that_cannot_be_written_is_refused_with_one_sentence(
    db: RecordsDb, prepare: str, option: str, table: str, fault: str
) -> None:
    create_photos(db, count=1)
    role = f"role_{db.sql.info.dbname}"
    db.sql.execute(sql.SQL(prepare).format(*[sql.Identifier(role)] * prepare.count("{}")), prepare=False)
    options = f"-c {option}={role}" if option == "role" else f"-c {option}" if option else ""
    try:
        with RecordsDb(make_conninfo(db.dsn, options=options)) as login:
            [found] = store_of(login, table=table, write_back=WRITTEN).faults()
    finally:
        if option == "role":
            db.sql.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)), prepare=False)
    assert fault in found


@pytest.mark.parametrize(("type_", "after", "undone"), [("text", "normal", None), ("boolean", True, False)])
def test_a_decision_of_a_person_is_written_and_taken_back_in_its_transaction(
    db: RecordsDb, type_: str, after: object, undone: object
) -> None:
    create_photos(db, count=2)
    db.sql.execute(sql.SQL("alter table shop.photos drop column reviewed, add column reviewed {}").format(sql.SQL(type_)))
    source = a_source(write_back={"is_anomaly": "verdict", "reviewed": "reviewed"})
    db.store = RecordStore(db.database, db.settings, sources=[source])
    find(db)
    held, other = db.open(db.claim())
    db.commit(held)
    db.commit(other)
    reviews = ReviewStore(with_write_back(db.database, [source]))
    decision = Decision(id=uuid4(), record_id=held.record_id, token=held.token, verdict="normal")
    assert reviews.decide(decision, reviewer="ann")
    assert [row(db, number)["reviewed"] for number in (1, 2)] == [after, None]
    locked = Decision(id=uuid4(), record_id=held.record_id, token=held.token, verdict="unsure")
    with psycopg.connect(db.dsn) as user:
        user.execute("select from shop.photos for update")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            reviews.decide(locked, reviewer="ann")
    assert db.rows("select review from anomaly.ai_flags where review is not null") == [{"review": "normal"}]
    assert reviews.decide(Decision(id=uuid4(), record_id=held.record_id, token=held.token, takes_back=decision.id), reviewer="ann")
    assert row(db)["reviewed"] == undone
    assert db.rows("select count(*) as n from anomaly.reviews") == [{"n": 2}]
