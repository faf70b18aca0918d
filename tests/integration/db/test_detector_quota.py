"""Sharing a quota: tasks that race never get more than it allows, and the share of a dead task comes back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from anomaly.db.detector_quota import BURST_S, FILL, DetectorQuotaStore
from anomaly.errors import Misconfigured
from anomaly.models.quota import Demand, Quota, Share

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb


def a_task(db: RecordsDb, holder: str = "a", *, detector: str = "d", **quota: Any) -> DetectorQuotaStore:
    return DetectorQuotaStore(db.database, detector=detector, holder=holder, quota=Quota(**quota))


def shares(db: RecordsDb) -> dict[str, int]:
    return {row["holder"]: row["granted"] for row in db.sql.execute("select holder, granted from anomaly.detector_shares")}


def let_pass(db: RecordsDb, seconds: float) -> None:
    """Move stored times into the past by *seconds*."""
    db.sql.execute("update anomaly.detectors set refilled_at = refilled_at - make_interval(secs => %s)", [seconds])
    db.sql.execute("update anomaly.detectors set held_until = held_until - make_interval(secs => %s)", [seconds])
    db.sql.execute("update anomaly.detector_shares set expires_at = expires_at - make_interval(secs => %s)", [seconds])


# ── nothing is stated


def test_where_nothing_is_stated_everyone_has_what_it_wants(db: RecordsDb) -> None:
    for holder in "ab":
        assert a_task(db, holder).share(Demand(wanted=32, requests=32)) == Share(concurrency=32, requests=32)


def test_a_pause_is_known_to_all_who_ask_this_detector_and_to_no_one_else(db: RecordsDb) -> None:
    a_task(db, "a").share(Demand(wanted=4, hold_s=30.0))
    assert a_task(db, "b").share(Demand(wanted=4)).hold_s == pytest.approx(30.0, abs=2.0)
    assert a_task(db, "b", detector="another").share(Demand(wanted=4)).hold_s == 0.0


def test_a_shorter_pause_does_not_shorten_a_longer_one(db: RecordsDb) -> None:
    a_task(db, "a").share(Demand(wanted=4, hold_s=30.0))
    assert a_task(db, "b").share(Demand(wanted=4, hold_s=1.0)).hold_s > 20


# ── concurrency


def test_tasks_that_want_more_than_there_is_come_to_equal_parts_and_never_to_more_than_all(db: RecordsDb) -> None:
    tasks = [a_task(db, holder, concurrency=10) for holder in "abcd"]
    for _ in range(4):
        for task in tasks:
            task.share(Demand(wanted=32))
            assert sum(shares(db).values()) <= 10
    assert sorted(shares(db).values()) == [2, 2, 3, 3]


def test_what_one_does_not_want_is_the_others(db: RecordsDb) -> None:
    modest, greedy = a_task(db, "a", concurrency=10), a_task(db, "b", concurrency=10)
    modest.share(Demand(wanted=2))
    assert greedy.share(Demand(wanted=32)).concurrency == 8


def test_what_is_still_in_flight_is_given_to_nobody_else(db: RecordsDb) -> None:
    first, second = a_task(db, "a", concurrency=10), a_task(db, "b", concurrency=10)
    assert first.share(Demand(wanted=10)).concurrency == 10
    assert second.share(Demand(wanted=10)).concurrency == 0
    assert first.share(Demand(wanted=10, in_flight=10)).concurrency == 5
    assert second.share(Demand(wanted=10)).concurrency == 0
    first.share(Demand(wanted=10, in_flight=5))
    assert second.share(Demand(wanted=10)).concurrency == 5


def test_the_part_of_a_task_that_left_is_free_at_once_and_that_of_a_dead_one_once_it_expires(db: RecordsDb) -> None:
    gone, dead, alive = (a_task(db, holder, concurrency=9) for holder in "abc")
    for _ in range(3):
        for task in (gone, dead, alive):
            task.share(Demand(wanted=9))
    gone.share(Demand())
    alive.share(Demand(wanted=9))
    assert shares(db) == {"b": 3, "c": 4}, "an equal part, as far as the other has not taken its own"
    let_pass(db, DetectorQuotaStore.expires_s)
    assert alive.share(Demand(wanted=9)).concurrency == 9
    assert set(shares(db)) == {"c"}


def test_more_tasks_than_the_detector_takes_requests_never_go_over_it(db: RecordsDb) -> None:
    tasks = [a_task(db, str(n), concurrency=2) for n in range(6)]
    granted = [task.share(Demand(wanted=8)).concurrency for _ in range(3) for task in tasks]
    assert sum(shares(db).values()) <= 2
    assert max(granted) <= 2


# ── requests and tokens a minute


def test_requests_are_granted_as_the_minute_passes(db: RecordsDb) -> None:
    first, second = (a_task(db, holder, requests_per_minute=600) for holder in "ab")
    burst = int(10 * FILL * BURST_S)
    assert first.share(Demand(wanted=32, requests=50)).requests == burst
    assert second.share(Demand(wanted=32, requests=50)).requests == 0
    let_pass(db, 0.5)
    assert 4 <= second.share(Demand(wanted=32, requests=50)).requests <= 7


def test_however_long_nobody_asks_no_more_than_a_second_is_saved_up(db: RecordsDb) -> None:
    task = a_task(db, requests_per_minute=600)
    task.share(Demand(wanted=32, requests=50))
    let_pass(db, 3600)
    assert task.share(Demand(wanted=32, requests=500)).requests == int(10 * FILL * BURST_S)


def test_a_quota_of_a_few_requests_a_minute_is_granted_one_by_one(db: RecordsDb) -> None:
    task = a_task(db, requests_per_minute=6)
    assert task.share(Demand(wanted=4, requests=4)).requests == 1
    assert task.share(Demand(wanted=4, requests=4)).requests == 0
    let_pass(db, 10.5)
    assert task.share(Demand(wanted=4, requests=4)).requests == 1


def test_what_was_granted_and_not_used_goes_to_the_others(db: RecordsDb) -> None:
    first, second = (a_task(db, holder, requests_per_minute=600) for holder in "ab")
    granted = first.share(Demand(wanted=32, requests=50)).requests
    first.share(Demand(wanted=1, unused=granted))
    assert second.share(Demand(wanted=32, requests=50)).requests >= granted


def test_tokens_limit_the_requests_by_what_each_takes_and_a_debt_is_waited_for(db: RecordsDb) -> None:
    task = a_task(db, tokens_per_minute=60_000)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100)).requests == int(1000 * FILL * BURST_S / 100)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100, tokens_back=-2000)).requests == 0
    let_pass(db, 1.0)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100)).requests == 0
    let_pass(db, 2.0)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100)).requests > 0


def test_a_request_that_takes_more_than_a_seconds_tokens_is_granted_in_the_end(db: RecordsDb) -> None:
    task = a_task(db, tokens_per_minute=600)
    task.share(Demand(wanted=1, requests=1, tokens_each=500))
    let_pass(db, 60.0)
    assert task.share(Demand(wanted=1, requests=1, tokens_each=500)).requests == 1


# ── races and failures


def test_racing_tasks_never_have_more_than_there_is(db: RecordsDb) -> None:
    def visits(holder: str) -> int:
        task = a_task(db, holder, concurrency=7, requests_per_minute=60)
        return sum(task.share(Demand(wanted=32, requests=50)).requests for _ in range(20))

    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads, psycopg.connect(db.dsn, autocommit=True, row_factory=dict_row) as watching:
        jobs = [threads.submit(visits, str(n)) for n in range(8)]
        seen = []
        while not all(job.done() for job in jobs):
            row = watching.execute("select coalesce(sum(granted), 0) as granted from anomaly.detector_shares").fetchone()
            seen.append(row["granted"] if row else 0)
    assert max(seen) <= 7
    assert sum(job.result() for job in jobs) <= BURST_S + time.monotonic() - began, "one request a second, and what the bucket held"


def test_a_visit_that_is_cut_off_changes_nothing(db: RecordsDb) -> None:
    task = a_task(db, "a", concurrency=10, requests_per_minute=600)
    task.share(Demand(wanted=4, requests=2))
    before = db.sql.execute("select * from anomaly.detectors, anomaly.detector_shares").fetchall()
    with psycopg.connect(db.dsn) as cut:
        cut.execute(
            "select anomaly.share_detector('d', 'b', 8, 0, 9, 0, 1, 0, 60, 15, 10, 10, null, 1)",
        )
        cut.rollback()
    assert db.sql.execute("select * from anomaly.detectors, anomaly.detector_shares").fetchall() == before


def test_without_the_migration_it_says_what_is_missing(db: RecordsDb) -> None:
    db.sql.execute("drop function anomaly.share_detector")
    with pytest.raises(Misconfigured, match="share_detector"):
        a_task(db).share(Demand(wanted=1))
