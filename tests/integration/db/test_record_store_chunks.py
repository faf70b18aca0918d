"""Claiming, opening, renewing and reaping chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly.db.contracts import SAMPLES
from anomaly.db.statements import default_statements
from anomaly.errors import DetectorFailed, LeaseLost
from anomaly.models.runs import Holder, Released
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.models.runs import Origin

SECOND_TRY = Holder(map_index=0, try_number=2)
NEIGHBOUR = Holder(map_index=1, try_number=1)


def ids(claims: tuple[Claim, ...]) -> list[int]:
    return [claim.record_id for claim in claims]


def test_a_batch_that_begins_twice_began_once(db: RecordsDb) -> None:
    assert db.began() == db.began()


def test_a_batch_that_ended_begins_anew_and_may_claim_as_much_again(db: RecordsDb) -> None:
    db.add(4)
    run, first = db.began(db.run(max_records=2))
    assert db.claim(run) == 0
    db.store.end_batch(run.batch_id)
    assert db.began(run)[1] > first
    assert db.claim(run) == 1


def test_a_claim_takes_the_oldest_records_that_are_due_and_hands_out_all_that_is_known(db: RecordsDb) -> None:
    added = db.add(3)
    db.do("update anomaly.records set image_sha256 = 'cd', attempts = 2, captured_at = captured_at - interval '1 day' where id = 3")
    claims = db.open(db.claim(size=2))
    assert ids(claims) == [added[0], added[2]]
    assert (claims[1].image_url, claims[1].image_sha256, claims[1].attempts, claims[1].claimed_from) == (
        "http://images/2",
        "cd",
        2,
        "pending",
    )
    assert {claim.token for claim in claims} == {2}


def test_a_claim_stays_within_the_window(db: RecordsDb) -> None:
    added = db.add(6)
    run = db.run(window=db.window(1, 3))
    assert ids(db.open(db.claim(run), run=run)) == added[1:3]
    assert db.claim(run) is None


def test_chunks_of_a_batch_are_numbered_until_nothing_is_due(db: RecordsDb) -> None:
    db.add(5)
    assert [db.claim(size=2) for _ in range(4)] == [0, 1, 2, None]
    assert db.store.unopened_chunks(db.batch_id()) == [0, 1, 2]


def test_a_batch_claims_no_more_than_max_records(db: RecordsDb) -> None:
    db.add(5)
    run = db.run(max_records=3)
    assert [db.claim(run, size=2) for _ in range(3)] == [0, 1, None]
    assert db.statuses() == {"claimed": 3, "pending": 2}


def test_a_batch_that_ended_claims_nothing(db: RecordsDb) -> None:
    db.add(1)
    run, began_at = db.began()
    db.store.end_batch(run.batch_id)
    assert db.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60) is None
    assert db.statuses() == {"pending": 1}


@pytest.mark.parametrize("name", ["claim_pending", "claim_done"])
def test_a_claim_for_a_batch_that_ended_keeps_no_record_from_others(db: RecordsDb, name: str) -> None:
    origin: Origin = "pending" if name == "claim_pending" else "done"
    db.add(3, status=origin)
    run, began_at = db.began()
    db.store.end_batch(run.batch_id)
    with db.sql.transaction():
        assert db.rows(default_statements()[name], **{**SAMPLES, "batch_id": run.batch_id, "began_at": began_at}) == []
        other = db.run("other")
        assert len(db.open(db.claim(other, origin=origin), run=other)) == 3


def test_a_re_scoring_takes_done_records_afresh(db: RecordsDb) -> None:
    [record_id] = db.add(1, status="done")
    db.do("update anomaly.records set attempts = 3, lost = 1")
    [claim] = db.open(db.claim(origin="done"))
    assert (claim.record_id, claim.claimed_from, claim.attempts, claim.lost) == (record_id, "done", 0, 1)


def test_a_record_that_was_scored_in_this_run_is_not_re_scored_by_it(db: RecordsDb) -> None:
    run, began_at = db.began()
    [claim] = db.claims()
    db.commit(claim)
    assert db.store.claim_chunk(run, began_at=began_at, origin="done", map_index=0, try_number=1, lease_s=60) is None


def test_a_requeue_gives_quarantined_records_of_the_window_another_life_once_a_run(db: RecordsDb) -> None:
    added = db.add(4, status="quarantined")
    db.do("update anomaly.records set attempts = 5, lost = 1, not_before = now() + interval '1 hour'")
    run, began_at = db.began(db.run(window=db.window(1, 4), max_records=2))
    assert db.store.requeue(run, began_at=began_at, actor="ann") == 2
    assert [db.record(record_id)["status"] for record_id in added] == ["quarantined", "pending", "pending", "quarantined"]
    claims = db.open(db.claim(run), run=run)
    assert [(claim.record_id, claim.attempts, claim.lost) for claim in claims] == [(added[1], 0, 0), (added[2], 0, 0)]
    assert db.rows("select event, actor from anomaly.processing_log") == [{"event": "requeued", "actor": "ann"}] * 2
    for claim in claims:
        db.store.quarantine(claim, error=DetectorFailed("503"), timings={})
    run = db.run(window=db.window(1, 3))
    assert db.store.requeue(run, began_at=began_at, actor="ann") == 0


def test_a_chunk_is_opened_by_one_task_and_by_no_earlier_try_of_it(db: RecordsDb) -> None:
    db.claims()
    db.open(holder=SECOND_TRY)
    before = db.everything()
    for holder in (HOLDER, NEIGHBOUR, Holder(map_index=1, try_number=2)):
        with pytest.raises(LeaseLost):
            db.open(holder=holder)
    assert db.everything() == before


def test_a_chunk_that_ended_cannot_be_opened(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.commit(claim)
    assert db.store.end_chunk(db.run(), 0, HOLDER, tally={"ended": {"committed": 1}})
    with pytest.raises(LeaseLost):
        db.open(holder=SECOND_TRY)


def test_a_second_try_gets_what_is_left_with_larger_tokens(db: RecordsDb) -> None:
    first, second = db.claims(2)
    db.commit(first)
    assert db.store.unfinished_chunks(db.batch_id(), SECOND_TRY) == [0]
    [left] = db.open(holder=SECOND_TRY)
    assert (left.record_id, left.token) == (second.record_id, second.token + 1)


def test_an_opened_chunk_of_which_nothing_is_left_holds_no_claims(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.commit(claim)
    assert db.open(holder=SECOND_TRY) == ()


def test_the_chunk_that_a_drain_claims_is_its_own(db: RecordsDb) -> None:
    db.add(1)
    assert db.claim(holder=SECOND_TRY) == 0
    assert db.store.unopened_chunks(db.batch_id()) == []
    assert db.store.unfinished_chunks(db.batch_id(), SECOND_TRY) == [0]
    with pytest.raises(LeaseLost):
        db.open(holder=HOLDER)
    assert len(db.open(holder=SECOND_TRY)) == 1


def lease_s(db: RecordsDb) -> float:
    left = db.rows("select extract(epoch from leased_until - clock_timestamp()) as left from anomaly.chunks where chunk = 0")[0]["left"]
    return float(left)


def test_a_renewal_prolongs_a_lease_and_never_shortens_it(db: RecordsDb) -> None:
    db.claims()
    assert db.store.renew_chunks(db.batch_id(), [0], HOLDER, lease_s=600) == {0}
    assert 590 < lease_s(db) < 601
    assert db.store.renew_chunks(db.batch_id(), [0], HOLDER, lease_s=60) == {0}
    assert 590 < lease_s(db) < 601


def test_a_chunk_that_its_holder_gave_up_is_not_kept_by_the_renewal_of_another_one(db: RecordsDb) -> None:
    db.add(2)
    for _ in range(2):
        db.open(db.claim(size=1))
    before = lease_s(db)
    assert db.store.renew_chunks(db.batch_id(), [1], HOLDER, lease_s=600) == {1}
    assert lease_s(db) <= before


def test_a_parked_chunk_waits_for_the_next_try_and_blames_nobody(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.store.mark_alone(claim, HOLDER, alone=True)
    db.store.park_chunks(db.run(), HOLDER, lease_s=90)
    assert 85 < lease_s(db) < 91
    [again] = db.open(holder=SECOND_TRY)
    assert (again.lost, db.events(claim.record_id)) == (0, [])


def test_a_parked_chunk_whose_lease_ran_out_blames_nobody(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.store.park_chunks(db.run(), HOLDER, lease_s=90)
    db.expire()
    assert db.store.reap_expired_chunks() == 1
    assert (db.record(claim.record_id)["lost"], db.record(claim.record_id)["status"]) == (0, "pending")


def test_a_chunk_ends_only_when_nothing_of_it_is_claimed(db: RecordsDb) -> None:
    [claim] = db.claims()
    assert not db.store.end_chunk(db.run(), 0, HOLDER, tally={})
    db.commit(claim)
    assert db.store.end_chunk(db.run(), 0, HOLDER, tally={"ended": {"committed": 1}})
    assert db.rows("select tally from anomaly.chunks") == [{"tally": {"ended": {"committed": 1}}}]


def test_released_records_are_due_at_once_with_no_attempt_counted(db: RecordsDb) -> None:
    claims = db.claims(3)
    db.commit(claims[0])
    db.store.release_chunks(db.run(), HOLDER)
    assert db.statuses() == {"done": 1, "pending": 2}
    assert {record["attempts"] for record in db.everything()["records"] if record["status"] == "pending"} == {0}
    assert db.events(claims[1].record_id) == ["released"]
    assert ids(db.open(db.claim())) == [claim.record_id for claim in claims[1:]]


def test_a_release_leaves_the_chunks_of_other_tasks_alone(db: RecordsDb) -> None:
    db.add(2)
    db.open(db.claim(size=1))
    db.open(db.claim(size=1), holder=NEIGHBOUR)
    db.store.release_chunks(db.run(), HOLDER)
    assert db.store.unfinished_chunks(db.batch_id(), NEIGHBOUR) == [1]
    assert db.statuses() == {"pending": 1, "claimed": 1}


def test_the_end_of_a_run_frees_whatever_its_batch_has_left_and_nothing_else(db: RecordsDb) -> None:
    db.add(4)
    db.open(db.claim(size=2))
    db.claim(size=1)
    db.claim(db.run("other"))
    assert db.store.release_batch(db.batch_id()) == Released(chunks=2, records=3)
    assert db.store.release_batch(db.batch_id()) == Released()
    assert db.statuses() == {"pending": 3, "claimed": 1}


def test_released_re_scorings_are_done_again(db: RecordsDb) -> None:
    db.claims(2, origin="done")
    db.store.release_batch(db.batch_id())
    assert db.statuses() == {"done": 2}


ZOMBIES: dict[str, Callable[[RecordsDb], object]] = {
    "renew": lambda db: db.store.renew_chunks(db.batch_id(), [0], HOLDER, lease_s=600),
    "park": lambda db: db.store.park_chunks(db.run(), HOLDER, lease_s=600),
    "end": lambda db: db.store.end_chunk(db.run(), 0, HOLDER, tally={}),
    "release": lambda db: db.store.release_chunks(db.run(), HOLDER),
}


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("action", ZOMBIES)
def test_a_zombie_try_changes_nothing_about_its_successors_chunk(db: RecordsDb, action: str, left: int) -> None:
    claims = db.claims(1)
    if not left:
        db.commit(claims[0])
    db.open(holder=SECOND_TRY)
    before = db.everything()
    assert not ZOMBIES[action](db)
    assert db.everything() == before


def test_a_zombie_try_cannot_mark_a_record_as_worked_alone(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.open(holder=SECOND_TRY)
    before = db.everything()
    with pytest.raises(LeaseLost):
        db.store.mark_alone(claim, HOLDER, alone=True)
    assert db.everything() == before


def died_by_lease(db: RecordsDb) -> None:
    """The worker dies, and its lease runs out."""
    db.expire()
    db.store.reap_expired_chunks()


def died_by_retry(db: RecordsDb) -> None:
    """The worker dies, and the next try of its task takes over."""
    db.open(holder=SECOND_TRY)


def test_expired_chunks_are_reaped_however_many_they_are(db: RecordsDb) -> None:
    db.add(45)
    while db.claim(size=1) is not None:
        pass
    db.expire()
    assert db.store.reap_expired_chunks() == 45
    assert db.statuses() == {"pending": 45}
    assert db.store.reap_expired_chunks() == 0


def test_a_lease_that_still_runs_is_not_reaped(db: RecordsDb) -> None:
    db.claims()
    assert db.store.reap_expired_chunks() == 0


def test_a_chunk_that_waited_too_long_for_a_worker_blames_nobody(db: RecordsDb) -> None:
    [record_id] = db.add(1)
    db.claim()
    died_by_lease(db)
    assert (db.record(record_id)["lost"], db.record(record_id)["status"]) == (0, "pending")
    assert db.events(record_id) == ["expired"]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_a_dead_worker_makes_suspects_of_what_it_held_and_of_nothing_that_it_had_ended(
    db: RecordsDb, died: Callable[[RecordsDb], None]
) -> None:
    claims = db.claims(3)
    db.commit(claims[0])
    died(db)
    assert [db.record(claim.record_id)["lost"] for claim in claims] == [0, 1, 1]
    assert db.record(claims[1].record_id)["last_error_code"] == "worker_lost"


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_a_death_counts_for_the_record_that_was_worked_alone_and_for_no_other(db: RecordsDb, died: Callable[[RecordsDb], None]) -> None:
    claims = db.claims(2)
    db.store.mark_alone(claims[1], HOLDER, alone=True)
    died(db)
    assert [db.record(claim.record_id)["lost"] for claim in claims] == [0, 1]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_strong_suspects_are_not_blamed_while_they_were_not_worked(db: RecordsDb, died: Callable[[RecordsDb], None]) -> None:
    db.add(2)
    db.do("update anomaly.records set lost = 2 where id = 1")
    db.open(db.claim())
    died(db)
    assert [record["lost"] for record in db.everything()["records"]] == [2, 1]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
@pytest.mark.parametrize(("origin", "status"), [("pending", "quarantined"), ("done", "done")])
def test_a_record_that_killed_five_workers_is_given_up(
    db: RecordsDb, died: Callable[[RecordsDb], None], origin: Origin, status: str
) -> None:
    [record_id] = db.add(1, status=origin)
    db.do("update anomaly.records set lost = 4")
    [claim] = db.open(db.claim(origin=origin))
    db.store.mark_alone(claim, HOLDER, alone=True)
    died(db)
    assert (db.record(record_id)["status"], db.record(record_id)["lost"]) == (status, 5)
    assert db.events(record_id) == ["worker_died"]
    assert db.claim(db.run("later"), origin="done") is None


def test_a_mark_that_was_cleared_blames_nobody_alone(db: RecordsDb) -> None:
    claims = db.claims(2)
    db.store.mark_alone(claims[1], HOLDER, alone=True)
    db.store.mark_alone(claims[1], HOLDER, alone=False)
    died_by_lease(db)
    assert [db.record(claim.record_id)["lost"] for claim in claims] == [1, 1]


def test_suspects_are_handed_out_last(db: RecordsDb) -> None:
    added = db.add(3)
    db.do("update anomaly.records set lost = 2 where id = %(id)s", id=added[0])
    assert ids(db.open(db.claim())) == [added[1], added[2], added[0]]


@pytest.mark.parametrize("ending", ["commit", "defer"])
def test_a_worker_that_lives_to_end_a_record_clears_its_name(db: RecordsDb, ending: str) -> None:
    [claim] = db.claims()
    died_by_retry(db)
    [claim] = db.open(holder=SECOND_TRY)
    assert claim.lost == 1
    if ending == "commit":
        db.commit(claim)
    else:
        db.store.defer(claim, error=DetectorFailed("503"), timings={})
    assert db.record(claim.record_id)["lost"] == 0


def test_a_try_that_opens_its_own_chunk_again_blames_nobody(db: RecordsDb) -> None:
    [claim] = db.claims()
    [again] = db.open()
    assert (again.lost, again.token) == (0, claim.token + 1)


def test_the_report_counts_what_the_tables_hold_over_all_tries(db: RecordsDb) -> None:
    claims = db.claims(6)
    for claim in claims[:2]:
        db.commit(claim)
    db.store.defer(claims[2], error=DetectorFailed("503"), timings={"fetch": 9.0})
    db.store.quarantine(claims[3], error=DetectorFailed("503"), timings={})
    left = db.open(holder=SECOND_TRY)
    db.commit(left[0], holder=SECOND_TRY)
    db.store.release_chunks(db.run(), SECOND_TRY)
    other = db.run("other")
    db.add(1)
    for claim in db.open(db.claim(other, size=1), run=other):
        db.commit(claim)
    report = db.store.report(db.batch_id())
    assert report.statuses == {"done": 3, "pending": 2, "quarantined": 1}
    assert report.events == {
        ("committed", None): 3,
        ("deferred", "detector_failed"): 1,
        ("quarantined", "detector_failed"): 1,
        ("reopened", "worker_lost"): 2,
        ("released", None): 1,
    }
    assert (report.anomalies, report.reused) == (3, 0)
    assert {name: (spread.count, spread.p50_ms, spread.p95_ms, spread.max_ms) for name, spread in report.timings.items()} == {
        "fetch": (4, 1.0, 9.0, 9.0),
        "detect": (3, 2.0, 2.0, 2.0),
    }


def test_the_report_of_a_batch_without_records_is_empty(db: RecordsDb) -> None:
    db.began()
    report = db.store.report(db.batch_id())
    assert (report.statuses, report.events, report.timings, report.tallies, report.anomalies) == ({}, {}, {}, {}, 0)
