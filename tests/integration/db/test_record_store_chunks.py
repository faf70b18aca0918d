"""Claiming, opening, renewing and reaping chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly.db.sql_check import SAMPLES
from anomaly.db.statements import default_statements
from anomaly.errors import DetectorFailed, LeaseLost
from anomaly.models.runs import Holder, Released
from tests.parts.record_builders import HOLDER, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anomaly.models.records import Claim
    from anomaly.models.runs import Origin

SECOND_TRY = Holder(map_index=0, try_number=2)
NEIGHBOUR = Holder(map_index=1, try_number=1)


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


def ids(claims: tuple[Claim, ...]) -> list[int]:
    return [claim.record_id for claim in claims]


def test_a_batch_that_begins_twice_began_once(bench: Bench) -> None:
    assert bench.began() == bench.began()


def test_a_batch_that_ended_begins_anew_and_may_claim_as_much_again(bench: Bench) -> None:
    bench.add(4)
    run, first = bench.began(bench.run(max_records=2))
    assert bench.claim(run) == 0
    bench.store.end_batch(run.batch_id)
    assert bench.began(run)[1] > first
    assert bench.claim(run) == 1


def test_a_claim_takes_the_oldest_records_that_are_due_and_hands_out_all_that_is_known(bench: Bench) -> None:
    added = bench.add(3)
    bench.do("update anomaly.records set image_sha256 = 'cd', attempts = 2, captured_at = captured_at - interval '1 day' where id = 3")
    claims = bench.open(bench.claim(size=2))
    assert ids(claims) == [added[0], added[2]]
    assert (claims[1].image_url, claims[1].image_sha256, claims[1].attempts, claims[1].claimed_from) == (
        "http://images/2",
        "cd",
        2,
        "pending",
    )
    assert {claim.token for claim in claims} == {2}


def test_a_claim_stays_within_the_window(bench: Bench) -> None:
    added = bench.add(6)
    run = bench.run(window=bench.window(1, 3))
    assert ids(bench.open(bench.claim(run), run=run)) == added[1:3]
    assert bench.claim(run) is None


def test_chunks_of_a_batch_are_numbered_until_nothing_is_due(bench: Bench) -> None:
    bench.add(5)
    assert [bench.claim(size=2) for _ in range(4)] == [0, 1, 2, None]
    assert bench.store.unopened_chunks(bench.batch_id()) == [0, 1, 2]


def test_a_batch_claims_no_more_than_max_records(bench: Bench) -> None:
    bench.add(5)
    run = bench.run(max_records=3)
    assert [bench.claim(run, size=2) for _ in range(3)] == [0, 1, None]
    assert bench.statuses() == {"claimed": 3, "pending": 2}


def test_a_batch_that_ended_claims_nothing(bench: Bench) -> None:
    bench.add(1)
    run, began_at = bench.began()
    bench.store.end_batch(run.batch_id)
    assert bench.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60) is None
    assert bench.statuses() == {"pending": 1}


@pytest.mark.parametrize("name", ["claim_pending", "claim_done"])
def test_a_claim_for_a_batch_that_ended_keeps_no_record_from_others(bench: Bench, name: str) -> None:
    origin: Origin = "pending" if name == "claim_pending" else "done"
    bench.add(3, status=origin)
    run, began_at = bench.began()
    bench.store.end_batch(run.batch_id)
    with bench.sql.transaction():
        assert bench.rows(default_statements().text(name), **{**SAMPLES, "batch_id": run.batch_id, "began_at": began_at}) == []
        other = bench.run("other")
        assert len(bench.open(bench.claim(other, origin=origin), run=other)) == 3


def test_a_re_scoring_takes_done_records_afresh(bench: Bench) -> None:
    [record_id] = bench.add(1, status="done")
    bench.do("update anomaly.records set attempts = 3, lost = 1")
    [claim] = bench.open(bench.claim(origin="done"))
    assert (claim.record_id, claim.claimed_from, claim.attempts, claim.lost) == (record_id, "done", 0, 1)


def test_a_record_that_was_scored_in_this_run_is_not_re_scored_by_it(bench: Bench) -> None:
    run, began_at = bench.began()
    [claim] = bench.claims()
    bench.commit(claim)
    assert bench.store.claim_chunk(run, began_at=began_at, origin="done", map_index=0, try_number=1, lease_s=60) is None


def test_a_requeue_gives_quarantined_records_of_the_window_another_life_once_a_run(bench: Bench) -> None:
    added = bench.add(4, status="quarantined")
    bench.do("update anomaly.records set attempts = 5, lost = 1, not_before = now() + interval '1 hour'")
    run, began_at = bench.began(bench.run(window=bench.window(1, 4), max_records=2))
    assert bench.store.requeue(run, began_at=began_at, actor="ann") == 2
    assert [bench.record(record_id)["status"] for record_id in added] == ["quarantined", "pending", "pending", "quarantined"]
    claims = bench.open(bench.claim(run), run=run)
    assert [(claim.record_id, claim.attempts, claim.lost) for claim in claims] == [(added[1], 0, 0), (added[2], 0, 0)]
    assert bench.rows("select event, actor from anomaly.processing_log") == [{"event": "requeued", "actor": "ann"}] * 2
    for claim in claims:
        bench.store.quarantine(claim, error=DetectorFailed("503"), timings={})
    run = bench.run(window=bench.window(1, 3))
    assert bench.store.requeue(run, began_at=began_at, actor="ann") == 0


def test_a_chunk_is_opened_by_one_task_and_by_no_earlier_try_of_it(bench: Bench) -> None:
    bench.claims()
    bench.open(holder=SECOND_TRY)
    before = bench.everything()
    for holder in (HOLDER, NEIGHBOUR, Holder(map_index=1, try_number=2)):
        with pytest.raises(LeaseLost):
            bench.open(holder=holder)
    assert bench.everything() == before


def test_a_chunk_that_ended_cannot_be_opened(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.commit(claim)
    assert bench.store.end_chunk(bench.run(), 0, HOLDER, tally={"ended": {"committed": 1}})
    with pytest.raises(LeaseLost):
        bench.open(holder=SECOND_TRY)


def test_a_second_try_gets_what_is_left_with_larger_tokens(bench: Bench) -> None:
    first, second = bench.claims(2)
    bench.commit(first)
    assert bench.store.unfinished_chunks(bench.batch_id(), SECOND_TRY) == [0]
    [left] = bench.open(holder=SECOND_TRY)
    assert (left.record_id, left.token) == (second.record_id, second.token + 1)


def test_an_opened_chunk_of_which_nothing_is_left_holds_no_claims(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.commit(claim)
    assert bench.open(holder=SECOND_TRY) == ()


def test_the_chunk_that_a_drain_claims_is_its_own(bench: Bench) -> None:
    bench.add(1)
    assert bench.claim(holder=SECOND_TRY) == 0
    assert bench.store.unopened_chunks(bench.batch_id()) == []
    assert bench.store.unfinished_chunks(bench.batch_id(), SECOND_TRY) == [0]
    with pytest.raises(LeaseLost):
        bench.open(holder=HOLDER)
    assert len(bench.open(holder=SECOND_TRY)) == 1


def lease_s(bench: Bench) -> float:
    left = bench.rows("select extract(epoch from leased_until - clock_timestamp()) as left from anomaly.chunks where chunk = 0")[0]["left"]
    return float(left)


def test_a_renewal_prolongs_a_lease_and_never_shortens_it(bench: Bench) -> None:
    bench.claims()
    assert bench.store.renew_chunks(bench.batch_id(), [0], HOLDER, lease_s=600) == {0}
    assert 590 < lease_s(bench) < 601
    assert bench.store.renew_chunks(bench.batch_id(), [0], HOLDER, lease_s=60) == {0}
    assert 590 < lease_s(bench) < 601


def test_a_chunk_that_its_holder_gave_up_is_not_kept_by_the_renewal_of_another_one(bench: Bench) -> None:
    bench.add(2)
    for _ in range(2):
        bench.open(bench.claim(size=1))
    before = lease_s(bench)
    assert bench.store.renew_chunks(bench.batch_id(), [1], HOLDER, lease_s=600) == {1}
    assert lease_s(bench) <= before


def test_a_parked_chunk_waits_for_the_next_try_and_blames_nobody(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.store.mark_alone(claim, HOLDER, alone=True)
    bench.store.park_chunks(bench.run(), HOLDER, lease_s=90)
    assert 85 < lease_s(bench) < 91
    [again] = bench.open(holder=SECOND_TRY)
    assert (again.lost, bench.events(claim.record_id)) == (0, [])


def test_a_parked_chunk_whose_lease_ran_out_blames_nobody(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.store.park_chunks(bench.run(), HOLDER, lease_s=90)
    bench.expire()
    assert bench.store.reap_expired_chunks() == 1
    assert (bench.record(claim.record_id)["lost"], bench.record(claim.record_id)["status"]) == (0, "pending")


def test_a_chunk_ends_only_when_nothing_of_it_is_claimed(bench: Bench) -> None:
    [claim] = bench.claims()
    assert not bench.store.end_chunk(bench.run(), 0, HOLDER, tally={})
    bench.commit(claim)
    assert bench.store.end_chunk(bench.run(), 0, HOLDER, tally={"ended": {"committed": 1}})
    assert bench.rows("select tally from anomaly.chunks") == [{"tally": {"ended": {"committed": 1}}}]


def test_released_records_are_due_at_once_with_no_attempt_counted(bench: Bench) -> None:
    claims = bench.claims(3)
    bench.commit(claims[0])
    bench.store.release_chunks(bench.run(), HOLDER)
    assert bench.statuses() == {"done": 1, "pending": 2}
    assert {record["attempts"] for record in bench.everything()["records"] if record["status"] == "pending"} == {0}
    assert bench.events(claims[1].record_id) == ["released"]
    assert ids(bench.open(bench.claim())) == [claim.record_id for claim in claims[1:]]


def test_a_release_leaves_the_chunks_of_other_tasks_alone(bench: Bench) -> None:
    bench.add(2)
    bench.open(bench.claim(size=1))
    bench.open(bench.claim(size=1), holder=NEIGHBOUR)
    bench.store.release_chunks(bench.run(), HOLDER)
    assert bench.store.unfinished_chunks(bench.batch_id(), NEIGHBOUR) == [1]
    assert bench.statuses() == {"pending": 1, "claimed": 1}


def test_the_end_of_a_run_frees_whatever_its_batch_has_left_and_nothing_else(bench: Bench) -> None:
    bench.add(4)
    bench.open(bench.claim(size=2))
    bench.claim(size=1)
    bench.claim(bench.run("other"))
    assert bench.store.release_batch(bench.batch_id()) == Released(chunks=2, records=3)
    assert bench.store.release_batch(bench.batch_id()) == Released()
    assert bench.statuses() == {"pending": 3, "claimed": 1}


def test_released_re_scorings_are_done_again(bench: Bench) -> None:
    bench.claims(2, origin="done")
    bench.store.release_batch(bench.batch_id())
    assert bench.statuses() == {"done": 2}


ZOMBIES: dict[str, Callable[[Bench], object]] = {
    "renew": lambda bench: bench.store.renew_chunks(bench.batch_id(), [0], HOLDER, lease_s=600),
    "park": lambda bench: bench.store.park_chunks(bench.run(), HOLDER, lease_s=600),
    "end": lambda bench: bench.store.end_chunk(bench.run(), 0, HOLDER, tally={}),
    "release": lambda bench: bench.store.release_chunks(bench.run(), HOLDER),
}


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("action", ZOMBIES)
def test_a_zombie_try_changes_nothing_about_its_successors_chunk(bench: Bench, action: str, left: int) -> None:
    claims = bench.claims(1)
    if not left:
        bench.commit(claims[0])
    bench.open(holder=SECOND_TRY)
    before = bench.everything()
    assert not ZOMBIES[action](bench)
    assert bench.everything() == before


def test_a_zombie_try_cannot_mark_a_record_as_worked_alone(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.open(holder=SECOND_TRY)
    before = bench.everything()
    with pytest.raises(LeaseLost):
        bench.store.mark_alone(claim, HOLDER, alone=True)
    assert bench.everything() == before


def died_by_lease(bench: Bench) -> None:
    """The worker dies, and its lease runs out."""
    bench.expire()
    bench.store.reap_expired_chunks()


def died_by_retry(bench: Bench) -> None:
    """The worker dies, and the next try of its task takes over."""
    bench.open(holder=SECOND_TRY)


def test_expired_chunks_are_reaped_however_many_they_are(bench: Bench) -> None:
    bench.add(45)
    while bench.claim(size=1) is not None:
        pass
    bench.expire()
    assert bench.store.reap_expired_chunks() == 45
    assert bench.statuses() == {"pending": 45}
    assert bench.store.reap_expired_chunks() == 0


def test_a_lease_that_still_runs_is_not_reaped(bench: Bench) -> None:
    bench.claims()
    assert bench.store.reap_expired_chunks() == 0


def test_a_chunk_that_waited_too_long_for_a_worker_blames_nobody(bench: Bench) -> None:
    [record_id] = bench.add(1)
    bench.claim()
    died_by_lease(bench)
    assert (bench.record(record_id)["lost"], bench.record(record_id)["status"]) == (0, "pending")
    assert bench.events(record_id) == ["expired"]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_a_dead_worker_makes_suspects_of_what_it_held_and_of_nothing_that_it_had_ended(bench: Bench, died: Callable[[Bench], None]) -> None:
    claims = bench.claims(3)
    bench.commit(claims[0])
    died(bench)
    assert [bench.record(claim.record_id)["lost"] for claim in claims] == [0, 1, 1]
    assert bench.record(claims[1].record_id)["last_error_code"] == "worker_lost"


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_a_death_counts_for_the_record_that_was_worked_alone_and_for_no_other(bench: Bench, died: Callable[[Bench], None]) -> None:
    claims = bench.claims(2)
    bench.store.mark_alone(claims[1], HOLDER, alone=True)
    died(bench)
    assert [bench.record(claim.record_id)["lost"] for claim in claims] == [0, 1]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
def test_strong_suspects_are_not_blamed_while_they_were_not_worked(bench: Bench, died: Callable[[Bench], None]) -> None:
    bench.add(2)
    bench.do("update anomaly.records set lost = 2 where id = 1")
    bench.open(bench.claim())
    died(bench)
    assert [record["lost"] for record in bench.everything()["records"]] == [2, 1]


@pytest.mark.parametrize("died", [died_by_lease, died_by_retry])
@pytest.mark.parametrize(("origin", "status"), [("pending", "quarantined"), ("done", "done")])
def test_a_record_that_killed_five_workers_is_given_up(bench: Bench, died: Callable[[Bench], None], origin: Origin, status: str) -> None:
    [record_id] = bench.add(1, status=origin)
    bench.do("update anomaly.records set lost = 4")
    [claim] = bench.open(bench.claim(origin=origin))
    bench.store.mark_alone(claim, HOLDER, alone=True)
    died(bench)
    assert (bench.record(record_id)["status"], bench.record(record_id)["lost"]) == (status, 5)
    assert bench.events(record_id) == ["worker_died"]
    assert bench.claim(bench.run("later"), origin="done") is None


def test_a_mark_that_was_cleared_blames_nobody_alone(bench: Bench) -> None:
    claims = bench.claims(2)
    bench.store.mark_alone(claims[1], HOLDER, alone=True)
    bench.store.mark_alone(claims[1], HOLDER, alone=False)
    died_by_lease(bench)
    assert [bench.record(claim.record_id)["lost"] for claim in claims] == [1, 1]


def test_suspects_are_handed_out_last(bench: Bench) -> None:
    added = bench.add(3)
    bench.do("update anomaly.records set lost = 2 where id = %(id)s", id=added[0])
    assert ids(bench.open(bench.claim())) == [added[1], added[2], added[0]]


@pytest.mark.parametrize("ending", ["commit", "defer"])
def test_a_worker_that_lives_to_end_a_record_clears_its_name(bench: Bench, ending: str) -> None:
    [claim] = bench.claims()
    died_by_retry(bench)
    [claim] = bench.open(holder=SECOND_TRY)
    assert claim.lost == 1
    if ending == "commit":
        bench.commit(claim)
    else:
        bench.store.defer(claim, error=DetectorFailed("503"), timings={})
    assert bench.record(claim.record_id)["lost"] == 0


def test_a_try_that_opens_its_own_chunk_again_blames_nobody(bench: Bench) -> None:
    [claim] = bench.claims()
    [again] = bench.open()
    assert (again.lost, again.token) == (0, claim.token + 1)


def test_the_report_counts_what_the_tables_hold_over_all_tries(bench: Bench) -> None:
    claims = bench.claims(6)
    for claim in claims[:2]:
        bench.commit(claim)
    bench.store.defer(claims[2], error=DetectorFailed("503"), timings={"fetch": 9.0})
    bench.store.quarantine(claims[3], error=DetectorFailed("503"), timings={})
    left = bench.open(holder=SECOND_TRY)
    bench.commit(left[0], holder=SECOND_TRY)
    bench.store.release_chunks(bench.run(), SECOND_TRY)
    other = bench.run("other")
    bench.add(1)
    for claim in bench.open(bench.claim(other, size=1), run=other):
        bench.commit(claim)
    report = bench.store.report(bench.batch_id())
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


def test_the_report_of_a_batch_without_records_is_empty(bench: Bench) -> None:
    bench.began()
    report = bench.store.report(bench.batch_id())
    assert (report.statuses, report.events, report.timings, report.tallies, report.anomalies) == ({}, {}, {}, {}, 0)
