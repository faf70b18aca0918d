"""Rate and backlog."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly.db.maintenance import MaintenanceStore
from anomaly.db.stats import StatsStore
from anomaly.models.runs import Backlog

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb

INSERT = "insert into anomaly.records (image_url, captured_at, status) values ('http://images/x', %(at)s::timestamptz, %(status)s)"


def ran(db: RecordsDb, name: str, *chunks: tuple[int, int, int, int], claimed: int = 100, over: bool = True) -> None:
    """A run whose chunks were worked by (map index, seconds from, seconds to, records)."""
    batch = db.run(name).batch_id
    db.sql.execute(
        "insert into anomaly.batches (batch_id, dag_id, run_id, began_at, claimed) values (%s, 'd', %s, %s, %s)",
        [batch, name, None if over else "2026-01-01", claimed],
    )
    for number, (map_index, opened_s, ended_s, records) in enumerate(chunks):
        db.sql.execute(
            """insert into anomaly.chunks (batch_id, chunk, map_index, claimed_from, leased_until, opened_at, ended_at, tally)
               values (%s, %s, %s, 'pending', now(), to_timestamp(%s), to_timestamp(%s), jsonb_build_object('ended', %s::jsonb))""",
            [batch, number, map_index, opened_s, ended_s, f'{{"committed": {records - 1}, "quarantined": 1}}'],
        )


def rate(db: RecordsDb) -> Any:
    return StatsStore(db.database).records_per_s()


def test_before_the_first_run_there_is_no_rate(db: RecordsDb) -> None:
    assert rate(db) is None


def test_the_rate_is_that_of_one_task_whose_chunks_overlap(db: RecordsDb) -> None:
    ran(db, "r", (0, 0, 10, 100), (0, 8, 20, 100), (1, 0, 20, 200))
    assert rate(db) == pytest.approx(10.0)


def test_runs_that_are_not_over_or_had_next_to_nothing_are_not_counted(db: RecordsDb) -> None:
    ran(db, "old", (0, 0, 10, 100))
    ran(db, "small", (0, 0, 10, 3), claimed=3)
    ran(db, "running", (0, 0, 10, 500), over=False)
    assert rate(db) == pytest.approx(10.0)


def test_a_run_none_of_whose_chunks_was_worked_to_its_end_has_no_rate(db: RecordsDb) -> None:
    ran(db, "r")
    assert rate(db) is None


# ── backlog


def backlog(db: RecordsDb) -> Backlog:
    return StatsStore(db.database).backlog()


def test_with_no_records_there_is_no_backlog(db: RecordsDb) -> None:
    assert backlog(db) == Backlog(due=0, later=0, claimed=0, quarantined=0, oldest_due_age_s=None)


def test_the_backlog_counts_each_state_that_is_not_done(db: RecordsDb) -> None:
    for status, count in (("pending", 5), ("quarantined", 3), ("done", 7)):
        db.add(count, status=status)
    db.do("update anomaly.records set not_before = now() + interval '1 hour' where id = 1")
    db.claim(size=2)
    found = backlog(db)
    assert (found.due, found.later, found.claimed, found.quarantined) == (2, 1, 2, 3)


def test_the_oldest_is_that_of_the_records_which_are_due_now(db: RecordsDb) -> None:
    db.add(3)
    db.do("update anomaly.records set captured_at = now() - id * interval '1 hour'")
    db.do("update anomaly.records set not_before = now() + interval '1 minute' where id = 3")
    age_s = backlog(db).oldest_due_age_s
    assert age_s == pytest.approx(7200, abs=60)


@pytest.mark.parametrize("never", ["infinity", "-infinity"])
def test_a_record_without_a_capture_time_is_refused_and_one_of_before_is_never_due(db: RecordsDb, never: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="records_captured_at_finite"):
        db.do(INSERT, at=never, status="pending")
    [mine] = db.add(1)
    with pytest.raises(psycopg.errors.CheckViolation, match="records_captured_at_finite"):
        db.do("update anomaly.records set captured_at = %(at)s::timestamptz", at=never)
    with pytest.raises(psycopg.errors.NotNullViolation):
        db.do("update anomaly.records set captured_at = null")
    db.do("alter table anomaly.records drop constraint records_captured_at_finite")
    for status in ("pending", "done", "quarantined"):
        db.do(INSERT, at=never, status=status)
    found = backlog(db)
    assert (found.due, found.later) == (1, 0)
    assert found.oldest_due_age_s
    assert math.isfinite(found.oldest_due_age_s)
    oldest = MaintenanceStore(db.database).oldest_due()
    assert oldest
    assert oldest.record_id == mine
    assert db.store.preview(db.run(select="all")).due == {"pending": 1, "quarantined": 0, "done": 0}
    number = db.claim(size=9)
    assert len(db.open(number)) == 1
    assert db.claim(db.run("all", select="all"), origin="done") is None
