"""Two at once: every statement that takes records or chunks, stopped inside itself while another one comes."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly.errors import DatabaseUnavailable, DetectorFailed, LeaseLost
from anomaly.models.runs import Holder
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.runs import Origin

SECOND_TRY = Holder(map_index=0, try_number=2)
OPENING = "old.status = 'claimed' and new.status = 'claimed'"
CLAIMING = "old.status <> 'claimed' and new.status = 'claimed'"
COMMITTING = "new.status = 'done'"


@pytest.mark.parametrize("origin", ["pending", "done"])
def test_a_second_claimer_takes_the_next_records_and_waits_for_nobody(db: RecordsDb, origin: Origin) -> None:
    added = db.add(4, status=origin)
    other = db.run("other")
    gate = db.gate("records", "update", f"{CLAIMING} and new.id = {added[0]}")
    with gate.shut():
        first = db.meanwhile(lambda: db.claim(size=2, origin=origin))
        db.await_blocked()
        second = db.open(db.claim(other, size=3, origin=origin), run=other)
    claims = db.open(first.result(timeout=10))
    assert [claim.record_id for claim in claims] == added[:2]
    assert [claim.record_id for claim in second] == added[2:]


def test_many_claimers_at_once_share_no_record_and_leave_none(db: RecordsDb) -> None:
    added = db.add(300)
    start = threading.Barrier(6)

    def drain(run_id: str) -> list[int]:
        run, _ = db.began(db.run(run_id))
        start.wait()
        taken: list[int] = []
        while (number := db.claim(run, size=7)) is not None:
            taken += [claim.record_id for claim in db.open(number, run=run)]
        return taken

    drains = [db.meanwhile(partial(drain, run_id)) for run_id in "abccba"]
    assert sorted(record_id for each in drains for record_id in each.result(timeout=30)) == added


def test_two_drains_of_one_batch_number_their_chunks_apart_and_keep_its_limit(db: RecordsDb) -> None:
    db.add(20)
    run, _ = db.began(db.run(max_records=11))
    start = threading.Barrier(4)

    def claims() -> list[int]:
        start.wait()
        return [number for _ in range(4) if (number := db.claim(run, size=2)) is not None]

    drains = [db.meanwhile(claims) for _ in range(4)]
    assert sorted(number for each in drains for number in each.result(timeout=30)) == [0, 1, 2, 3, 4, 5]
    assert db.statuses() == {"claimed": 11, "pending": 9}


def test_a_chunk_opened_while_a_record_of_it_is_being_committed_comes_without_that_record(db: RecordsDb) -> None:
    first, second = db.claims(2)
    gate = db.gate("ai_flags", "insert")
    with gate.shut():
        commit = db.meanwhile(lambda: db.commit(first))
        db.await_blocked()
        opening = db.meanwhile(lambda: db.open(holder=SECOND_TRY))
        db.await_blocked(2)
    commit.result(timeout=10)
    assert [claim.record_id for claim in opening.result(timeout=10)] == [second.record_id]


def test_a_commit_while_the_chunk_is_being_opened_by_the_next_try_is_refused(db: RecordsDb) -> None:
    [claim] = db.claims()
    gate = db.gate("records", "update", OPENING)
    with gate.shut():
        opening = db.meanwhile(lambda: db.open(holder=SECOND_TRY))
        db.await_blocked()
        commit = db.meanwhile(lambda: db.commit(claim))
        db.await_blocked(2)
    [again] = opening.result(timeout=10)
    with pytest.raises(LeaseLost):
        commit.result(timeout=10)
    assert db.everything()["ai_results"] == []
    db.commit(again, holder=SECOND_TRY)


@pytest.mark.parametrize("rival", ["open", "commit", "renew", "end", "release", "release_batch"])
def test_a_reap_and_whoever_comes_meanwhile_end_with_one_winner(db: RecordsDb, rival: str) -> None:
    rivals: dict[str, Callable[[], object]] = {
        "open": lambda: db.open(holder=SECOND_TRY),
        "commit": lambda: db.commit(claim),
        "renew": lambda: db.store.renew_chunks(db.batch_id(), [0], HOLDER, lease_s=60),
        "end": lambda: db.store.end_chunk(db.run(), 0, HOLDER, tally={}),
        "release": lambda: db.store.release_chunks(db.run(), HOLDER),
        "release_batch": lambda: db.store.release_batch(db.batch_id()).chunks,
    }
    [claim] = db.claims()
    db.expire()
    gate = db.gate("records", "update", "new.status = 'pending'")
    with gate.shut():
        reap = db.meanwhile(db.store.reap_expired_chunks)
        db.await_blocked()
        other = db.meanwhile(rivals[rival])
        if rival == "end":
            assert other.result(timeout=10) is False
        else:
            db.await_blocked(2)
    assert reap.result(timeout=10) == 1
    if rival in {"open", "commit"}:
        with pytest.raises(LeaseLost):
            other.result(timeout=10)
    else:
        assert not other.result(timeout=10)
    assert db.statuses() == {"pending": 1}
    assert db.events(claim.record_id) == ["expired"]
    assert db.everything()["ai_results"] == []


def test_two_reaps_at_once_free_each_record_once(db: RecordsDb) -> None:
    db.add(2)
    db.open(db.claim(size=1))
    db.open(db.claim(size=1))
    db.expire()
    gate = db.gate("records", "update", "new.status = 'pending' and new.id = 1")
    with gate.shut():
        reaps = [db.meanwhile(db.store.reap_expired_chunks)]
        db.await_blocked()
        assert db.store.reap_expired_chunks() == 0
    assert reaps[0].result(timeout=10) == 2
    assert [db.events(record_id) for record_id in (1, 2)] == [["expired"], ["expired"]]


def test_a_claim_while_its_batch_ends_finds_nothing(db: RecordsDb) -> None:
    db.add(1)
    run, began_at = db.began()
    gate = db.gate("batches", "update", "new.began_at is null")
    with gate.shut():
        end = db.meanwhile(lambda: db.store.end_batch(run.batch_id))
        db.await_blocked()
        claim = db.meanwhile(lambda: db.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60))
        db.await_blocked(2)
    end.result(timeout=10)
    assert claim.result(timeout=10) is None
    assert db.statuses() == {"pending": 1}


def test_the_end_of_a_batch_waits_for_a_claim_and_then_frees_it(db: RecordsDb) -> None:
    db.add(1)
    run, began_at = db.began()
    gate = db.gate("records", "update", CLAIMING)
    with gate.shut():
        claim = db.meanwhile(lambda: db.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60))
        db.await_blocked()
        end = db.meanwhile(lambda: db.store.end_batch(run.batch_id))
        db.await_blocked(2)
    assert claim.result(timeout=10) == 0
    end.result(timeout=10)
    assert db.store.release_batch(run.batch_id).records == 1
    assert db.statuses() == {"pending": 1}


@pytest.mark.parametrize("rival", ["defer", "release"])
def test_a_commit_and_whoever_comes_meanwhile_end_with_one_winner(db: RecordsDb, rival: str) -> None:
    rivals: dict[str, Callable[[], object]] = {
        "defer": lambda: db.store.defer(claim, error=DetectorFailed("503"), timings={}),
        "release": lambda: db.store.release_chunks(db.run(), HOLDER),
    }
    [claim] = db.claims()
    gate = db.gate("records", "update", COMMITTING)
    with gate.shut():
        commit = db.meanwhile(lambda: db.commit(claim))
        db.await_blocked()
        other = db.meanwhile(rivals[rival])
        db.await_blocked(2)
    commit.result(timeout=10)
    if rival == "defer":
        with pytest.raises(LeaseLost):
            other.result(timeout=10)
    assert db.record(claim.record_id)["status"] == "done"
    assert db.events(claim.record_id) == ["committed"]


def test_a_requeue_and_another_one_at_once_requeue_each_record_once(db: RecordsDb) -> None:
    db.add(2, status="quarantined")
    run, began_at = db.began()
    other, also_began_at = db.began(db.run("other"))
    gate = db.gate("records", "update", "new.status = 'pending' and new.id = 1")
    with gate.shut():
        first = db.meanwhile(lambda: db.store.requeue(run, began_at=began_at, actor="ann"))
        db.await_blocked()
        assert db.store.requeue(other, began_at=also_began_at, actor="bob") == 0
    assert first.result(timeout=10) == 2


def test_a_commit_that_lost_a_deadlock_is_made_again(db: RecordsDb) -> None:
    first, second = db.claims(2)
    lock = "select from anomaly.records where id = %s for update"
    db.do(
        f"""create function anomaly.crosses() returns trigger language plpgsql as
            $$ begin perform from anomaly.records where id = {second.record_id} for update; return new; end $$"""
    )
    db.do("create trigger crosses before insert on anomaly.ai_results for each row execute function anomaly.crosses()")
    with psycopg.connect(db.dsn) as other:
        other.execute("set deadlock_timeout to '1min'")  # so that the server picks the commit
        other.execute(lock, [second.record_id])
        commit = db.meanwhile(lambda: db.commit(first))
        db.await_blocked()
        crossing = db.meanwhile(lambda: other.execute(lock, [first.record_id]))

        def let_go() -> None:
            crossing.result(timeout=10)
            other.rollback()

        db.on_wait = let_go
        commit.result(timeout=20)
    assert db.waits == [0.1]
    assert db.events(first.record_id) == ["committed"]


def test_a_claim_whose_connection_died_is_not_repeated_and_can_be_found(db: RecordsDb) -> None:
    db.add(4)
    db.began()
    gate = db.gate("records", "update", CLAIMING)
    with gate.shut():
        claim = db.meanwhile(lambda: db.claim(size=2, holder=HOLDER))
        db.await_blocked()
        db.now_s += db.settings.db_call_deadline_s + 1
        assert db.store.shut_overdue_calls() == 1
        with pytest.raises(DatabaseUnavailable):
            claim.result(timeout=10)
    db.until(lambda: db.statuses() == {"claimed": 2, "pending": 2})
    assert db.store.unfinished_chunks(db.batch_id(), HOLDER) == [0]
    assert db.waits == []
