"""Two at once: every statement that takes records or chunks, stopped inside itself while another one comes."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly.errors import DatabaseUnavailable, DetectorFailed, LeaseLost
from anomaly.models.runs import Holder
from tests.parts.record_builders import HOLDER, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anomaly.models.runs import Origin

SECOND_TRY = Holder(map_index=0, try_number=2)
OPENING = "old.status = 'claimed' and new.status = 'claimed'"
CLAIMING = "old.status <> 'claimed' and new.status = 'claimed'"
COMMITTING = "new.status = 'done'"


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


@pytest.mark.parametrize("origin", ["pending", "done"])
def test_a_second_claimer_takes_the_next_records_and_waits_for_nobody(bench: Bench, origin: Origin) -> None:
    added = bench.add(4, status=origin)
    other = bench.run("other")
    bench.gate("records", "update", f"{CLAIMING} and new.id = {added[0]}")
    with bench.shut():
        first = bench.meanwhile(lambda: bench.claim(size=2, origin=origin))
        bench.await_blocked()
        second = bench.open(bench.claim(other, size=3, origin=origin), run=other)
    claims = bench.open(first.result(timeout=10))
    assert [claim.record_id for claim in claims] == added[:2]
    assert [claim.record_id for claim in second] == added[2:]


def test_many_claimers_at_once_share_no_record_and_leave_none(bench: Bench) -> None:
    added = bench.add(300)
    start = threading.Barrier(6)

    def drain(run_id: str) -> list[int]:
        run, _ = bench.began(bench.run(run_id))
        start.wait()
        taken: list[int] = []
        while (number := bench.claim(run, size=7)) is not None:
            taken += [claim.record_id for claim in bench.open(number, run=run)]
        return taken

    drains = [bench.meanwhile(partial(drain, run_id)) for run_id in "abccba"]
    assert sorted(record_id for each in drains for record_id in each.result(timeout=30)) == added


def test_two_drains_of_one_batch_number_their_chunks_apart_and_keep_its_limit(bench: Bench) -> None:
    bench.add(20)
    run, _ = bench.began(bench.run(max_records=11))
    start = threading.Barrier(4)

    def claims() -> list[int]:
        start.wait()
        return [number for _ in range(4) if (number := bench.claim(run, size=2)) is not None]

    drains = [bench.meanwhile(claims) for _ in range(4)]
    assert sorted(number for each in drains for number in each.result(timeout=30)) == [0, 1, 2, 3, 4, 5]
    assert bench.statuses() == {"claimed": 11, "pending": 9}


def test_a_chunk_opened_while_a_record_of_it_is_being_committed_comes_without_that_record(bench: Bench) -> None:
    first, second = bench.claims(2)
    bench.gate("ai_flags", "insert")
    with bench.shut():
        commit = bench.meanwhile(lambda: bench.commit(first))
        bench.await_blocked()
        opening = bench.meanwhile(lambda: bench.open(holder=SECOND_TRY))
        bench.await_blocked(2)
    commit.result(timeout=10)
    assert [claim.record_id for claim in opening.result(timeout=10)] == [second.record_id]


def test_a_commit_while_the_chunk_is_being_opened_by_the_next_try_is_refused(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.gate("records", "update", OPENING)
    with bench.shut():
        opening = bench.meanwhile(lambda: bench.open(holder=SECOND_TRY))
        bench.await_blocked()
        commit = bench.meanwhile(lambda: bench.commit(claim))
        bench.await_blocked(2)
    [again] = opening.result(timeout=10)
    with pytest.raises(LeaseLost):
        commit.result(timeout=10)
    assert bench.everything()["ai_results"] == []
    bench.commit(again, holder=SECOND_TRY)


@pytest.mark.parametrize("rival", ["open", "commit", "renew", "end", "release", "release_batch"])
def test_a_reap_and_whoever_comes_meanwhile_end_with_one_winner(bench: Bench, rival: str) -> None:
    rivals: dict[str, Callable[[], object]] = {
        "open": lambda: bench.open(holder=SECOND_TRY),
        "commit": lambda: bench.commit(claim),
        "renew": lambda: bench.store.renew_chunks(bench.batch_id(), [0], HOLDER, lease_s=60),
        "end": lambda: bench.store.end_chunk(bench.run(), 0, HOLDER, tally={}),
        "release": lambda: bench.store.release_chunks(bench.run(), HOLDER),
        "release_batch": lambda: bench.store.release_batch(bench.batch_id()).chunks,
    }
    [claim] = bench.claims()
    bench.expire()
    bench.gate("records", "update", "new.status = 'pending'")
    with bench.shut():
        reap = bench.meanwhile(bench.store.reap_expired_chunks)
        bench.await_blocked()
        other = bench.meanwhile(rivals[rival])
        if rival == "end":
            assert other.result(timeout=10) is False
        else:
            bench.await_blocked(2)
    assert reap.result(timeout=10) == 1
    if rival in {"open", "commit"}:
        with pytest.raises(LeaseLost):
            other.result(timeout=10)
    else:
        assert not other.result(timeout=10)
    assert bench.statuses() == {"pending": 1}
    assert bench.events(claim.record_id) == ["expired"]
    assert bench.everything()["ai_results"] == []


def test_two_reaps_at_once_free_each_record_once(bench: Bench) -> None:
    bench.add(2)
    bench.open(bench.claim(size=1))
    bench.open(bench.claim(size=1))
    bench.expire()
    bench.gate("records", "update", "new.status = 'pending' and new.id = 1")
    with bench.shut():
        reaps = [bench.meanwhile(bench.store.reap_expired_chunks)]
        bench.await_blocked()
        assert bench.store.reap_expired_chunks() == 0
    assert reaps[0].result(timeout=10) == 2
    assert [bench.events(record_id) for record_id in (1, 2)] == [["expired"], ["expired"]]


def test_a_claim_while_its_batch_ends_finds_nothing(bench: Bench) -> None:
    bench.add(1)
    run, began_at = bench.began()
    bench.gate("batches", "update", "new.began_at is null")
    with bench.shut():
        end = bench.meanwhile(lambda: bench.store.end_batch(run.batch_id))
        bench.await_blocked()
        claim = bench.meanwhile(
            lambda: bench.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60)
        )
        bench.await_blocked(2)
    end.result(timeout=10)
    assert claim.result(timeout=10) is None
    assert bench.statuses() == {"pending": 1}


def test_the_end_of_a_batch_waits_for_a_claim_and_then_frees_it(bench: Bench) -> None:
    bench.add(1)
    run, began_at = bench.began()
    bench.gate("records", "update", CLAIMING)
    with bench.shut():
        claim = bench.meanwhile(
            lambda: bench.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60)
        )
        bench.await_blocked()
        end = bench.meanwhile(lambda: bench.store.end_batch(run.batch_id))
        bench.await_blocked(2)
    assert claim.result(timeout=10) == 0
    end.result(timeout=10)
    assert bench.store.release_batch(run.batch_id).records == 1
    assert bench.statuses() == {"pending": 1}


@pytest.mark.parametrize("rival", ["defer", "release"])
def test_a_commit_and_whoever_comes_meanwhile_end_with_one_winner(bench: Bench, rival: str) -> None:
    rivals: dict[str, Callable[[], object]] = {
        "defer": lambda: bench.store.defer(claim, error=DetectorFailed("503"), timings={}),
        "release": lambda: bench.store.release_chunks(bench.run(), HOLDER),
    }
    [claim] = bench.claims()
    bench.gate("records", "update", COMMITTING)
    with bench.shut():
        commit = bench.meanwhile(lambda: bench.commit(claim))
        bench.await_blocked()
        other = bench.meanwhile(rivals[rival])
        bench.await_blocked(2)
    commit.result(timeout=10)
    if rival == "defer":
        with pytest.raises(LeaseLost):
            other.result(timeout=10)
    assert bench.record(claim.record_id)["status"] == "done"
    assert bench.events(claim.record_id) == ["committed"]


def test_a_requeue_and_another_one_at_once_requeue_each_record_once(bench: Bench) -> None:
    bench.add(2, status="quarantined")
    run, began_at = bench.began()
    other, also_began_at = bench.began(bench.run("other"))
    bench.gate("records", "update", "new.status = 'pending' and new.id = 1")
    with bench.shut():
        first = bench.meanwhile(lambda: bench.store.requeue(run, began_at=began_at, actor="ann"))
        bench.await_blocked()
        assert bench.store.requeue(other, began_at=also_began_at, actor="bob") == 0
    assert first.result(timeout=10) == 2


def test_a_commit_that_lost_a_deadlock_is_made_again(bench: Bench) -> None:
    first, second = bench.claims(2)
    lock = "select from anomaly.records where id = %s for update"
    bench.do(
        f"""create function anomaly.crosses() returns trigger language plpgsql as
            $$ begin perform from anomaly.records where id = {second.record_id} for update; return new; end $$"""
    )
    bench.do("create trigger crosses before insert on anomaly.ai_results for each row execute function anomaly.crosses()")
    with psycopg.connect(bench.dsn) as other:
        other.execute("set deadlock_timeout to '1min'")  # so that the server picks the commit
        other.execute(lock, [second.record_id])
        commit = bench.meanwhile(lambda: bench.commit(first))
        bench.await_blocked()
        crossing = bench.meanwhile(lambda: other.execute(lock, [first.record_id]))

        def let_go() -> None:
            crossing.result(timeout=10)
            other.rollback()

        bench.on_wait = let_go
        commit.result(timeout=20)
    assert bench.waits == [0.1]
    assert bench.events(first.record_id) == ["committed"]


def test_a_claim_whose_connection_died_is_not_repeated_and_can_be_found(bench: Bench) -> None:
    bench.add(4)
    bench.began()
    bench.gate("records", "update", CLAIMING)
    with bench.shut():
        claim = bench.meanwhile(lambda: bench.claim(size=2, holder=HOLDER))
        bench.await_blocked()
        bench.now_s += bench.settings.db_call_deadline_s + 1
        assert bench.store.shut_overdue_calls() == 1
        with pytest.raises(DatabaseUnavailable):
            claim.result(timeout=10)
    bench.until(lambda: bench.statuses() == {"claimed": 2, "pending": 2})
    assert bench.store.unfinished_chunks(bench.batch_id(), HOLDER) == [0]
    assert bench.waits == []
