"""Rate and backlog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.stats import StatsStore
from anomaly.models.runs import Backlog
from tests.parts.record_builders import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


def ran(bench: Bench, name: str, *chunks: tuple[int, int, int, int], claimed: int = 100, over: bool = True) -> None:
    """A run whose chunks were worked by (map index, seconds from, seconds to, records)."""
    batch = bench.run(name).batch_id
    bench.sql.execute(
        "insert into anomaly.batches (batch_id, dag_id, run_id, began_at, claimed) values (%s, 'd', %s, %s, %s)",
        [batch, name, None if over else "2026-01-01", claimed],
    )
    for number, (map_index, opened_s, ended_s, records) in enumerate(chunks):
        bench.sql.execute(
            """insert into anomaly.chunks (batch_id, chunk, map_index, claimed_from, leased_until, opened_at, ended_at, tally)
               values (%s, %s, %s, 'pending', now(), to_timestamp(%s), to_timestamp(%s), jsonb_build_object('ended', %s::jsonb))""",
            [batch, number, map_index, opened_s, ended_s, f'{{"committed": {records - 1}, "quarantined": 1}}'],
        )


def rate(bench: Bench) -> Any:
    return StatsStore(bench.database).records_per_s()


def test_before_the_first_run_there_is_no_rate(bench: Bench) -> None:
    assert rate(bench) is None


def test_the_rate_is_that_of_one_task_whose_chunks_overlap(bench: Bench) -> None:
    ran(bench, "r", (0, 0, 10, 100), (0, 8, 20, 100), (1, 0, 20, 200))
    assert rate(bench) == pytest.approx(10.0)


def test_runs_that_are_not_over_or_had_next_to_nothing_are_not_counted(bench: Bench) -> None:
    ran(bench, "old", (0, 0, 10, 100))
    ran(bench, "small", (0, 0, 10, 3), claimed=3)
    ran(bench, "running", (0, 0, 10, 500), over=False)
    assert rate(bench) == pytest.approx(10.0)


def test_a_run_none_of_whose_chunks_was_worked_to_its_end_has_no_rate(bench: Bench) -> None:
    ran(bench, "r")
    assert rate(bench) is None


# ── backlog


def backlog(bench: Bench) -> Backlog:
    return StatsStore(bench.database).backlog()


def test_with_no_records_there_is_no_backlog(bench: Bench) -> None:
    assert backlog(bench) == Backlog(due=0, later=0, claimed=0, quarantined=0, oldest_due_age_s=None)


def test_the_backlog_counts_each_state_that_is_not_done(bench: Bench) -> None:
    for status, count in (("pending", 5), ("quarantined", 3), ("done", 7)):
        bench.add(count, status=status)
    bench.do("update anomaly.records set not_before = now() + interval '1 hour' where id = 1")
    bench.claim(size=2)
    found = backlog(bench)
    assert (found.due, found.later, found.claimed, found.quarantined) == (2, 1, 2, 3)


def test_the_oldest_is_that_of_the_records_which_are_due_now(bench: Bench) -> None:
    bench.add(3)
    bench.do("update anomaly.records set captured_at = now() - id * interval '1 hour'")
    bench.do("update anomaly.records set not_before = now() + interval '1 minute' where id = 3")
    age_s = backlog(bench).oldest_due_age_s
    assert age_s == pytest.approx(7200, abs=60)
