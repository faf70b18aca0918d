"""Outcomes of claimed records: committed, deferred, quarantined or released, only by the task that holds them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.errors import DetectorAnswerInvalid, DetectorFailed, ImageNotFound, LeaseLost, ResultRefused, Throttled
from anomaly.models.runs import Holder
from tests.parts.record_builders import ARCHIVED, HOLDER, RecordsDb, an_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from anomaly.models.records import Claim

SECOND_TRY = Holder(map_index=0, try_number=2)
FAILED = DetectorFailed("503")


def pause_s(db: RecordsDb, claim: Claim) -> float:
    """Until the record is due again."""
    left: timedelta = db.rows("select not_before - updated_at as pause from anomaly.records where id = %(id)s", id=claim.record_id)[0][
        "pause"
    ]
    return left.total_seconds()


def test_a_commit_makes_all_four_updates(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.commit(claim)
    after = db.everything()
    [record], [result], [logged], [flags] = after["records"], after["ai_results"], after["processing_log"], after["ai_flags"]
    assert (record["status"], record["attempts"], record["lost"], record["image_sha256"]) == ("done", 1, 0, "ab" * 32)
    assert record["processed_at"] is not None
    assert {name: value for name, value in result.items() if name != "created_at"} == {
        "record_id": claim.record_id,
        "token": claim.token,
        "detector": "padim@1",
        "config": "digest",
        "score": 0.9,
        "threshold": 0.5,
        "is_anomaly": True,
        "label": "crack",
        "reason": "a dark line",
        "regions": [{"x": 0.003333, "y": 0.01, "width": 0.01, "height": 0.02}],
        "regions_unit": "fraction",
        "image_sha256": "ab" * 32,
        "image_width_px": 300,
        "image_height_px": 200,
        "image_media_type": "image/png",
        "image_key": ARCHIVED.image_key,
        "answer_key": ARCHIVED.answer_key,
        "heatmap_key": ARCHIVED.heatmap_key,
        "reused": False,
        "usage": {"images": 1},
        "cost": result["cost"],
        "latency_ms": 12.5,
        "dag_id": "dag",
        "run_id": "run",
        "map_index": 0,
        "try_number": 1,
    }
    assert float(result["cost"]) == 0.25
    assert (logged["event"], logged["attempt"], logged["timings"]) == ("committed", 1, {"fetch": 1.0, "detect": 2.0})
    assert (flags["ai_processed"], flags["is_anomaly"], flags["needs_review"], flags["review"]) == (True, True, True, None)


@pytest.mark.parametrize(
    ("table", "when"), [("records", "update"), ("ai_results", "insert"), ("processing_log", "insert"), ("ai_flags", "insert")]
)
def test_a_commit_that_fails_in_one_of_its_parts_leaves_none_of_them(db: RecordsDb, table: str, when: str) -> None:
    [claim] = db.claims()
    db.do("create function anomaly.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    db.do(f"create trigger fails before {when} on anomaly.{table} for each row execute function anomaly.fails()")
    before = db.everything()
    with pytest.raises(ResultRefused):
        db.commit(claim)
    assert db.everything() == before
    db.do(f"drop trigger fails on anomaly.{table}")
    db.commit(claim)
    assert db.events(claim.record_id) == ["committed"]


def test_a_second_commit_of_the_same_claim_is_recognised_and_changes_nothing(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.commit(claim)
    before = db.everything()
    db.commit(claim, an_answer(0.1, is_anomaly=False))
    assert db.everything() == before


def test_an_answer_that_the_database_cannot_hold_is_the_detectors_fault(db: RecordsDb) -> None:
    [claim] = db.claims()
    answer = an_answer()
    object.__setattr__(answer.verdict, "label", "a\0b")
    before = db.everything()
    with pytest.raises(DetectorAnswerInvalid):
        db.commit(claim, answer)
    assert db.everything() == before


def test_a_review_by_a_person_outlives_a_new_verdict(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.commit(claim, an_answer(is_anomaly=False))
    assert db.everything()["ai_flags"][0]["needs_review"] is False
    db.do("update anomaly.ai_flags set review = 'confirmed', reviewed_by = 'ann', reviewed_at = now()")
    db.store.end_chunk(db.run(), claim.chunk, HOLDER, tally={})
    again = db.run("again")
    [claim] = db.open(db.claim(again, origin="done"), run=again)
    db.commit(claim)
    [flags] = db.everything()["ai_flags"]
    assert (flags["is_anomaly"], flags["needs_review"], flags["review"], flags["reviewed_by"]) == (True, False, "confirmed", "ann")


ENDINGS: dict[str, Callable[[RecordsDb, Claim], object]] = {
    "commit": lambda db, claim: db.commit(claim),
    "defer": lambda db, claim: db.store.defer(claim, error=FAILED, timings={}),
    "quarantine": lambda db, claim: db.store.quarantine(claim, error=ImageNotFound("404"), timings={}),
    "give_back": lambda db, claim: db.store.give_back(claim, error=Throttled("429", retry_after_s=9), not_before_s=9),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stale_token_changes_nothing(db: RecordsDb, ending: str) -> None:
    [stale] = db.claims()
    db.open(stale.chunk, holder=SECOND_TRY)
    before = db.everything()
    with pytest.raises(LeaseLost):
        ENDINGS[ending](db, stale)
    assert db.everything() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_record_that_was_set_free_is_nobodys_to_end(db: RecordsDb, ending: str) -> None:
    [claim] = db.claims()
    db.store.release_chunks(db.run(), HOLDER)
    before = db.everything()
    with pytest.raises(LeaseLost):
        ENDINGS[ending](db, claim)
    assert db.everything() == before


@pytest.mark.parametrize("ending", ["defer", "quarantine", "give_back"])
def test_an_ending_that_is_asked_for_twice_gives_the_same_status_and_happens_once(db: RecordsDb, ending: str) -> None:
    [claim] = db.claims()
    first = ENDINGS[ending](db, claim)
    before = db.everything()
    assert ENDINGS[ending](db, claim) == first
    assert db.everything() == before


def test_a_deferred_record_waits_twice_as_long_each_time_and_is_quarantined_at_the_fifth(db: RecordsDb) -> None:
    [record_id] = db.add(1)
    outcomes = []
    for attempt in range(1, 6):
        db.do("update anomaly.records set not_before = null")
        [claim] = db.open(db.claim())
        status = db.store.defer(claim, error=FAILED, timings={"detect": 3.0})
        outcomes.append((attempt, status, round(pause_s(db, claim), 1)))
        db.store.end_chunk(db.run(), claim.chunk, HOLDER, tally={})
    assert outcomes[:4] == [(1, "pending", 60.0), (2, "pending", 120.0), (3, "pending", 240.0), (4, "pending", 480.0)]
    assert outcomes[4][1] == "quarantined"
    record = db.record(record_id)
    assert (record["status"], record["attempts"], record["last_error_code"], record["last_error"]) == (
        "quarantined",
        5,
        "detector_failed",
        "503",
    )
    assert db.events(record_id) == ["deferred"] * 4 + ["quarantined"]


def test_a_deferred_record_is_not_claimed_before_its_time(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.store.defer(claim, error=FAILED, timings={})
    assert db.claim() is None


def test_a_long_error_is_kept_in_part_with_its_control_characters_escaped(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.store.quarantine(claim, error=ImageNotFound("x\0" * 600), timings={})
    [logged] = db.everything()["processing_log"]
    assert logged["error"] == db.record(claim.record_id)["last_error"] == ("x\\x00" * 600)[:500]


def test_a_quarantined_record_keeps_its_reason_and_is_not_claimed(db: RecordsDb) -> None:
    [claim] = db.claims()
    assert db.store.quarantine(claim, error=ImageNotFound("404"), timings={}) == "quarantined"
    record = db.record(claim.record_id)
    assert (record["attempts"], record["last_error_code"], record["last_error"]) == (1, "image_not_found", "404")
    assert db.claim() is None


def test_a_throttled_record_loses_no_attempt_and_waits_as_long_as_the_detector_asked(db: RecordsDb) -> None:
    [claim] = db.claims()
    assert db.store.give_back(claim, error=Throttled("429", retry_after_s=90), not_before_s=90) == "pending"
    assert db.record(claim.record_id)["attempts"] == 0
    assert round(pause_s(db, claim), 1) == 90.0
    assert db.claim() is None


def test_a_throttled_re_scoring_is_not_claimed_again_before_its_time(db: RecordsDb) -> None:
    [claim] = db.claims(origin="done")
    assert db.store.give_back(claim, error=Throttled("429", retry_after_s=90), not_before_s=90) == "done"
    assert db.claim(origin="done") is None
    db.do("update anomaly.records set not_before = now()")
    assert db.claim(origin="done") is not None


@pytest.mark.parametrize("ending", ["defer", "quarantine"])
def test_a_failed_re_scoring_leaves_the_record_done_and_comes_once_a_run(db: RecordsDb, ending: str) -> None:
    [claim] = db.claims(origin="done")
    assert ENDINGS[ending](db, claim) == "done"
    assert db.events(claim.record_id) == ["rescore_failed"]
    assert db.claim(origin="done") is None
    assert db.claim(db.run("later"), origin="done") is not None


def results(db: RecordsDb) -> list[dict[str, Any]]:
    return db.everything()["ai_results"]


def shut_first(db: RecordsDb) -> int:
    """Disconnect the client from the waiting statement, while its backend continues."""
    db.await_blocked()
    [first] = db.blocked()
    db.now_s += db.settings.db_call_deadline_s + 1
    assert db.store.shut_overdue_calls() == 1
    return first


def test_a_commit_whose_answer_was_lost_is_recognised_afterwards(db: RecordsDb) -> None:
    [claim] = db.claims()
    with db.locked(claim.record_id) as unlock:

        def let_it_end() -> None:
            unlock()
            db.until(lambda: len(results(db)) == 1)

        db.on_wait = let_it_end
        commit = db.meanwhile(lambda: db.commit(claim))
        shut_first(db)
        commit.result(timeout=10)
    assert len(results(db)) == 1
    assert len(db.waits) == 1
    assert db.events(claim.record_id) == ["committed"]


def test_a_commit_whose_answer_was_lost_is_recognised_while_it_is_still_committing(db: RecordsDb) -> None:
    [claim] = db.claims()
    with db.locked(claim.record_id) as unlock:
        commit = db.meanwhile(lambda: db.commit(claim))
        shut_first(db)
        db.await_blocked(2)
        unlock()
        commit.result(timeout=10)
    assert len(results(db)) == 1
    assert db.events(claim.record_id) == ["committed"]


def test_a_commit_that_died_on_its_way_is_made_again(db: RecordsDb) -> None:
    [claim] = db.claims()
    with db.locked(claim.record_id) as unlock:
        db.on_wait = unlock
        commit = db.meanwhile(lambda: db.commit(claim))
        db.await_blocked()
        db.do("select pg_terminate_backend(%(pid)s)", pid=db.blocked()[0])
        commit.result(timeout=10)
    assert len(results(db)) == 1
    assert db.waits == [0.1]


def test_a_commit_that_was_overtaken_while_its_answer_was_lost_is_no_success(db: RecordsDb) -> None:
    [claim] = db.claims()

    def overtaken() -> None:
        db.do("select pg_terminate_backend(%(pid)s)", pid=first)
        unlock()
        db.open(claim.chunk, holder=SECOND_TRY)

    with db.locked(claim.record_id) as unlock:
        commit = db.meanwhile(lambda: db.commit(claim))
        db.on_wait = overtaken
        db.await_blocked()
        [first] = db.blocked()
        db.now_s += db.settings.db_call_deadline_s + 1
        db.store.shut_overdue_calls()
        with pytest.raises(LeaseLost):
            commit.result(timeout=10)
    assert results(db) == []


def test_a_deferral_whose_answer_was_lost_counts_one_attempt(db: RecordsDb) -> None:
    [claim] = db.claims()
    with db.locked(claim.record_id) as unlock:
        deferral = db.meanwhile(lambda: db.store.defer(claim, error=FAILED, timings={}))
        shut_first(db)
        db.await_blocked(2)
        unlock()
        assert deferral.result(timeout=10) == "pending"
    assert db.record(claim.record_id)["attempts"] == 1
    assert db.events(claim.record_id) == ["deferred"]


def test_a_commit_that_waits_too_long_for_a_lock_is_tried_again(db: RecordsDb) -> None:
    [claim] = db.claims()
    with contextlib.closing(db.pool.connect()) as connection:
        connection.dbapi_connection.execute("set lock_timeout to '20ms'")  # type: ignore[union-attr]  # it is psycopg's
    with db.locked(claim.record_id) as unlock:
        db.on_wait = unlock
        db.commit(claim)
    assert db.waits == [0.1]
    assert db.record(claim.record_id)["status"] == "done"
