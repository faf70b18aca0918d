"""A trigger adds rows of the user's table as records, so that nothing has to be looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from anomaly.db.record_store import RecordStore
from anomaly.db.source_store import detach_source
from anomaly.errors import Misconfigured
from tests.parts.source_table import a_source, add_photos, create_photos, find, store_of

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb

KEYS = ["bigint", "uuid", "text", "character(12)", "date"]


def attach(db: RecordsDb, **changes: Any) -> str:
    return store_of(db, **changes).attach(trigger=True)


def records(db: RecordsDb) -> int:
    return int(db.rows("select count(*) as n from anomaly.records")[0]["n"])


@pytest.mark.parametrize("key", KEYS)
def test_the_trigger_and_a_look_at_the_table_agree_about_every_row(db: RecordsDb, key: str) -> None:
    create_photos(db, key, count=3)
    attach(db)
    add_photos(db, key, first=4, count=4)
    assert records(db) == 4
    assert find(db).added == 3
    add_photos(db, key, first=8, count=2)
    found = store_of(db).find_all()
    assert (found.added, found.changed, records(db)) == (0, 0, 9)


def test_with_a_trigger_nothing_is_looked_for_once_all_rows_were(db: RecordsDb) -> None:
    create_photos(db, count=1)
    attach(db)
    assert find(db).added == 1
    db.do("alter table shop.photos disable trigger user; insert into shop.photos (photo_id, url, taken_at) values (5, 'http://x', now())")
    assert find(db).added == 1  # a trigger that is disabled adds nothing
    db.do("alter table shop.photos enable trigger user; delete from anomaly.records where source_key = '5'")
    assert find(db).added == 0


def test_a_changed_row_is_scored_again_or_left(db: RecordsDb) -> None:
    create_photos(db)
    for on_change, status in (("leave", "done"), ("again", "pending")):
        attach(db, on_change=on_change)
        db.do("delete from shop.photos; delete from anomaly.records")
        add_photos(db)
        run = db.run(on_change)
        [claim] = db.open(db.claim(run), run=run)
        db.commit(claim)
        db.do("update shop.photos set url = 'http://new'")
        assert db.record(claim.record_id)["status"] == status
    assert db.record(claim.record_id)["image_url"] == "http://new"


def test_other_columns_and_bad_rows_concern_no_record_and_no_user(db: RecordsDb) -> None:
    create_photos(db)
    attach(db, condition="photo_id < 100 and coalesce(status, '') <> '50%'")
    db.do(
        """insert into shop.photos (photo_id, url, taken_at, status) values
           (1, null, now(), null), (2, ' ', now(), null), (3, 'http://x', null, null), (4, 'http://x', 'infinity', null),
           (5, 'http://x', '1026-01-01', null), (100, 'http://x', now(), null), (6, 'http://x', now(), '50%%'),
           (7, 'http://x', now(), null)"""
    )
    assert db.rows("select source_key from anomaly.records") == [{"source_key": "7"}]
    before = db.everything()
    db.do("update shop.photos set status = 'seen' where photo_id = 7")
    assert db.everything() == before


def test_a_user_without_rights_on_our_schema_may_insert(db: RecordsDb) -> None:
    create_photos(db)
    attach(db)
    role = sql.Identifier(f"shop_{db.sql.info.dbname}")
    db.sql.execute(sql.SQL("create role {0}; grant usage on schema shop to {0}; grant insert on shop.photos to {0}").format(role))
    db.sql.execute(sql.SQL("set role {}").format(role))
    db.do("insert into shop.photos (photo_id, url, taken_at) values (1, 'http://x', now())")
    db.do("reset role")
    db.sql.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))
    assert records(db) == 1


def test_an_insert_that_is_rolled_back_leaves_no_record(db: RecordsDb) -> None:
    create_photos(db)
    attach(db)
    with db.sql.transaction(force_rollback=True):
        add_photos(db)
    assert records(db) == 0


@pytest.mark.parametrize("table", ["records", "processing_log"])
def test_a_trigger_that_fails_at_any_step_writes_neither_row_nor_record_and_the_change_can_be_repeated(db: RecordsDb, table: str) -> None:
    create_photos(db)
    attach(db)
    add_photos(db)
    db.do("create function fail() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    db.do(f"create trigger fail before insert or update on anomaly.{table} for each row execute function fail()")
    change = "update shop.photos set url = 'http://new'"
    before = (db.everything(), db.rows("table shop.photos"))
    for statement in (
        change,
        *(["insert into shop.photos (photo_id, url, taken_at) values (2, 'http://x', now())"] * (table == "records")),
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="no"):
            db.do(statement)
    assert (db.everything(), db.rows("table shop.photos")) == before
    db.do(f"drop trigger fail on anomaly.{table}")
    db.do(change)
    assert db.rows("select image_url, token, status from anomaly.records") == [{"image_url": "http://new", "token": 1, "status": "pending"}]
    assert [row["event"] for row in db.rows("select event from anomaly.processing_log")] == ["requeued"]


@pytest.mark.parametrize("committed", [True, False])
def test_two_users_who_write_one_row_at_once_leave_one_record_of_the_last_change(db: RecordsDb, *, committed: bool) -> None:
    create_photos(db)
    attach(db)
    add_photos(db)
    with psycopg.connect(db.dsn) as first, psycopg.connect(db.dsn, autocommit=True) as second:
        first.execute("update shop.photos set url = 'http://first'")
        late = db.meanwhile(lambda: second.execute("update shop.photos set url = 'http://second'"))
        db.await_blocked()
        first.commit() if committed else first.rollback()
        late.result(timeout=30)
    assert db.rows("select image_url, token from anomaly.records") == [{"image_url": "http://second", "token": 2 if committed else 1}]


def test_a_look_and_an_insert_at_once_add_one_record(db: RecordsDb) -> None:
    create_photos(db)
    attach(db)
    db.do("alter table shop.photos disable trigger user")
    add_photos(db, count=5)
    db.do("alter table shop.photos enable trigger user")
    gate = db.gate("records", "insert")
    with psycopg.connect(db.dsn, autocommit=True) as user:
        with gate.shut():
            look = db.meanwhile(lambda: store_of(db).find_all())
            db.await_blocked()
            update = db.meanwhile(lambda: user.execute("update shop.photos set url = url || '?' where photo_id = 1"))
            db.await_blocked(2)
        look.result(timeout=10)
        update.result(timeout=10)
    store_of(db).find_all()
    assert db.rows("select count(*) as n, count(distinct source_key) as keys from anomaly.records") == [{"n": 5, "keys": 5}]


def test_a_deadlock_of_a_commit_and_a_user_ends_the_commit_and_not_the_user(db: RecordsDb) -> None:
    create_photos(db)
    attach(db)
    add_photos(db)
    db.store = RecordStore(db.database, db.settings, sources=[a_source(write_back={"is_anomaly": "verdict"})])
    [claim] = db.open(db.claim())
    gate = db.gate("processing_log", "insert")
    with psycopg.connect(db.dsn) as user:
        user.execute("select from shop.photos for update")
        with gate.shut():
            commit = db.meanwhile(lambda: db.commit(claim))
            db.await_blocked()
            change = db.meanwhile(lambda: user.execute("update shop.photos set url = 'http://new'"))
            db.await_blocked(2)
        change.result(timeout=20)
        user.commit()
    with pytest.raises(Exception, match="was claimed again"):
        commit.result(timeout=20)
    assert db.rows("select r.status, r.image_url, p.verdict from anomaly.records as r, shop.photos as p") == [
        {"status": "pending", "image_url": "http://new", "verdict": None}
    ]


def test_detaching_removes_the_trigger_and_keeps_the_records(db: RecordsDb) -> None:
    create_photos(db)
    attach(db)
    add_photos(db)
    assert detach_source(db.database, "shop.photos")
    assert not detach_source(db.database, "shop.photos")
    add_photos(db, first=2)
    assert records(db) == 1
    assert db.rows("select count(*) as n from pg_trigger where not tgisinternal and tgrelid = 'shop.photos'::regclass") == [{"n": 0}]


def test_names_that_are_hostile_are_quoted_in_the_trigger_too(db: RecordsDb) -> None:
    create_photos(db)
    names = {"photo_id": "'; drop table x; --", "url": '"%(a)s $anomaly$ {}', "taken_at": "ünï\\"}
    for old, new in names.items():
        db.sql.execute(sql.SQL("alter table shop.photos rename column {} to {}").format(sql.Identifier(old), sql.Identifier(new)))
    attach(db, id=names["photo_id"], image_url=names["url"], captured_at=names["taken_at"], attributes=list(names.values()), name="'\\%s")
    db.sql.execute("insert into shop.photos values (1, 'http://x', now())")
    [record] = db.rows("select source, attributes from anomaly.records")
    assert (record["source"], set(record["attributes"])) == ("'\\%s", set(names.values()))


def test_a_view_has_no_trigger(db: RecordsDb) -> None:
    create_photos(db)
    db.do("create view shop.seen as select * from shop.photos")
    with pytest.raises(Misconfigured, match="a trigger needs a table in the database of anomaly_db"):
        attach(db, table="shop.seen")


def test_attaching_without_a_trigger_says_that_an_index_is_missing(db: RecordsDb) -> None:
    create_photos(db)
    assert store_of(db).attach(trigger=False) == "each run looks for its rows, with a look-back of 24 h"
    db.do("drop index shop.photos_taken_at_idx")
    assert "create an index on 'taken_at'" in store_of(db).attach(trigger=False)
