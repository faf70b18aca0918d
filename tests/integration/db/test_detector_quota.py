"""Sharing a quota: tasks that race never get more than it allows, and the share of a dead task comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from anomaly.db.detector_quota import HORIZON_S, PERIOD_S, PROBE_S, DetectorPauseStore, DetectorQuotaStore
from anomaly.errors import DatabaseUnavailable, Misconfigured
from anomaly.models.quota import Demand, Quota, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.record_builders import RecordsDb


def a_task(db: RecordsDb, holder: str = "a", *, detector: str = "d", **quota: Any) -> DetectorQuotaStore:
    return DetectorQuotaStore(db.database, detector=detector, holder=holder, quota=Quota(**quota))


def shares(db: RecordsDb) -> dict[str, int]:
    return {row["holder"]: row["granted"] for row in db.sql.execute("select holder, granted from anomaly.detector_shares")}


def let_pass(db: RecordsDb, seconds: float) -> None:
    """Move stored times into the past by *seconds*."""
    db.sql.execute(
        """update anomaly.detectors
              set next_request_at = next_request_at - %(s)s, next_tokens_at = next_tokens_at - %(s)s,
                  returned = array(select start - %(s)s from unnest(returned) as start),
                  held_until = held_until - make_interval(secs => %(s)s), probe_at = probe_at - make_interval(secs => %(s)s)""",
        {"s": seconds},
    )
    db.sql.execute("update anomaly.detector_shares set expires_at = expires_at - make_interval(secs => %s)", [seconds])


# ── nothing is stated


def test_where_nothing_is_stated_everyone_has_what_it_wants(db: RecordsDb) -> None:
    for holder in "ab":
        share = a_task(db, holder).share(Demand(wanted=32))
        assert share == Share(concurrency=32, now_s=share.now_s)


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


def gaps(starts: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(sorted(starts))]


def test_starts_are_granted_at_equal_distances_and_until_after_the_next_call(db: RecordsDb) -> None:
    share = a_task(db, requests_per_minute=600).share(Demand(wanted=32, requests=500))
    assert gaps(share.starts) == pytest.approx([PERIOD_S / 600] * (len(share.starts) - 1), abs=1e-4)
    assert share.starts[-1] - share.now_s == pytest.approx(HORIZON_S, abs=PERIOD_S / 600)


def test_a_task_that_calls_later_has_its_equal_part_at_later_times(db: RecordsDb) -> None:
    first, second = (a_task(db, holder, requests_per_minute=600) for holder in "ab")
    before = first.share(Demand(wanted=32, requests=500)).starts
    after = second.share(Demand(wanted=32, requests=500)).starts
    assert len(after) == int(HORIZON_S / (PERIOD_S / 600) / 2)
    assert min(gaps((*before, *after))) > 0.99 * PERIOD_S / 600


def test_however_long_nobody_asks_no_more_than_half_a_second_is_saved_up(db: RecordsDb) -> None:
    task = a_task(db, requests_per_minute=600)
    task.share(Demand(wanted=32, requests=50))
    let_pass(db, 3600)
    share = task.share(Demand(wanted=32, requests=500))
    assert share.starts[0] - share.now_s == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("quota", [1, 3, 7.5])
def test_a_quota_of_a_few_requests_a_minute_is_granted_one_by_one_without_losing_a_fraction(db: RecordsDb, quota: float) -> None:
    task = a_task(db, requests_per_minute=quota)
    assert len(task.share(Demand(wanted=4, requests=4)).starts) == 1
    assert task.share(Demand(wanted=4, requests=4)).starts == ()
    let_pass(db, PERIOD_S / quota - 3.0)
    assert task.share(Demand(wanted=4, requests=4)).starts == ()
    let_pass(db, 2.0)
    share = task.share(Demand(wanted=4, requests=4))
    assert [start - share.now_s for start in share.starts] == [pytest.approx(0.5, abs=0.3)]


def test_starts_that_were_not_used_go_to_the_others_with_their_times_and_those_that_are_over_to_nobody(db: RecordsDb) -> None:
    first, second = (a_task(db, holder, requests_per_minute=600) for holder in "ab")
    granted = first.share(Demand(wanted=32, requests=500)).starts
    first.share(Demand(wanted=1, returned=(granted[0] - 60.0, *granted[-4:])))
    assert second.share(Demand(wanted=32, requests=4)).starts == pytest.approx(granted[-4:])
    first.share(Demand(wanted=1, returned=granted[:2]))
    let_pass(db, 10.0)
    assert second.share(Demand(wanted=32, requests=1)).starts[0] > granted[-1] - 10.0 - 2.0


def test_a_clock_that_is_set_back_does_not_block_the_detector(db: RecordsDb) -> None:
    task = a_task(db, requests_per_minute=600)
    task.share(Demand(wanted=32, requests=5))
    let_pass(db, -3600.0)
    task.share(Demand(wanted=32, requests=5))
    let_pass(db, 5.0)
    assert len(task.share(Demand(wanted=32, requests=5)).starts) == 5


def test_tokens_space_the_requests_by_what_each_takes_and_a_debt_is_waited_for(db: RecordsDb) -> None:
    task = a_task(db, tokens_per_minute=60_000)
    share = task.share(Demand(wanted=32, requests=50, tokens_each=100))
    assert gaps(share.starts) == pytest.approx([PERIOD_S / 600] * (len(share.starts) - 1), abs=1e-4)
    let_pass(db, 1.0)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100, tokens_back=-5000)).starts == ()
    let_pass(db, 2.0)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100)).starts == ()
    let_pass(db, 4.0)
    assert task.share(Demand(wanted=32, requests=50, tokens_each=100)).starts


def test_a_request_that_takes_more_than_the_tokens_of_a_minute_is_granted_in_the_end(db: RecordsDb) -> None:
    task = a_task(db, tokens_per_minute=600)
    assert len(task.share(Demand(wanted=1, requests=2, tokens_each=900)).starts) == 1
    let_pass(db, 60.0)
    assert task.share(Demand(wanted=1, requests=1, tokens_each=900)).starts == ()
    let_pass(db, 40.0)
    assert len(task.share(Demand(wanted=1, requests=1, tokens_each=900)).starts) == 1


# ── long pauses


def test_a_pause_is_never_longer_than_the_setting_whatever_was_asked_for(db: RecordsDb) -> None:
    for asked_s in (60_000.0, 999_999_999.0):
        assert a_task(db).share(Demand(wanted=4, hold_s=asked_s)).hold_s == pytest.approx(3600.0, abs=5.0)


def test_after_a_long_pause_one_task_tries_the_detector_until_it_answers(db: RecordsDb) -> None:
    first, second, third = (a_task(db, holder) for holder in "abc")
    first.share(Demand(wanted=4, hold_s=999_999_999.0))
    assert second.share(Demand(wanted=4)).at_most == 0
    let_pass(db, 3601.0)
    assert [task.share(Demand(wanted=4)).at_most for task in (second, first, third)] == [1, 0, 0]
    assert second.share(Demand(wanted=4, answers=True)).at_most is None
    assert first.share(Demand(wanted=4)).at_most is None


def test_where_the_task_that_tries_the_detector_dies_another_one_does(db: RecordsDb) -> None:
    first, second = (a_task(db, holder) for holder in "ab")
    first.share(Demand(wanted=4, hold_s=600.0))
    let_pass(db, 601.0)
    assert first.share(Demand(wanted=4)).at_most == 1
    assert second.share(Demand(wanted=4)).at_most == 0
    let_pass(db, PROBE_S)
    assert second.share(Demand(wanted=4)).at_most == 1


def test_a_short_pause_ends_for_all_at_once(db: RecordsDb) -> None:
    task = a_task(db)
    task.share(Demand(wanted=4, hold_s=10.0))
    let_pass(db, 11.0)
    assert task.share(Demand(wanted=4)).at_most is None


def test_a_pause_is_shown_and_lifted_and_its_records_are_due(db: RecordsDb) -> None:
    pauses = DetectorPauseStore(db.database)
    assert pauses.paused_until("d") is None
    assert pauses.resume("d") is None
    a_task(db).share(Demand(wanted=4, hold_s=3600.0))
    db.sql.execute(
        """insert into anomaly.records (image_url, captured_at, last_error_code, not_before)
           select 'http://a', now(), code, now() + interval '1 h' from unnest(array['detector_throttled', 'detector_failed']) as code"""
    )
    assert pauses.paused_until("d") is not None
    assert pauses.paused_until("another") is None
    assert pauses.resume("d") == 1
    assert pauses.paused_until("d") is None
    assert a_task(db).share(Demand(wanted=4)).at_most == 1
    assert db.sql.execute("select count(*) as due from anomaly.records where not_before is null").fetchall() == [{"due": 1}]


# ── races and failures


def test_racing_tasks_never_have_more_than_there_is(db: RecordsDb) -> None:
    def visits(holder: str) -> list[float]:
        task = a_task(db, holder, concurrency=7, requests_per_minute=6000)
        return [start for _ in range(20) for start in task.share(Demand(wanted=32, requests=5)).starts]

    with ThreadPoolExecutor(8) as threads, psycopg.connect(db.dsn, autocommit=True, row_factory=dict_row) as watching:
        jobs = [threads.submit(visits, str(n)) for n in range(8)]
        seen = []
        while not all(job.done() for job in jobs):
            row = watching.execute("select coalesce(sum(granted), 0) as granted from anomaly.detector_shares").fetchone()
            seen.append(row["granted"] if row else 0)
    assert max(seen) <= 7
    starts = [start for job in jobs for start in job.result()]
    assert len(starts) > 100
    assert min(gaps(starts)) > 0.99 * PERIOD_S / 6000


def test_a_visit_that_is_cut_off_changes_nothing(db: RecordsDb) -> None:
    task = a_task(db, "a", concurrency=10, requests_per_minute=600)
    task.share(Demand(wanted=4, requests=2))
    before = db.sql.execute("select * from anomaly.detectors, anomaly.detector_shares").fetchall()
    with psycopg.connect(db.dsn) as cut:
        cut.execute(
            "select anomaly.share_detector('d', 'b', 8, 0, 9, '{}', 1, 0, 60, false, 15, 10, 10, null, 62, 1.5, 1, 3600, 60)",
        )
        cut.rollback()
    assert db.sql.execute("select * from anomaly.detectors, anomaly.detector_shares").fetchall() == before


STEPS = [("detectors", "insert"), ("detector_shares", "delete"), ("detector_shares", "insert"), ("detectors", "update")]


@pytest.mark.parametrize(("table", "event"), STEPS)
def test_a_visit_that_dies_at_any_step_changes_nothing_and_the_task_that_waits_behind_it_gets_no_more_than_there_is(
    db: RecordsDb, table: str, event: str
) -> None:
    query = "select * from anomaly.detectors left join anomaly.detector_shares using (detector)"
    first, second = (a_task(db, holder, concurrency=10, requests_per_minute=600) for holder in "ab")
    earlier = first.share(Demand(wanted=8, requests=2))
    second.share(Demand(wanted=1))
    before = db.rows(query)
    with db.gate(table, event).shut():
        visit = db.meanwhile(lambda: first.share(Demand(wanted=9, requests=2, hold_s=30.0, returned=earlier.starts[1:])))
        db.await_blocked()
        rival = db.meanwhile(lambda: second.share(Demand(wanted=9, requests=3)))
        db.await_blocked(2)
        db.do("select pg_terminate_backend(%(pid)s)", pid=db.blocked()[0])
        with pytest.raises(DatabaseUnavailable):
            visit.result(timeout=10)
        assert db.rows(query) == before
    share = rival.result(timeout=10)
    assert share.hold_s == 0
    assert sum(shares(db).values()) <= 10
    assert min(gaps([*earlier.starts, *share.starts])) > 0.99 * PERIOD_S / 600


@pytest.mark.parametrize(("table", "event"), STEPS)
def test_two_visits_that_meet_at_any_step_come_one_after_the_other(db: RecordsDb, table: str, event: str) -> None:
    tasks = [a_task(db, holder, concurrency=10, requests_per_minute=600) for holder in "ab"]
    for task in tasks:
        task.share(Demand(wanted=1))
    with db.gate(table, event).shut():
        visits = [db.meanwhile(partial(task.share, Demand(wanted=9, requests=3))) for task in tasks]
        db.await_blocked(2)
    found = [visit.result(timeout=10) for visit in visits]
    assert sum(share.concurrency for share in found) <= 10
    assert sum(shares(db).values()) <= 10
    assert min(gaps([start for share in found for start in share.starts])) > 0.99 * PERIOD_S / 600


def test_without_the_migration_it_says_what_is_missing(db: RecordsDb) -> None:
    db.sql.execute("drop function anomaly.share_detector")
    with pytest.raises(Misconfigured, match="share_detector"):
        a_task(db).share(Demand(wanted=1))
