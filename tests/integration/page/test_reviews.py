"""Decisions of people: each once, the later one counts, and flags that always follow."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.reviews import Decision, ReviewStore
from anomaly.errors import AnomalyError
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site
    from tests.parts.record_builders import RecordsDb


def judged(db: RecordsDb, count: int = 1, *, is_anomaly: bool = True) -> list[tuple[int, int]]:
    """Add judged records; return their ids and tokens."""
    claims = db.claims(count)
    for claim in claims:
        db.commit(claim, an_answer(is_anomaly=is_anomaly))
    return [(claim.record_id, claim.token) for claim in claims]


def flags(db: RecordsDb, record_id: int) -> tuple[Any, ...]:
    [row] = db.rows("select review, reviewed_by, needs_review from anomaly.ai_flags where record_id = %(id)s", id=record_id)
    return tuple(row.values())


def send(site: Site, *decisions: dict[str, Any], status: int = 200) -> Any:
    answer = site.client.post("/decisions", json={"decisions": list(decisions)}, headers={"Origin": site.origin})
    assert answer.status_code == status, answer.text
    return answer.json()["decisions"] if status == HTTPStatus.OK else None


def a_decision(record: tuple[int, int], verdict: str | None = "anomaly", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "record_id": record[0], "token": record[1], "verdict": verdict} | more


def test_a_decision_is_written_once_however_often_it_is_sent(site: Site) -> None:
    [record] = judged(site.db)
    decision = a_decision(record, "normal", label="dust", comment="on the lens")
    for _ in range(3):
        [state] = send(site, decision, decision)[:1]
        assert (state["written"], state["review"], state["decisions"]) == (True, "normal", 1)
    assert len(site.db.rows("select id from anomaly.reviews")) == 1
    assert flags(site.db, record[0])[0::2] == ("normal", False)
    assert site.db.events(record[0]) == ["committed", "reviewed"]


def test_a_later_decision_counts_and_taking_it_back_leaves_the_earlier_one(site: Site) -> None:
    [record] = judged(site.db)
    first, second = a_decision(record, "anomaly"), a_decision(record, "unsure")
    send(site, first, second)
    assert flags(site.db, record[0])[0::2] == ("unsure", False)
    send(site, a_decision(record, None, takes_back=second["id"]))
    assert flags(site.db, record[0])[0::2] == ("anomaly", False)
    send(site, a_decision(record, None, takes_back=first["id"]))
    assert flags(site.db, record[0]) == (None, None, True)
    assert site.db.events(record[0]) == ["committed", "reviewed", "reviewed", "review_undone", "review_undone"]
    assert "took back a decision" in site.get(f"/records/{record[0]}").text


def test_a_decision_about_a_normal_record_that_is_taken_back_asks_for_no_review(site: Site) -> None:
    [record] = judged(site.db, is_anomaly=False)
    decision = a_decision(record)
    send(site, decision, a_decision(record, None, takes_back=decision["id"]))
    assert flags(site.db, record[0]) == (None, None, False)


def test_many_decisions_are_sent_together_and_those_that_cannot_be_written_are_named(site: Site) -> None:
    records = judged(site.db, 5)
    stranger = judged(site.db)[0]
    other = a_decision(stranger)
    send(site, other)
    states = send(
        site, *[a_decision(record) for record in records], a_decision((10**6, 1)), a_decision(records[0], None, takes_back=other["id"])
    )
    assert [state["written"] for state in states] == [True] * 5 + [False, False]
    assert len(site.db.rows("select id from anomaly.reviews")) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "good"},
        {"verdict": None},
        {"takes_back": str(uuid.uuid4())},
        {"id": "1"},
        {"token": -1},
        {"record_id": 2**63},
        {"comment": "a\x00b"},
        {"label": "x" * 3000},
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_and_changes_nothing(site: Site, change: dict[str, Any]) -> None:
    [record] = judged(site.db)
    before = site.db.everything()
    send(site, a_decision(record) | change, status=400)
    assert site.db.everything() == before


def test_the_queue_has_what_waits_for_a_review_in_pages(site: Site) -> None:
    records = judged(site.db, 45)
    judged(site.db, 3, is_anomaly=False)
    first = site.get("/review/queue").json()
    second = site.get(f"/review/queue?{first['following']}").json()
    assert (first["left"], second["following"]) == (45, None)
    assert {item["record_id"] for item in first["records"] + second["records"]} == {record for record, _ in records}
    send(site, a_decision(records[0]))
    assert site.get("/review/queue").json()["left"] == 44


def test_two_reviewers_at_once_are_both_kept_and_the_later_one_counts(site: Site) -> None:
    db = site.db
    [record] = judged(db)
    store = ReviewStore(db.database)
    first = Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict="anomaly")
    second = Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict="normal")
    gate = db.gate("reviews", "insert", "new.reviewer = 'ann'")
    with gate.shut():
        ann = db.meanwhile(lambda: store.decide(first, reviewer="ann"))
        db.await_blocked(1)
        bob = db.meanwhile(lambda: store.decide(second, reviewer="bob"))
        db.await_blocked(2)
    assert [found.review for found in (ann.result(), bob.result()) if found] == ["anomaly", "normal"]
    assert flags(db, record[0]) == ("normal", "bob", False)
    assert [row["reviewer"] for row in db.rows("select reviewer from anomaly.reviews order by number")] == ["ann", "bob"]


def test_an_undo_that_waited_for_another_reviewer_leaves_the_decision_of_that_one(site: Site) -> None:
    db = site.db
    [record] = judged(db)
    store = ReviewStore(db.database)
    mine = Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict="anomaly")
    store.decide(mine, reviewer="ann")
    theirs = Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict="normal")
    back = Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], takes_back=mine.id)
    gate = db.gate("reviews", "insert", "new.reviewer = 'bob'")
    with gate.shut():
        bob = db.meanwhile(lambda: store.decide(theirs, reviewer="bob"))
        db.await_blocked(1)
        undone = db.meanwhile(lambda: store.decide(back, reviewer="ann"))
        db.await_blocked(2)
    assert bob.result()
    assert undone.result()
    assert flags(db, record[0]) == ("normal", "bob", False)


@pytest.mark.parametrize(("table", "when"), [("reviews", "insert"), ("ai_flags", "update"), ("processing_log", "insert")])
def test_a_decision_that_fails_at_any_step_changes_nothing(site: Site, table: str, when: str) -> None:
    db = site.db
    [record] = judged(db)
    before = db.everything()
    db.do("create function anomaly.refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$")
    db.do(f"create trigger refuse after {when} on anomaly.{table} execute function anomaly.refuse()")
    with pytest.raises(AnomalyError):
        ReviewStore(db.database).decide(Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict="normal"), reviewer="ann")
    assert db.everything() == before
    assert db.rows("select id from anomaly.reviews") == []


def test_a_review_stays_when_the_record_is_scored_again(site: Site) -> None:
    db = site.db
    [record] = judged(db)
    send(site, a_decision(record, "normal"))
    run = db.run("again")
    [again] = db.open(db.claim(run, origin="done"), run=run)
    db.commit(again, an_answer(0.99))
    assert flags(db, record[0])[0::2] == ("normal", False)
    [row] = db.rows(
        "select score, token, image_at = (select captured_at from anomaly.records where id = record_id) as same from anomaly.ai_flags"
    )
    assert tuple(row.values()) == (0.99, again.token, True)
