"""Outcomes of claimed records: committed, deferred, quarantined or released, only by the task that holds them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.errors import DatabaseUnavailable, DetectorAnswerInvalid, DetectorFailed, ImageNotFound, LeaseLost, Throttled
from anomaly.models.runs import Holder
from tests.parts.record_builders import ARCHIVED, HOLDER, Bench, an_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from anomaly.models.records import Claim

SECOND_TRY = Holder(map_index=0, try_number=2)
FAILED = DetectorFailed("503")


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


def pause_s(bench: Bench, claim: Claim) -> float:
    """Until the record is due again."""
    left: timedelta = bench.rows("select not_before - updated_at as pause from anomaly.records where id = %(id)s", id=claim.record_id)[0][
        "pause"
    ]
    return left.total_seconds()


def test_a_commit_makes_all_four_updates(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.commit(claim)
    after = bench.everything()
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
        "regions": [{"x_px": 1, "y_px": 2, "width_px": 3, "height_px": 4}],
        "image_sha256": "ab" * 32,
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
def test_a_commit_that_fails_in_one_of_its_parts_leaves_none_of_them(bench: Bench, table: str, when: str) -> None:
    [claim] = bench.claims()
    bench.do("create function anomaly.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    bench.do(f"create trigger fails before {when} on anomaly.{table} for each row execute function anomaly.fails()")
    before = bench.everything()
    with pytest.raises(DatabaseUnavailable):
        bench.commit(claim)
    assert bench.everything() == before
    bench.do(f"drop trigger fails on anomaly.{table}")
    bench.commit(claim)
    assert bench.events(claim.record_id) == ["committed"]


def test_a_second_commit_of_the_same_claim_is_recognised_and_changes_nothing(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.commit(claim)
    before = bench.everything()
    bench.commit(claim, an_answer(0.1, is_anomaly=False))
    assert bench.everything() == before


def test_an_answer_that_the_database_cannot_hold_is_the_detectors_fault(bench: Bench) -> None:
    [claim] = bench.claims()
    answer = an_answer()
    object.__setattr__(answer.verdict, "label", "a\0b")
    before = bench.everything()
    with pytest.raises(DetectorAnswerInvalid):
        bench.commit(claim, answer)
    assert bench.everything() == before


def test_a_review_by_a_person_outlives_a_new_verdict(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.commit(claim, an_answer(is_anomaly=False))
    assert bench.everything()["ai_flags"][0]["needs_review"] is False
    bench.do("update anomaly.ai_flags set review = 'confirmed', reviewed_by = 'ann', reviewed_at = now()")
    bench.store.end_chunk(bench.run(), claim.chunk, HOLDER, tally={})
    again = bench.run("again")
    [claim] = bench.open(bench.claim(again, origin="done"), run=again)
    bench.commit(claim)
    [flags] = bench.everything()["ai_flags"]
    assert (flags["is_anomaly"], flags["needs_review"], flags["review"], flags["reviewed_by"]) == (True, False, "confirmed", "ann")


ENDINGS: dict[str, Callable[[Bench, Claim], object]] = {
    "commit": lambda bench, claim: bench.commit(claim),
    "defer": lambda bench, claim: bench.store.defer(claim, error=FAILED, timings={}),
    "quarantine": lambda bench, claim: bench.store.quarantine(claim, error=ImageNotFound("404"), timings={}),
    "give_back": lambda bench, claim: bench.store.give_back(claim, error=Throttled("429", retry_after_s=9), not_before_s=9),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stale_token_changes_nothing(bench: Bench, ending: str) -> None:
    [stale] = bench.claims()
    bench.open(stale.chunk, holder=SECOND_TRY)
    before = bench.everything()
    with pytest.raises(LeaseLost):
        ENDINGS[ending](bench, stale)
    assert bench.everything() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_record_that_was_set_free_is_nobodys_to_end(bench: Bench, ending: str) -> None:
    [claim] = bench.claims()
    bench.store.release_chunks(bench.run(), HOLDER)
    before = bench.everything()
    with pytest.raises(LeaseLost):
        ENDINGS[ending](bench, claim)
    assert bench.everything() == before


@pytest.mark.parametrize("ending", ["defer", "quarantine", "give_back"])
def test_an_ending_that_is_asked_for_twice_gives_the_same_status_and_happens_once(bench: Bench, ending: str) -> None:
    [claim] = bench.claims()
    first = ENDINGS[ending](bench, claim)
    before = bench.everything()
    assert ENDINGS[ending](bench, claim) == first
    assert bench.everything() == before


def test_a_deferred_record_waits_twice_as_long_each_time_and_is_quarantined_at_the_fifth(bench: Bench) -> None:
    [record_id] = bench.add(1)
    outcomes = []
    for attempt in range(1, 6):
        bench.do("update anomaly.records set not_before = null")
        [claim] = bench.open(bench.claim())
        status = bench.store.defer(claim, error=FAILED, timings={"detect": 3.0})
        outcomes.append((attempt, status, round(pause_s(bench, claim), 1)))
        bench.store.end_chunk(bench.run(), claim.chunk, HOLDER, tally={})
    assert outcomes[:4] == [(1, "pending", 60.0), (2, "pending", 120.0), (3, "pending", 240.0), (4, "pending", 480.0)]
    assert outcomes[4][1] == "quarantined"
    record = bench.record(record_id)
    assert (record["status"], record["attempts"], record["last_error_code"], record["last_error"]) == (
        "quarantined",
        5,
        "detector_failed",
        "503",
    )
    assert bench.events(record_id) == ["deferred"] * 4 + ["quarantined"]


def test_a_deferred_record_is_not_claimed_before_its_time(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.store.defer(claim, error=FAILED, timings={})
    assert bench.claim() is None


def test_a_long_error_is_kept_in_part(bench: Bench) -> None:
    [claim] = bench.claims()
    bench.store.quarantine(claim, error=ImageNotFound("x\0" * 600), timings={})
    [logged] = bench.everything()["processing_log"]
    assert logged["error"] == bench.record(claim.record_id)["last_error"] == "x" * 500


def test_a_quarantined_record_keeps_its_reason_and_is_not_claimed(bench: Bench) -> None:
    [claim] = bench.claims()
    assert bench.store.quarantine(claim, error=ImageNotFound("404"), timings={}) == "quarantined"
    record = bench.record(claim.record_id)
    assert (record["attempts"], record["last_error_code"], record["last_error"]) == (1, "image_not_found", "404")
    assert bench.claim() is None


def test_a_throttled_record_loses_no_attempt_and_waits_as_long_as_the_detector_asked(bench: Bench) -> None:
    [claim] = bench.claims()
    assert bench.store.give_back(claim, error=Throttled("429", retry_after_s=90), not_before_s=90) == "pending"
    assert bench.record(claim.record_id)["attempts"] == 0
    assert round(pause_s(bench, claim), 1) == 90.0
    assert bench.claim() is None


def test_a_throttled_re_scoring_is_not_claimed_again_before_its_time(bench: Bench) -> None:
    [claim] = bench.claims(origin="done")
    assert bench.store.give_back(claim, error=Throttled("429", retry_after_s=90), not_before_s=90) == "done"
    assert bench.claim(origin="done") is None
    bench.do("update anomaly.records set not_before = now()")
    assert bench.claim(origin="done") is not None


@pytest.mark.parametrize("ending", ["defer", "quarantine"])
def test_a_failed_re_scoring_leaves_the_record_done_and_comes_once_a_run(bench: Bench, ending: str) -> None:
    [claim] = bench.claims(origin="done")
    assert ENDINGS[ending](bench, claim) == "done"
    assert bench.events(claim.record_id) == ["rescore_failed"]
    assert bench.claim(origin="done") is None
    assert bench.claim(bench.run("later"), origin="done") is not None


def results(bench: Bench) -> list[dict[str, Any]]:
    return bench.everything()["ai_results"]


def shut_first(bench: Bench) -> int:
    """Disconnect the client from the waiting statement, while its backend continues."""
    bench.await_blocked()
    [first] = bench.blocked()
    bench.now_s += bench.settings.db_call_deadline_s + 1
    assert bench.store.shut_overdue_calls() == 1
    return first


def test_a_commit_whose_answer_was_lost_is_recognised_afterwards(bench: Bench) -> None:
    [claim] = bench.claims()
    with bench.locked(claim.record_id) as unlock:

        def let_it_end() -> None:
            unlock()
            bench.until(lambda: len(results(bench)) == 1)

        bench.on_wait = let_it_end
        commit = bench.meanwhile(lambda: bench.commit(claim))
        shut_first(bench)
        commit.result(timeout=10)
    assert len(results(bench)) == 1
    assert len(bench.waits) == 1
    assert bench.events(claim.record_id) == ["committed"]


def test_a_commit_whose_answer_was_lost_is_recognised_while_it_is_still_committing(bench: Bench) -> None:
    [claim] = bench.claims()
    with bench.locked(claim.record_id) as unlock:
        commit = bench.meanwhile(lambda: bench.commit(claim))
        shut_first(bench)
        bench.await_blocked(2)
        unlock()
        commit.result(timeout=10)
    assert len(results(bench)) == 1
    assert bench.events(claim.record_id) == ["committed"]


def test_a_commit_that_died_on_its_way_is_made_again(bench: Bench) -> None:
    [claim] = bench.claims()
    with bench.locked(claim.record_id) as unlock:
        bench.on_wait = unlock
        commit = bench.meanwhile(lambda: bench.commit(claim))
        bench.await_blocked()
        bench.do("select pg_terminate_backend(%(pid)s)", pid=bench.blocked()[0])
        commit.result(timeout=10)
    assert len(results(bench)) == 1
    assert bench.waits == [0.1]


def test_a_commit_that_was_overtaken_while_its_answer_was_lost_is_no_success(bench: Bench) -> None:
    [claim] = bench.claims()

    def overtaken() -> None:
        bench.do("select pg_terminate_backend(%(pid)s)", pid=first)
        unlock()
        bench.open(claim.chunk, holder=SECOND_TRY)

    with bench.locked(claim.record_id) as unlock:
        commit = bench.meanwhile(lambda: bench.commit(claim))
        bench.on_wait = overtaken
        bench.await_blocked()
        [first] = bench.blocked()
        bench.now_s += bench.settings.db_call_deadline_s + 1
        bench.store.shut_overdue_calls()
        with pytest.raises(LeaseLost):
            commit.result(timeout=10)
    assert results(bench) == []


def test_a_deferral_whose_answer_was_lost_counts_one_attempt(bench: Bench) -> None:
    [claim] = bench.claims()
    with bench.locked(claim.record_id) as unlock:
        deferral = bench.meanwhile(lambda: bench.store.defer(claim, error=FAILED, timings={}))
        shut_first(bench)
        bench.await_blocked(2)
        unlock()
        assert deferral.result(timeout=10) == "pending"
    assert bench.record(claim.record_id)["attempts"] == 1
    assert bench.events(claim.record_id) == ["deferred"]


def test_a_commit_that_waits_too_long_for_a_lock_is_tried_again(bench: Bench) -> None:
    [claim] = bench.claims()
    with contextlib.closing(bench.pool.connect()) as connection:
        connection.dbapi_connection.execute("set lock_timeout to '20ms'")  # type: ignore[union-attr]  # it is psycopg's
    with bench.locked(claim.record_id) as unlock:
        bench.on_wait = unlock
        bench.commit(claim)
    assert bench.waits == [0.1]
    assert bench.record(claim.record_id)["status"] == "done"
