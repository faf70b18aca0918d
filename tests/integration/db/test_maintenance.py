"""Deleting old rows page by page, except those that a claim or a report needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.rows import dict_row

from anomaly.db.contracts import SAMPLES
from anomaly.db.maintenance import MaintenanceStore, SweepResult, TableStats
from anomaly.db.statements import default_statements
from anomaly.errors import DatabaseUnavailable
from anomaly.maintenance.retention import sweep_rows
from anomaly.models.objects import StoredObject
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = 30
SWEEPS: list[tuple[str, str]] = [("delete_log_entries", "processing_log"), ("delete_chunks", "chunks"), ("delete_batches", "batches")]
NOTHING = {name: {"found": 0, "deleted": 0} for name in ("log_entries", "chunks", "batches")}


@pytest.fixture
def store(db: RecordsDb) -> MaintenanceStore:
    return MaintenanceStore(db.database, page=2)


def finished(db: RecordsDb, run_id: str, *, records: int = 2) -> None:
    """A run that took so many records, each in a chunk of its own, and is over."""
    run, _ = db.began(db.run(run_id))
    db.add(records)
    for number in range(records):
        assert db.claim(run, size=1) == number
        [claim] = db.open(number, run=run)
        db.commit(claim)
        assert db.store.end_chunk(run, number, HOLDER, tally={})
    db.store.end_batch(run.batch_id)


def age(db: RecordsDb, run_id: str) -> None:
    """Let the run have been more than so many days ago."""
    db.do("update anomaly.processing_log set at = now() - interval '31 days' where batch_id = %(id)s", id=db.batch_id(run_id))
    db.do("update anomaly.batches set updated_at = now() - interval '31 days' where batch_id = %(id)s", id=db.batch_id(run_id))


def left(db: RecordsDb) -> dict[str, int]:
    return {table: len(rows) for table, rows in db.everything().items() if rows}


def only(db: RecordsDb, name: str, table: str) -> None:
    """Leave nothing else of the run in the way of this statement."""
    if name == "delete_batches":
        db.do("delete from anomaly.chunks")
        db.do("delete from anomaly.processing_log")
    assert db.rows(f"select from anomaly.{table}")  # ours


def test_what_is_older_than_its_days_goes_and_results_stay(db: RecordsDb, store: MaintenanceStore) -> None:
    finished(db, "old", records=5)
    finished(db, "young", records=1)
    age(db, "old")
    expected = {"log_entries": 5, "chunks": 5, "batches": 1}
    before = db.everything()
    looked = sweep_rows(store, days=DAYS, dry_run=True)
    assert looked == {name: {"found": count, "deleted": 0} for name, count in expected.items()}
    assert db.everything() == before

    assert sweep_rows(store, days=DAYS, dry_run=False) == {name: {"found": n, "deleted": n} for name, n in expected.items()}
    assert left(db) == {"records": 6, "ai_results": 6, "ai_flags": 6, "processing_log": 1, "chunks": 1, "batches": 1}
    assert sweep_rows(store, days=DAYS, dry_run=False) == NOTHING


def test_zero_days_keep_everything(db: RecordsDb, store: MaintenanceStore) -> None:
    finished(db, "old")
    age(db, "old")
    before = db.everything()
    assert sweep_rows(store, days=0, dry_run=False) == {"kept": "for ever"}
    assert db.everything() == before


def test_log_entries_without_a_batch_go_too(db: RecordsDb, store: MaintenanceStore) -> None:
    db.do(
        """insert into anomaly.processing_log (record_id, event, at, attempt, token)
           values (1, 'requeued', now() - interval '31 days', 0, 0)"""
    )
    assert store.delete_log_entries(days=DAYS, dry_run=False) == SweepResult(found=1, deleted=1)


@pytest.mark.parametrize("needed_by", ["a batch that is not over", "a chunk that has not ended", "a record that is claimed"])
def test_what_is_not_over_keeps_all_that_it_has(db: RecordsDb, store: MaintenanceStore, needed_by: str) -> None:
    finished(db, "old")
    match needed_by:
        case "a batch that is not over":
            db.began(db.run("old"))
        case "a chunk that has not ended":
            db.do("update anomaly.chunks set ended_at = null where chunk = 0")
        case _:
            db.do("update anomaly.records set status = 'claimed'")
    age(db, "old")
    before = db.everything()
    assert sweep_rows(store, days=DAYS, dry_run=False) == NOTHING
    assert db.everything() == before


def test_the_log_of_a_record_that_is_claimed_again_stays_and_so_does_its_old_batch(db: RecordsDb, store: MaintenanceStore) -> None:
    finished(db, "old", records=2)
    age(db, "old")
    again = db.claim(db.run("again", select="all"), origin="done", size=1)
    [claim] = db.open(again, run=db.run("again"))
    swept = sweep_rows(store, days=DAYS, dry_run=False)
    assert swept == {"log_entries": {"found": 1, "deleted": 1}, "chunks": {"found": 2, "deleted": 2}, "batches": {"found": 0, "deleted": 0}}
    assert db.events(claim.record_id) == ["committed"]


def test_a_run_that_was_deleted_can_be_run_again(db: RecordsDb, store: MaintenanceStore) -> None:
    finished(db, "old")
    age(db, "old")
    sweep_rows(store, days=DAYS, dry_run=False)
    db.add(1)
    run = db.run("old")
    [claim] = db.open(db.claim(run), run=run)
    db.commit(claim)
    assert db.statuses() == {"done": 3}


# ── two at once, and failures


@pytest.mark.parametrize(("name", "table"), SWEEPS)
def test_of_two_sweeps_at_once_each_takes_what_the_other_leaves_and_waits_for_nobody(db: RecordsDb, name: str, table: str) -> None:
    for run_id in ("old", "older"):
        finished(db, run_id)
        age(db, run_id)
    only(db, name, table)
    rows = len(db.everything()[table])
    first_page = {**SAMPLES, "days": DAYS, "dry_run": False, "after_id": 0, "size": 1}
    with psycopg.connect(db.dsn, row_factory=dict_row) as other:
        assert other.execute(default_statements()[name].encode(), first_page).fetchall()[0]["deleted"] == 1
        assert getattr(MaintenanceStore(db.database), name)(days=DAYS, dry_run=False) == SweepResult(found=rows, deleted=rows - 1)
    assert db.everything()[table] == []


@pytest.mark.parametrize(("name", "table"), SWEEPS)
def test_a_sweep_that_fails_deletes_nothing_of_its_page_and_can_be_repeated(db: RecordsDb, name: str, table: str) -> None:
    finished(db, "old")
    age(db, "old")
    only(db, name, table)
    db.do("create function anomaly.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    db.do(f"create trigger fails after delete on anomaly.{table} for each statement execute function anomaly.fails()")
    before = db.everything()
    sweep = getattr(MaintenanceStore(db.database), name)
    with pytest.raises(DatabaseUnavailable):
        sweep(days=DAYS, dry_run=False)
    assert db.everything() == before
    db.do(f"drop trigger fails on anomaly.{table}")
    assert sweep(days=DAYS, dry_run=False).deleted == len(before[table])


def test_a_run_that_begins_its_batch_anew_meanwhile_keeps_it(db: RecordsDb, store: MaintenanceStore) -> None:
    finished(db, "old")
    age(db, "old")
    only(db, "delete_batches", "batches")
    run = db.run("old")
    gate = db.gate("batches", "update")
    with gate.shut():
        begins = db.meanwhile(lambda: db.store.begin_batch(run))
        db.await_blocked()
        assert store.delete_batches(days=DAYS, dry_run=False) == SweepResult(found=1)
    assert begins.result(timeout=10)
    assert store.delete_batches(days=DAYS, dry_run=False) == SweepResult()


def test_a_batch_that_begins_while_it_is_deleted_is_made_anew(db: RecordsDb) -> None:
    finished(db, "old")
    age(db, "old")
    only(db, "delete_batches", "batches")
    with psycopg.connect(db.dsn) as other:
        other.execute("delete from anomaly.batches")
        begins = db.meanwhile(lambda: db.store.begin_batch(db.run("old")))
        db.await_blocked()
    assert begins.result(timeout=10)
    assert [row["began_at"] is not None for row in db.everything()["batches"]] == [True]


# ── what waits, which keys are named, how the tables do


def test_the_oldest_that_is_due_is_the_one_captured_first_of_those_that_may_be_claimed(db: RecordsDb, store: MaintenanceStore) -> None:
    assert store.oldest_due() is None
    later, claimed, first, _ = db.add(4)
    db.do("update anomaly.records set not_before = now() + interval '1 hour' where id = %(id)s", id=later)
    db.do("update anomaly.records set status = 'done' where id = %(id)s", id=claimed)
    due = store.oldest_due()
    assert due
    assert (due.record_id, due.since) == (first, db.record(first)["captured_at"])
    assert due.age_s == pytest.approx((datetime.now(UTC) - due.since).total_seconds(), abs=60)


@pytest.mark.parametrize(
    ("captured_at", "shown"),
    [
        ("0044-03-15 BC", datetime.min.replace(tzinfo=UTC)),
        ("0001-01-01 00:00+14", datetime.min.replace(tzinfo=UTC)),
        ("0001-01-01 00:00+00", datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31 23:59:59-12", datetime.max.replace(tzinfo=UTC)),
        ("294275-01-01", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_capture_time_that_python_does_not_have_is_read_as_the_nearest(
    db: RecordsDb, store: MaintenanceStore, captured_at: str, shown: datetime
) -> None:
    db.do("insert into anomaly.records (image_url, captured_at) values ('http://h/a', %(at)s::timestamptz)", at=captured_at)
    due = store.oldest_due()
    assert due
    assert due.since == shown


def test_the_oldest_is_read_past_rows_that_somebody_else_holds(db: RecordsDb, store: MaintenanceStore) -> None:
    first, _ = db.add(2)
    with db.locked(first):
        due = store.oldest_due()
    assert due
    assert due.record_id == first


def test_a_key_is_named_by_results_of_these_days_alone(db: RecordsDb, store: MaintenanceStore) -> None:
    [claim] = db.claims()
    db.commit(claim)
    sha256 = "ab" * 32
    named = [
        StoredObject(key=key, written_at=datetime.now(UTC), size_bytes=1)
        for key in (f"images/sha256/ab/{sha256}.png", f"answers/{'c' * 64}/ab/{sha256}.json", f"heatmaps/{'c' * 64}/ab/{sha256}.png")
    ]
    db.do(
        "update anomaly.ai_results set image_key = %(i)s, answer_key = %(a)s, heatmap_key = %(h)s",
        **dict(zip("iah", [each.key for each in named], strict=True)),
    )
    other = StoredObject(key=f"p/images/sha256/ab/{sha256}.png", written_at=datetime.now(UTC), size_bytes=1)
    assert store.unreferenced([*named, other], days=None) == [other]
    db.do("update anomaly.ai_results set created_at = now() - interval '31 days'")
    assert store.unreferenced(named, days=DAYS + 5) == []
    assert store.unreferenced(named, days=DAYS) == named


def test_an_answer_that_is_being_committed_is_named_as_soon_as_it_is_committed(db: RecordsDb, store: MaintenanceStore) -> None:
    [claim] = db.claims()
    key = StoredObject(key=f"images/sha256/ab/{'ab' * 32}.png", written_at=datetime.now(UTC), size_bytes=1)
    gate = db.gate("ai_flags", "insert")
    with gate.shut():
        commit = db.meanwhile(lambda: db.commit(claim))
        db.await_blocked()
        assert store.unreferenced([key], days=None) == [key]
        assert list(store.referenced(days=None)) == []
    commit.result(timeout=10)
    assert [named.record_id for named in store.referenced(days=None)] == [claim.record_id]


def test_results_that_come_while_keys_are_read_are_left_to_the_next_time(db: RecordsDb, store: MaintenanceStore) -> None:
    for claim in db.claims(6):
        db.commit(claim)
    db.do("update anomaly.ai_results set image_sha256 = 'sha' || record_id")
    names = store.referenced(days=None)
    first = next(names)
    db.add(1)
    [claim] = db.open(db.claim(db.run("later"), size=1), run=db.run("later"))
    db.commit(claim)
    db.do("update anomaly.ai_results set image_sha256 = 'sha9' where record_id = %(id)s", id=claim.record_id)
    assert [first.record_id, *(named.record_id for named in names)] == [1, 2, 3, 4, 5, 6]
    assert claim.record_id in {named.record_id for named in store.referenced(days=None)}


@pytest.mark.parametrize("name", ["unreferenced_keys", "referenced_keys", "oldest_due", "table_health", "server_info"])
def test_a_look_that_loses_its_connection_is_taken_again(db: RecordsDb, store: MaintenanceStore, name: str) -> None:
    looks: dict[str, Callable[[], object]] = {
        "unreferenced_keys": lambda: store.unreferenced([StoredObject(key="k", written_at=datetime.now(UTC), size_bytes=1)], days=None),
        "referenced_keys": lambda: list(store.referenced(days=None)),
        "oldest_due": store.oldest_due,
        "table_health": store.tables,
        "server_info": store.server,
    }
    expected = type(looks[name]())
    db.do("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
    assert type(looks[name]()) is expected


def test_dead_rows_and_tables_that_nobody_has_analysed_are_told_with_what_to_run(db: RecordsDb, store: MaintenanceStore) -> None:
    db.do("alter table anomaly.records set (autovacuum_enabled = false)")
    db.add(3000)
    db.do("update anomaly.records set lost = 1 where id %% 2 = 0")
    db.do("select pg_stat_force_next_flush()")
    [records] = [table for table in store.tables() if table.name == "anomaly.records"]
    assert (records.live, records.dead, records.vacuumed_at, records.analysed_at) == (3000, 1500, None, None)
    assert records.size_bytes > 100_000
    assert records.hint.startswith("33% of its rows are dead and it was never vacuumed: run vacuum (analyze) anomaly.records")
    db.do("vacuum anomaly.records")
    db.do("select pg_stat_force_next_flush()")
    [records] = [table for table in store.tables() if table.name == "anomaly.records"]
    assert records.hint == "it was never analyzed, so statements are planned without statistics: run analyze anomaly.records"
    db.do("analyze anomaly.records")
    db.do("select pg_stat_force_next_flush()")
    assert [table.hint for table in store.tables() if table.name == "anomaly.records"] == [""]


def test_dead_rows_that_come_again_after_a_vacuum_are_blamed_on_an_old_transaction() -> None:
    now = datetime.now(UTC)
    table = TableStats(name="anomaly.chunks", live=4000, dead=1500, size_bytes=1, vacuumed_at=now, analysed_at=now)
    assert table.hint == "27% of its rows are dead: run vacuum (analyze) anomaly.chunks, and look for an old transaction that keeps them"
