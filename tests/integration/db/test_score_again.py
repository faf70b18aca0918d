"""Done records that the next run asks the detector about anew."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from anomaly.db.quarantine import QuarantineStore
from anomaly.db.reviews import Decision, ReviewStore
from anomaly.errors import AnomalyError
from tests.parts.record_builders import HOLDER, an_answer

if TYPE_CHECKING:
    from anomaly.models.records import Claim
    from tests.parts.record_builders import RecordsDb


def judged(db: RecordsDb, count: int = 1) -> list[Claim]:
    """Return the claims of records that are done, of a run that has ended."""
    claims = db.claims(count)
    for claim in claims:
        db.commit(claim)
    db.store.end_chunk(db.run(), claims[0].chunk, HOLDER, tally={})
    return list(claims)


def test_a_done_record_is_claimed_by_the_next_run_with_the_id_of_the_request_until_its_verdict(db: RecordsDb) -> None:
    [first] = judged(db)
    assert first.ask_anew is None
    assert QuarantineStore(db.database).score_again([first.record_id], actor="ann") == 1
    record = db.record(first.record_id)
    assert (record["status"], record["attempts"], record["token"]) == ("pending", 0, first.token)
    run = db.run("next")
    [claim] = db.open(db.claim(run), run=run)
    assert claim.ask_anew == record["ask_anew"] is not None
    db.commit(claim, an_answer(0.1, is_anomaly=False))
    assert db.record(first.record_id)["ask_anew"] is None
    assert db.events(first.record_id) == ["committed", "requeued", "committed"]
    assert db.rows("select actor from anomaly.processing_log where event = 'requeued'") == [{"actor": "ann"}]


def test_results_flags_and_the_review_stay_until_the_next_verdict_and_the_review_after_it(db: RecordsDb) -> None:
    [claim] = judged(db)
    decision = Decision(id=uuid.uuid4(), record_id=claim.record_id, token=claim.token, verdict="normal")
    ReviewStore(db.database).decide(decision, reviewer="ann")
    before = db.everything()
    QuarantineStore(db.database).score_again([claim.record_id], actor="ann")
    after = db.everything()
    assert (after["ai_results"], after["ai_flags"]) == (before["ai_results"], before["ai_flags"])
    run = db.run("next")
    [claim] = db.open(db.claim(run), run=run)
    db.commit(claim)
    [flags] = db.everything()["ai_flags"]
    assert (flags["review"], flags["reviewed_by"], flags["needs_review"], flags["token"]) == ("normal", "ann", False, claim.token)


def test_records_that_are_not_done_are_left_alone(db: RecordsDb) -> None:
    [done] = judged(db)
    others = [*db.add(1), *db.add(1, status="quarantined"), 10**9]
    before = {record: db.record(record) for record in others[:2]}
    assert QuarantineStore(db.database).score_again([done.record_id, *others], actor="ann") == 1
    assert {record: db.record(record) for record in others[:2]} == before


def test_a_second_request_changes_nothing(db: RecordsDb) -> None:
    [claim] = judged(db)
    store = QuarantineStore(db.database)
    store.score_again([claim.record_id], actor="ann")
    before = db.everything()
    assert store.score_again([claim.record_id], actor="bob") == 0
    assert db.everything() == before


def test_of_two_requests_at_once_one_makes_the_record_due(db: RecordsDb) -> None:
    claims = judged(db, 2)
    ids = [claim.record_id for claim in claims]
    store = QuarantineStore(db.database)
    gate = db.gate("processing_log", "insert", "new.actor = 'ann'")
    with gate.shut():
        ann = db.meanwhile(lambda: store.score_again(ids, actor="ann"))
        db.await_blocked(1)
        bob = db.meanwhile(lambda: store.score_again(ids[::-1], actor="bob"))
        db.await_blocked(2)
    assert (ann.result(), bob.result()) == (2, 0)
    assert [row["actor"] for row in db.rows("select actor from anomaly.processing_log where event = 'requeued'")] == ["ann", "ann"]


def test_a_record_that_a_run_takes_to_score_it_again_at_the_same_time_stays_with_that_run(db: RecordsDb) -> None:
    [claim] = judged(db)
    run = db.run("again")
    gate = db.gate("chunks", "insert")
    with gate.shut():
        taken = db.meanwhile(lambda: db.claim(run, origin="done"))
        db.await_blocked(1)
        asked = db.meanwhile(lambda: QuarantineStore(db.database).score_again([claim.record_id], actor="ann"))
        db.await_blocked(2)
    assert asked.result() == 0
    [again] = db.open(taken.result(), run=run)
    assert again.ask_anew is None
    db.commit(again)


@pytest.mark.parametrize(("table", "when"), [("records", "update"), ("processing_log", "insert")])
def test_a_request_that_fails_at_any_step_changes_nothing(db: RecordsDb, table: str, when: str) -> None:
    [claim] = judged(db)
    before = db.everything()
    db.do("create function anomaly.refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$")
    db.do(f"create trigger refuse before {when} on anomaly.{table} for each row execute function anomaly.refuse()")
    with pytest.raises(AnomalyError):
        QuarantineStore(db.database).score_again([claim.record_id], actor="ann")
    assert db.everything() == before
