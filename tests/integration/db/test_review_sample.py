"""The random sample of verdicts that people review: drawn once at the commit, with its probability."""

from __future__ import annotations

import shutil
import uuid
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly.db import schema
from anomaly.db.record_store import RecordStore
from anomaly.db.reviews import Decision, ReviewStore
from anomaly.settings import Settings
from tests.parts.record_builders import HOLDER, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly.models.records import Claim
    from embedded.postgres import Postgres
    from tests.parts.record_builders import RecordsDb

NORMAL = an_answer(0.1, is_anomaly=False)
SEED = 7


def draw(db: RecordsDb, share: float, *, seed: int = SEED) -> None:
    """Let later commits draw with this probability and this seed."""
    db.store = RecordStore(db.database, Settings(review_share=share), rng=Random(seed))


def flags(db: RecordsDb, record_id: int) -> tuple[Any, ...]:
    [row] = db.rows(
        "select is_anomaly, sampled, sample_share, needs_review, review from anomaly.ai_flags where record_id = %(id)s", id=record_id
    )
    return tuple(row.values())


def again(db: RecordsDb, name: str = "again") -> Claim:
    """Claim the only record to score it again."""
    run = db.run(name)
    [claim] = db.open(db.claim(run, origin="done"), run=run)
    return claim


def end(db: RecordsDb, claim: Claim) -> None:
    db.store.end_chunk(db.run(), claim.chunk, HOLDER, tally={})


def test_a_seed_and_a_share_determine_which_records_are_drawn(db: RecordsDb) -> None:
    draw(db, 0.3)
    expected = Random(SEED)
    for claim in db.claims(30):
        db.commit(claim, NORMAL)
        sampled = expected.random() < 0.3
        assert flags(db, claim.record_id) == (False, sampled, 0.3, sampled, None)
    assert 0 < len(db.rows("select from anomaly.ai_flags where sampled")) < 30


def test_a_share_of_all_records_is_drawn_and_a_flagged_one_needs_a_review_in_any_case(db: RecordsDb) -> None:
    draw(db, 0.5)
    for claim in db.claims(20):
        db.commit(claim)
    found = db.rows("select sampled, needs_review from anomaly.ai_flags")
    assert {row["sampled"] for row in found} == {True, False}
    assert {row["needs_review"] for row in found} == {True}


def test_a_record_is_drawn_once_however_often_it_is_scored_and_whatever_the_share_is_then(db: RecordsDb) -> None:
    draw(db, 1)
    [claim] = db.claims()
    db.commit(claim, NORMAL)
    assert flags(db, claim.record_id) == (False, True, 1.0, True, None)
    end(db, claim)
    draw(db, 0.001)
    for name, answer, is_anomaly in (("second", an_answer(), True), ("third", NORMAL, False)):
        claim = again(db, name)
        db.commit(claim, answer)
        db.store.end_chunk(db.run(name), claim.chunk, HOLDER, tally={})
        assert flags(db, claim.record_id) == (is_anomaly, True, 1.0, True, None)


def test_a_share_of_zero_draws_none_and_leaves_the_draw_to_a_later_scoring(db: RecordsDb) -> None:
    draw(db, 0)
    [claim] = db.claims()
    db.commit(claim, NORMAL)
    assert flags(db, claim.record_id) == (False, False, None, False, None)
    end(db, claim)
    draw(db, 1)
    db.commit(again(db), NORMAL)
    assert flags(db, claim.record_id) == (False, True, 1.0, True, None)


def test_a_record_of_the_sample_needs_a_review_again_when_its_decision_is_taken_back(db: RecordsDb) -> None:
    draw(db, 1)
    [claim] = db.claims()
    db.commit(claim, NORMAL)
    store = ReviewStore(db.database)
    made = Decision(id=uuid.uuid4(), record_id=claim.record_id, token=claim.token, verdict="anomaly")
    store.decide(made, reviewer="ann")
    assert flags(db, claim.record_id) == (False, True, 1.0, False, "anomaly")
    store.decide(Decision(id=uuid.uuid4(), record_id=claim.record_id, token=claim.token, takes_back=made.id), reviewer="ann")
    assert flags(db, claim.record_id) == (False, True, 1.0, True, None)


@pytest.mark.parametrize("verdict", ["normal", None], ids=["decision", "undo"])
def test_a_commit_that_waits_for_a_decision_sees_it(db: RecordsDb, verdict: Any) -> None:
    draw(db, 1)
    [claim] = db.claims()
    db.commit(claim, NORMAL)
    end(db, claim)
    store = ReviewStore(db.database)
    earlier = Decision(id=uuid.uuid4(), record_id=claim.record_id, token=claim.token, verdict="anomaly")
    store.decide(earlier, reviewer="ann")
    claim = again(db)
    later = Decision(
        id=uuid.uuid4(), record_id=claim.record_id, token=claim.token, verdict=verdict, takes_back=None if verdict else earlier.id
    )
    gate = db.gate("reviews", "insert", "new.reviewer = 'bob'")
    with gate.shut():
        decided = db.meanwhile(lambda: store.decide(later, reviewer="bob"))
        db.await_blocked(1)
        committed = db.meanwhile(lambda: db.commit(claim, NORMAL))
        db.await_blocked(2)
    assert decided.result().review == verdict
    committed.result()
    assert flags(db, claim.record_id) == (False, True, 1.0, verdict is None, verdict)


@pytest.fixture
def before(postgres: Postgres) -> Iterator[str]:
    """The DSN of a database with nothing in it."""
    postgres.ensure_database("before_samples")
    yield postgres.dsn("before_samples")
    postgres.drop_database("before_samples")


def test_records_of_before_are_in_no_sample(before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0023":
            shutil.copy(path, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", tmp_path)
        schema.migrate(before)
    with psycopg.connect(before, autocommit=True) as connection:
        connection.execute("""insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, needs_review, score)
                              values (1, true, false, false, 0.1), (2, true, true, true, 0.9)""")
        assert "0023_review_sample" in schema.migrate(before)
        found = connection.execute("select record_id, sampled, sample_share, needs_review from anomaly.ai_flags order by 1").fetchall()
        assert found == [(1, False, None, False), (2, False, None, True)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("update anomaly.ai_flags set sampled = true")
