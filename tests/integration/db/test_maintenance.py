"""Deleting old rows page by page, except those that a claim or a report needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.rows import dict_row

from anomaly.db.maintenance import MaintenanceStore, SweepResult, TableStats
from anomaly.db.sql_check import SAMPLES
from anomaly.db.statements import default_statements
from anomaly.errors import DatabaseUnavailable
from anomaly.maintenance.retention import sweep_rows
from anomaly.models.objects import StoredObject
from tests.parts.record_builders import HOLDER, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAYS = 30
SWEEPS: list[tuple[str, str]] = [("delete_log_entries", "processing_log"), ("delete_chunks", "chunks"), ("delete_batches", "batches")]
NOTHING = {name: {"found": 0, "deleted": 0} for name in ("log_entries", "chunks", "batches")}


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


@pytest.fixture
def store(bench: Bench) -> MaintenanceStore:
    return MaintenanceStore(bench.database, page=2)


def finished(bench: Bench, run_id: str, *, records: int = 2) -> None:
    """A run that took so many records, each in a chunk of its own, and is over."""
    run, _ = bench.began(bench.run(run_id))
    bench.add(records)
    for number in range(records):
        assert bench.claim(run, size=1) == number
        [claim] = bench.open(number, run=run)
        bench.commit(claim)
        assert bench.store.end_chunk(run, number, HOLDER, tally={})
    bench.store.end_batch(run.batch_id)


def age(bench: Bench, run_id: str) -> None:
    """Let the run have been more than so many days ago."""
    bench.do("update anomaly.processing_log set at = now() - interval '31 days' where batch_id = %(id)s", id=bench.batch_id(run_id))
    bench.do("update anomaly.batches set updated_at = now() - interval '31 days' where batch_id = %(id)s", id=bench.batch_id(run_id))


def left(bench: Bench) -> dict[str, int]:
    return {table: len(rows) for table, rows in bench.everything().items() if rows}


def only(bench: Bench, name: str, table: str) -> None:
    """Leave nothing else of the run in the way of this statement."""
    if name == "delete_batches":
        bench.do("delete from anomaly.chunks")
        bench.do("delete from anomaly.processing_log")
    assert bench.rows(f"select from anomaly.{table}")  # ours


def test_what_is_older_than_its_days_goes_and_results_stay(bench: Bench, store: MaintenanceStore) -> None:
    finished(bench, "old", records=5)
    finished(bench, "young", records=1)
    age(bench, "old")
    expected = {"log_entries": 5, "chunks": 5, "batches": 1}
    before = bench.everything()
    looked = sweep_rows(store, days=DAYS, dry_run=True)
    assert looked == {name: {"found": count, "deleted": 0} for name, count in expected.items()}
    assert bench.everything() == before

    assert sweep_rows(store, days=DAYS, dry_run=False) == {name: {"found": n, "deleted": n} for name, n in expected.items()}
    assert left(bench) == {"records": 6, "ai_results": 6, "ai_flags": 6, "processing_log": 1, "chunks": 1, "batches": 1}
    assert sweep_rows(store, days=DAYS, dry_run=False) == NOTHING


def test_zero_days_keep_everything(bench: Bench, store: MaintenanceStore) -> None:
    finished(bench, "old")
    age(bench, "old")
    before = bench.everything()
    assert sweep_rows(store, days=0, dry_run=False) == {"kept": "for ever"}
    assert bench.everything() == before


def test_log_entries_without_a_batch_go_too(bench: Bench, store: MaintenanceStore) -> None:
    bench.do(
        """insert into anomaly.processing_log (record_id, event, at, attempt, token)
           values (1, 'requeued', now() - interval '31 days', 0, 0)"""
    )
    assert store.delete_log_entries(days=DAYS, dry_run=False) == SweepResult(found=1, deleted=1)


@pytest.mark.parametrize("needed_by", ["a batch that is not over", "a chunk that has not ended", "a record that is claimed"])
def test_what_is_not_over_keeps_all_that_it_has(bench: Bench, store: MaintenanceStore, needed_by: str) -> None:
    finished(bench, "old")
    match needed_by:
        case "a batch that is not over":
            bench.began(bench.run("old"))
        case "a chunk that has not ended":
            bench.do("update anomaly.chunks set ended_at = null where chunk = 0")
        case _:
            bench.do("update anomaly.records set status = 'claimed'")
    age(bench, "old")
    before = bench.everything()
    assert sweep_rows(store, days=DAYS, dry_run=False) == NOTHING
    assert bench.everything() == before


def test_the_log_of_a_record_that_is_claimed_again_stays_and_so_does_its_old_batch(bench: Bench, store: MaintenanceStore) -> None:
    finished(bench, "old", records=2)
    age(bench, "old")
    again = bench.claim(bench.run("again", select="all"), origin="done", size=1)
    [claim] = bench.open(again, run=bench.run("again"))
    swept = sweep_rows(store, days=DAYS, dry_run=False)
    assert swept == {"log_entries": {"found": 1, "deleted": 1}, "chunks": {"found": 2, "deleted": 2}, "batches": {"found": 0, "deleted": 0}}
    assert bench.events(claim.record_id) == ["committed"]


def test_a_run_that_was_deleted_can_be_run_again(bench: Bench, store: MaintenanceStore) -> None:
    finished(bench, "old")
    age(bench, "old")
    sweep_rows(store, days=DAYS, dry_run=False)
    bench.add(1)
    run = bench.run("old")
    [claim] = bench.open(bench.claim(run), run=run)
    bench.commit(claim)
    assert bench.statuses() == {"done": 3}


# ── two at once, and failures


@pytest.mark.parametrize(("name", "table"), SWEEPS)
def test_of_two_sweeps_at_once_each_takes_what_the_other_leaves_and_waits_for_nobody(bench: Bench, name: str, table: str) -> None:
    for run_id in ("old", "older"):
        finished(bench, run_id)
        age(bench, run_id)
    only(bench, name, table)
    rows = len(bench.everything()[table])
    first_page = {**SAMPLES, "days": DAYS, "dry_run": False, "after_id": 0, "size": 1}
    with psycopg.connect(bench.dsn, row_factory=dict_row) as other:
        assert other.execute(default_statements().text(name).encode(), first_page).fetchall()[0]["deleted"] == 1
        assert getattr(MaintenanceStore(bench.database), name)(days=DAYS, dry_run=False) == SweepResult(found=rows, deleted=rows - 1)
    assert bench.everything()[table] == []


@pytest.mark.parametrize(("name", "table"), SWEEPS)
def test_a_sweep_that_fails_deletes_nothing_of_its_page_and_can_be_repeated(bench: Bench, name: str, table: str) -> None:
    finished(bench, "old")
    age(bench, "old")
    only(bench, name, table)
    bench.do("create function anomaly.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    bench.do(f"create trigger fails after delete on anomaly.{table} for each statement execute function anomaly.fails()")
    before = bench.everything()
    sweep = getattr(MaintenanceStore(bench.database), name)
    with pytest.raises(DatabaseUnavailable):
        sweep(days=DAYS, dry_run=False)
    assert bench.everything() == before
    bench.do(f"drop trigger fails on anomaly.{table}")
    assert sweep(days=DAYS, dry_run=False).deleted == len(before[table])


def test_a_run_that_begins_its_batch_anew_meanwhile_keeps_it(bench: Bench, store: MaintenanceStore) -> None:
    finished(bench, "old")
    age(bench, "old")
    only(bench, "delete_batches", "batches")
    run = bench.run("old")
    bench.gate("batches", "update")
    with bench.shut():
        begins = bench.meanwhile(lambda: bench.store.begin_batch(run))
        bench.await_blocked()
        assert store.delete_batches(days=DAYS, dry_run=False) == SweepResult(found=1)
    assert begins.result(timeout=10)
    assert store.delete_batches(days=DAYS, dry_run=False) == SweepResult()


def test_a_batch_that_begins_while_it_is_deleted_is_made_anew(bench: Bench) -> None:
    finished(bench, "old")
    age(bench, "old")
    only(bench, "delete_batches", "batches")
    with psycopg.connect(bench.dsn) as other:
        other.execute("delete from anomaly.batches")
        begins = bench.meanwhile(lambda: bench.store.begin_batch(bench.run("old")))
        bench.await_blocked()
    assert begins.result(timeout=10)
    assert [row["began_at"] is not None for row in bench.everything()["batches"]] == [True]


# ── what waits, which keys are named, how the tables do


def test_the_oldest_that_is_due_is_the_one_captured_first_of_those_that_may_be_claimed(bench: Bench, store: MaintenanceStore) -> None:
    assert store.oldest_due() is None
    later, claimed, first, _ = bench.add(4)
    bench.do("update anomaly.records set not_before = now() + interval '1 hour' where id = %(id)s", id=later)
    bench.do("update anomaly.records set status = 'done' where id = %(id)s", id=claimed)
    due = store.oldest_due()
    assert due
    assert (due.record_id, due.since) == (first, bench.record(first)["captured_at"])
    assert due.age_s == pytest.approx((datetime.now(UTC) - due.since).total_seconds(), abs=60)


def test_the_oldest_is_read_past_rows_that_somebody_else_holds(bench: Bench, store: MaintenanceStore) -> None:
    first, _ = bench.add(2)
    with bench.locked(first):
        due = store.oldest_due()
    assert due
    assert due.record_id == first


def test_a_key_is_named_by_results_of_these_days_alone(bench: Bench, store: MaintenanceStore) -> None:
    [claim] = bench.claims()
    bench.commit(claim)
    sha256 = "ab" * 32
    named = [
        StoredObject(key=key, written_at=datetime.now(UTC), size_bytes=1)
        for key in (f"images/sha256/ab/{sha256}.png", f"answers/{'c' * 64}/ab/{sha256}.json", f"heatmaps/{'c' * 64}/ab/{sha256}.png")
    ]
    bench.do(
        "update anomaly.ai_results set image_key = %(i)s, answer_key = %(a)s, heatmap_key = %(h)s",
        **dict(zip("iah", [each.key for each in named], strict=True)),
    )
    other = StoredObject(key=f"p/images/sha256/ab/{sha256}.png", written_at=datetime.now(UTC), size_bytes=1)
    assert store.unreferenced([*named, other], days=None) == [other]
    bench.do("update anomaly.ai_results set created_at = now() - interval '31 days'")
    assert store.unreferenced(named, days=DAYS + 5) == []
    assert store.unreferenced(named, days=DAYS) == named


def test_an_answer_that_is_being_committed_is_named_as_soon_as_it_is_committed(bench: Bench, store: MaintenanceStore) -> None:
    [claim] = bench.claims()
    key = StoredObject(key=f"images/sha256/ab/{'ab' * 32}.png", written_at=datetime.now(UTC), size_bytes=1)
    bench.gate("ai_flags", "insert")
    with bench.shut():
        commit = bench.meanwhile(lambda: bench.commit(claim))
        bench.await_blocked()
        assert store.unreferenced([key], days=None) == [key]
        assert list(store.referenced(days=None)) == []
    commit.result(timeout=10)
    assert [named.record_id for named in store.referenced(days=None)] == [claim.record_id]


def test_results_that_come_while_keys_are_read_are_left_to_the_next_time(bench: Bench, store: MaintenanceStore) -> None:
    for claim in bench.claims(6):
        bench.commit(claim)
    bench.do("update anomaly.ai_results set image_sha256 = 'sha' || record_id")
    names = store.referenced(days=None)
    first = next(names)
    bench.add(1)
    [claim] = bench.open(bench.claim(bench.run("later"), size=1), run=bench.run("later"))
    bench.commit(claim)
    bench.do("update anomaly.ai_results set image_sha256 = 'sha9' where record_id = %(id)s", id=claim.record_id)
    assert [first.record_id, *(named.record_id for named in names)] == [1, 2, 3, 4, 5, 6]
    assert claim.record_id in {named.record_id for named in store.referenced(days=None)}


@pytest.mark.parametrize("name", ["unreferenced_keys", "referenced_keys", "oldest_due", "table_health", "server_info"])
def test_a_look_that_loses_its_connection_is_taken_again(bench: Bench, store: MaintenanceStore, name: str) -> None:
    looks: dict[str, Callable[[], object]] = {
        "unreferenced_keys": lambda: store.unreferenced([StoredObject(key="k", written_at=datetime.now(UTC), size_bytes=1)], days=None),
        "referenced_keys": lambda: list(store.referenced(days=None)),
        "oldest_due": store.oldest_due,
        "table_health": store.tables,
        "server_info": store.server,
    }
    expected = type(looks[name]())
    bench.do("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
    assert type(looks[name]()) is expected


def test_dead_rows_and_tables_that_nobody_has_analysed_are_told_with_what_to_run(bench: Bench, store: MaintenanceStore) -> None:
    bench.do("alter table anomaly.records set (autovacuum_enabled = false)")
    bench.add(3000)
    bench.do("update anomaly.records set lost = 1 where id %% 2 = 0")
    bench.do("select pg_stat_force_next_flush()")
    [records] = [table for table in store.tables() if table.name == "anomaly.records"]
    assert (records.live, records.dead, records.vacuumed_at, records.analysed_at) == (3000, 1500, None, None)
    assert records.size_bytes > 100_000
    assert records.hint.startswith("33% of its rows are dead and it was never vacuumed: run vacuum (analyze) anomaly.records")
    bench.do("vacuum anomaly.records")
    bench.do("select pg_stat_force_next_flush()")
    [records] = [table for table in store.tables() if table.name == "anomaly.records"]
    assert records.hint == "it was never analyzed, so statements are planned without statistics: run analyze anomaly.records"
    bench.do("analyze anomaly.records")
    bench.do("select pg_stat_force_next_flush()")
    assert [table.hint for table in store.tables() if table.name == "anomaly.records"] == [""]


def test_dead_rows_that_come_again_after_a_vacuum_are_blamed_on_an_old_transaction() -> None:
    now = datetime.now(UTC)
    table = TableStats(name="anomaly.chunks", live=4000, dead=1500, size_bytes=1, vacuumed_at=now, analysed_at=now)
    assert table.hint == "27% of its rows are dead: run vacuum (analyze) anomaly.chunks, and look for an old transaction that keeps them"
