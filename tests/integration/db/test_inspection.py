"""What the commands read: runs, errors, the story of a record, and comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly.db.inspection import Comparison, InspectionStore
from anomaly.errors import DetectorFailed, ImageNotFound
from anomaly.models.runs import Window
from tests.parts.record_builders import HOLDER, an_answer

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb


@pytest.fixture
def overview(db: RecordsDb) -> InspectionStore:
    return InspectionStore(db.database, page=2)


# ── runs


def test_a_run_in_work_has_its_leases_and_an_ended_one_is_left_out(db: RecordsDb, overview: InspectionStore) -> None:
    db.claims(3)
    db.add(2)
    db.claim(size=2)
    over = db.run("over")
    db.began(over)
    db.store.end_batch(over.batch_id)
    (run,) = overview.open_batches()
    assert {name: run[name] for name in ("run_id", "claimed", "held", "waiting", "working", "expired")} == {
        "run_id": "run",
        "claimed": 5,
        "held": 5,
        "waiting": 1,
        "working": 1,
        "expired": 0,
    }
    db.expire()
    (run,) = overview.open_batches()
    assert run["expired"] == 2


def test_the_last_runs_are_the_newest_with_the_outcomes_of_all_their_chunks(db: RecordsDb, overview: InspectionStore) -> None:
    for number, claim in enumerate([*db.claims(2)]):
        db.commit(claim)
        assert number or not db.store.end_chunk(db.run(), 0, HOLDER, tally={})
    assert db.store.end_chunk(db.run(), 0, HOLDER, tally={"ended": {"committed": 2}})
    db.do("update anomaly.chunks set opened_at = ended_at - interval '4 seconds'")
    db.store.end_batch(db.batch_id())
    db.began(db.run("empty"))
    empty, worked = overview.last_runs(2)
    assert (empty["run_id"], empty["ended_at"], empty["outcomes"], empty["records_per_s"]) == ("empty", None, {}, None)
    assert (worked["run_id"], worked["claimed"], worked["outcomes"], worked["records_per_s"]) == ("run", 2, {"committed": 2}, 0.5)
    assert worked["ended_at"]
    assert [run["run_id"] for run in overview.last_runs(1)] == ["empty"]


def test_the_backlog_is_counted_by_source_and_state(db: RecordsDb, overview: InspectionStore) -> None:
    assert overview.backlog() == []
    db.claims(1)
    db.add(2)
    db.do("update anomaly.records set not_before = now() + interval '1 hour' where id = 2")
    db.do("update anomaly.records set source = 'shop.photos', source_key = id::text where id = 3")
    db.add(1, status="quarantined")
    assert overview.backlog() == [
        {"source": None, "due": 0, "later": 1, "claimed": 1, "quarantined": 1},
        {"source": "shop.photos", "due": 1, "later": 0, "claimed": 0, "quarantined": 0},
    ]


# ── errors


def test_errors_are_counted_by_code_with_the_newest_record_as_an_example(db: RecordsDb, overview: InspectionStore) -> None:
    first, second, third, done = db.claims(4)
    db.store.quarantine(first, error=ImageNotFound("404"), timings={})
    db.store.quarantine(second, error=ImageNotFound("410"), timings={})
    db.store.defer(third, error=DetectorFailed("503"), timings={})
    db.commit(done)
    found = overview.errors()
    assert [each.pop("failed_at") is not None for each in found] == [True, False]
    assert found == [
        {"code": "image_not_found", "quarantined": 2, "pending": 0, "record_id": 2, "error": "410", "image_url": "http://images/1"},
        {"code": "detector_failed", "quarantined": 0, "pending": 1, "record_id": 3, "error": "503", "image_url": "http://images/2"},
    ]


def test_without_errors_there_is_no_code(db: RecordsDb, overview: InspectionStore) -> None:
    db.add(1)
    assert overview.errors() == []


# ── story


def test_the_story_of_a_record_has_its_claim_log_verdicts_and_flags(db: RecordsDb, overview: InspectionStore) -> None:
    (claim,) = db.claims(1)
    held = overview.story(claim.record_id)
    assert held
    assert (held["claim"]["run_id"], held["claim"]["chunk"], held["log"], held["results"], held["flags"]) == ("run", 0, [], [], None)
    db.commit(claim)
    story = overview.story(claim.record_id)
    assert story
    assert (story["claim"], story["record"]["status"], story["flags"]["is_anomaly"]) == (None, "done", True)
    assert [(line["event"], line["run_id"]) for line in story["log"]] == [("committed", "run")]
    assert [(verdict["detector"], verdict["answer_key"]) for verdict in story["results"]] == [("padim@1", "answers/ab.json")]


def test_a_record_that_does_not_exist_has_no_story(overview: InspectionStore) -> None:
    assert overview.story(41) is None


# ── comparison


@pytest.fixture
def scored(db: RecordsDb) -> RecordsDb:
    """Five done records: padim@1 calls all anomalous, padim@2 only the even ones, and the last one was scored by padim@1 alone."""
    for claim in db.claims(5):
        db.commit(claim)
    run = db.run("again")
    for number, claim in enumerate(db.open(db.claim(run, origin="done", size=4), run=run)):
        db.commit(claim, an_answer(number / 10, is_anomaly=number % 2 == 0, detector="padim@2"))
    return db


def test_two_detectors_are_compared_on_the_records_that_both_have_scored_over_several_pages(
    scored: RecordsDb, overview: InspectionStore
) -> None:
    assert overview.detectors() == ["padim@1", "padim@2"]
    found = overview.compare("padim@1", "padim@2", Window(), examples=1)
    assert (found.records, found.both_anomalous, found.only_first, found.only_second, found.both_normal) == (4, 2, 2, 0, 0)
    assert found.agreement == 0.5
    assert [(each["record_id"], each["first"], each["second"], each["second_score"]) for each in found.changed] == [(2, True, False, 0.1)]
    by_function = scored.rows("select records, both_anomalous, only_first, agreement from anomaly.compare_detectors('padim@1', 'padim@2')")
    assert by_function == [{"records": 4, "both_anomalous": 2, "only_first": 2, "agreement": 0.5}]


def test_a_comparison_stays_within_its_window(scored: RecordsDb, overview: InspectionStore) -> None:
    found = overview.compare("padim@1", "padim@2", scored.window(1, 3), examples=10)
    assert (found.records, found.both_anomalous, found.only_first) == (2, 1, 1)
    nothing = overview.compare("padim@1", "padim@2", scored.window(7, 9), examples=10)
    assert (nothing, nothing.agreement) == (Comparison(), None)
