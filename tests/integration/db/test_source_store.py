"""Rows of the user's table become records: each once, the late and the changed ones too, and bad ones harm nobody."""

from __future__ import annotations

import json
import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from anomaly.db.record_store import RecordStore
from anomaly.errors import LeaseLost, Misconfigured
from anomaly.models.runs import Window
from anomaly.models.source import configured
from tests.parts.source_table import PHOTOS, a_source, add_photos, create_photos, find, store_of

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb

PAGE = Path(__file__).resolve().parents[3] / "docs" / "your-own-table.md"
KEYS = ["bigint", "uuid", "text", "character(12)", "date"]


@pytest.mark.parametrize("key", KEYS)
def test_every_row_becomes_one_record_whatever_the_type_of_its_key(db: RecordsDb, key: str) -> None:
    create_photos(db, key, count=25)
    first, second = find(db, page=4), find(db, page=4)
    assert (first.added, second.added, second.changed) == (25, 0, 0)
    found = db.rows(
        """select r.source, r.image_url = p.url as same, r.captured_at = p.taken_at as same_time
             from anomaly.records as r join shop.photos as p on p.url = r.image_url"""
    )
    assert found == [{"source": "shop.photos", "same": True, "same_time": True}] * 25


@pytest.mark.parametrize("captured", ["timestamp", "date"])
def test_times_without_a_zone_are_in_utc(db: RecordsDb, captured: str) -> None:
    db.do("set timezone to 'America/New_York'")
    create_photos(db, captured=captured)
    db.do("insert into shop.photos (photo_id, url, taken_at) values (1, 'http://images/1', '2026-03-01 00:00')")
    assert find(db, window=Window(start=datetime(2026, 3, 1, tzinfo=UTC), end=datetime(2026, 3, 2, tzinfo=UTC))).added == 1
    assert db.rows("select captured_at from anomaly.records") == [{"captured_at": datetime(2026, 3, 1, tzinfo=UTC)}]


def test_a_key_of_several_columns_is_one_key(db: RecordsDb) -> None:
    db.do("create schema shop")
    db.do(
        """create table shop.photos (camera text, taken_at timestamptz, shot integer, url text, primary key (camera, taken_at, shot));
           insert into shop.photos
           select 'cam ' || i %% 3, '2026-01-01'::timestamptz + i / 6 * interval '1 us', i / 3, 'http://images/' || i
             from generate_series(1, 30) as i"""
    )
    key = ["camera", "taken_at", "shot"]
    assert find(db, page=4, id=key).added == 30
    assert find(db, page=4, id=key).added == 0
    keys = db.rows("select source_key from anomaly.records where image_url = 'http://images/6'")
    assert keys == [{"source_key": '["cam 0", "2026-01-01 00:00:00.000001", "2"]'}]


HOSTILE = ['"; drop table shop.photos; --', "status", "100%(x)s", "ünïcödé 画像", "x" * 63, "a b", "select", "Case", "{braces}", "a'b\\"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_quoted_whatever_they_contain(db: RecordsDb, name: str) -> None:
    db.sql.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
    table = sql.Identifier(name, name)
    for role in ("id", "image_url", "captured_at", "attributes"):
        names = {each: each for each in ("id", "image_url", "captured_at", "attributes")} | {role: name}
        columns = [sql.Identifier(names[each]) for each in ("id", "image_url", "captured_at", "attributes")]
        create = sql.SQL("create table {} ({} uuid primary key, {} text, {} timestamptz, {} text)")
        db.sql.execute(create.format(table, *columns))
        db.sql.execute(sql.SQL("insert into {} values (gen_random_uuid(), 'http://images/1', now(), 'x')").format(table))
        assert store_of(db, a_source(table=[name, name], name=role, **names)).find(Window(), most=None).added == 1
        assert db.rows("select attributes from anomaly.records where source = %(role)s", role=role) == [
            {"attributes": {names["attributes"]: "x"}}
        ]
        db.sql.execute(sql.SQL("drop table {}").format(table))


def test_only_rows_that_meet_the_condition_become_records(db: RecordsDb) -> None:
    create_photos(db, count=4)
    assert find(db, condition="photo_id % 2 = 0 -- the even ones").added == 2


def test_late_rows_are_found_within_the_look_back_and_later_ones_by_a_wider_window(db: RecordsDb) -> None:
    create_photos(db, count=3)
    assert find(db, look_back="1h").added == 3
    db.do(
        """insert into shop.photos (photo_id, url, taken_at)
           values (8, 'http://late', now() - interval '30 min'), (9, 'http://later', now() - interval '3 h')"""
    )
    assert find(db, look_back="1h").added == 1
    assert find(db, look_back="1h", window=Window(start=datetime.now(UTC) - timedelta(days=1))).added == 1


def test_a_source_that_is_read_differently_is_looked_at_from_its_beginning(db: RecordsDb) -> None:
    create_photos(db, count=3)
    db.do("update shop.photos set taken_at = '2020-01-01' where photo_id = 1")
    assert find(db, condition="photo_id > 1").added == 2
    assert find(db).added == 1


def test_a_run_of_at_most_so_many_records_leaves_the_others_for_the_next(db: RecordsDb) -> None:
    create_photos(db, count=10)
    assert [find(db, most=4, page=3, look_back="0s").added for _ in range(4)] == [4, 4, 2, 0]


def test_bad_rows_are_counted_and_named_and_the_others_are_added(db: RecordsDb, caplog: pytest.LogCaptureFixture) -> None:
    create_photos(db, count=3)
    db.do(
        """insert into shop.photos (photo_id, url, taken_at) values
           (11, null, now()), (12, '  ', now()), (13, 'http://images/13', 'infinity'), (14, 'http://images/14', '-infinity'),
           (15, 'http://images/15', '12026-01-01'), (16, 'http://images/16', '1026-01-01'), (17, 'http://images/17', null)"""
    )
    with caplog.at_level(logging.WARNING):
        found = find(db, page=2)
    assert (found.added, found.refused.rows) == (3, 7)
    [warning] = caplog.messages
    assert warning.startswith("source_row_invalid source=shop.photos rows=7 17: it has no time of capture; ")
    assert "11: it has no address of an image" in warning
    assert db.statuses() == {"pending": 3}


def test_of_two_rows_with_one_key_the_first_becomes_a_record(db: RecordsDb) -> None:
    create_photos(db, count=2)
    db.do(
        """create view shop.twice as
           select photo_id, url, taken_at from shop.photos union all select 1, 'http://other', now()"""
    )
    found = find(db, table="shop.twice")
    assert (found.added, found.refused.rows, found.changed) == (2, 1, 0)


@pytest.mark.parametrize(
    "change", ["update shop.photos set url = 'http://new' where photo_id = 1", "update shop.photos set taken_at = now() where photo_id = 1"]
)
def test_a_changed_row_is_scored_again(db: RecordsDb, change: str) -> None:
    create_photos(db, count=2)
    find(db)
    done, _ = db.open(db.claim())
    db.commit(done)
    db.do(change)
    assert find(db).changed == 1
    assert find(db).changed == 0
    record = db.record(done.record_id)
    assert (record["status"], record["attempts"], record["token"] > done.token) == ("pending", 0, True)
    assert db.events(done.record_id) == ["committed", "requeued"]


def test_a_verdict_on_the_image_before_is_not_committed(db: RecordsDb) -> None:
    create_photos(db, count=1)
    find(db)
    [claim] = db.open(db.claim())
    db.do("update shop.photos set url = 'http://images/new'")
    assert find(db).changed == 1
    with pytest.raises(LeaseLost):
        db.commit(claim)
    run = db.run("next")
    [again] = db.open(db.claim(run), run=run)
    assert again.image_url == "http://images/new"


def test_a_changed_row_keeps_its_verdict_where_changes_are_to_be_left(db: RecordsDb) -> None:
    create_photos(db, count=2)
    find(db)
    done, open_ = db.open(db.claim())
    db.commit(done)
    db.store.quarantine(open_, error=LeaseLost("404"), timings={})
    db.do("update shop.photos set url = url || '?new'")
    assert find(db, on_change="leave").changed == 1
    assert (db.record(done.record_id)["status"], db.record(open_.record_id)["status"]) == ("done", "pending")


def test_rows_that_two_runs_find_at_once_become_one_record_each(db: RecordsDb) -> None:
    create_photos(db, count=200)
    start = threading.Barrier(4)

    def look() -> int:
        start.wait()
        return find(db, page=7).added

    looks = [db.meanwhile(look) for _ in range(4)]
    assert sum(each.result(timeout=30) for each in looks) == 200
    assert db.statuses() == {"pending": 200}


def test_two_that_find_a_changed_row_at_once_requeue_it_once(db: RecordsDb) -> None:
    create_photos(db, count=1)
    find(db)
    db.do("update shop.photos set url = 'http://images/new'")
    gate = db.gate("records", "update")
    with gate.shut():
        first = db.meanwhile(lambda: find(db))
        db.await_blocked()
        second = db.meanwhile(lambda: find(db))
        db.await_blocked(2)
    assert first.result(timeout=10).changed + second.result(timeout=10).changed == 1
    assert [row["event"] for row in db.rows("select event from anomaly.processing_log")] == ["requeued"]


@pytest.mark.parametrize("table", ["records", "processing_log"])
def test_a_page_that_fails_halfway_changes_nothing_and_can_be_repeated(db: RecordsDb, table: str) -> None:
    create_photos(db, count=3)
    find(db)
    db.do("update shop.photos set url = 'http://images/new' where photo_id = 1")
    add_photos(db, first=4)
    before = db.everything()
    db.do("create function fail() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    db.do(f"create trigger fail before insert or update on anomaly.{table} for each row execute function fail()")
    with pytest.raises(Exception, match="no"):
        find(db)
    assert db.everything() == before
    db.do(f"drop trigger fail on anomaly.{table}")
    found = find(db)
    assert (found.added, found.changed) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"table": "shop.photo"}, r"there is no table or view shop\.photo; did you mean shop\.photos\?"),
        ({"image_url": "ulr"}, r"shop\.photos has no column 'ulr'; did you mean 'url'\?"),
        ({"image_url": "p"}, r"the column 'p' is real, and image_url needs "),
        ({"captured_at": "updated_at"}, r"the column 'updated_at' is text, and captured_at needs "),
        ({"id": "p"}, r"the column 'p' is real, and id needs "),
        ({"id": "class"}, r"shop\.photos has no unique index on 'class'"),
        ({"write_back": {"is_anomaly": "p"}}, r"the column 'p' is real, and is_anomaly needs boolean"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_one_sentence(db: RecordsDb, changes: dict[str, Any], fault: str) -> None:
    create_photos(db, count=1)
    with pytest.raises(Misconfigured, match=fault):
        find(db, **changes)
    assert len(store_of(db, **changes).faults()) == 1
    assert db.statuses() == {}


def test_a_source_that_can_be_used_has_no_faults(db: RecordsDb) -> None:
    create_photos(db)
    assert store_of(db, write_back={"is_anomaly": "verdict", "score": "p"}).faults() == []
    assert set(PHOTOS) == {"table", "id", "image_url", "captured_at"}


def test_the_example_of_the_page_leads_to_verdicts(db: RecordsDb) -> None:
    text = PAGE.read_text()
    create, join, _ = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    [variable] = re.findall(r"^AIRFLOW_CONN_ANOMALY_DB='(.*)'$", text, re.MULTILINE)
    db.sql.execute(create.encode())
    [source] = configured(json.loads(variable)["extra"], "")
    db.store = RecordStore(db.database, db.settings, sources=[source])
    assert store_of(db, source).find(Window(), most=None).added == 3
    for claim in db.open(db.claim()):
        db.commit(claim)
    assert [(row["status"], row["is_anomaly"]) for row in db.sql.execute(join.encode()).fetchall()] == [("done", True)] * 3
    assert db.rows("select is_defect, defect_score from shop.photos") == [{"is_defect": True, "defect_score": pytest.approx(0.9)}] * 3
    assert {row["attributes"]["camera"] for row in db.rows("select attributes from anomaly.records")} == {"north"}
