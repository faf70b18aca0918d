"""Stored thresholds: later commits use the newest one, and the flags of earlier verdicts follow without the detector."""

from __future__ import annotations

import shutil
import threading
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly.db import schema
from anomaly.db.record_store import RecordStore
from anomaly.db.reviews import Decision, ReviewStore
from anomaly.db.source_store import with_write_back
from anomaly.db.thresholds import Followed, ThresholdStore
from anomaly.errors import DatabaseUnavailable
from tests.parts.record_builders import HOLDER, RecordsDb, an_answer
from tests.parts.source_table import a_source, create_photos, find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly.models.records import Claim
    from embedded.postgres import Postgres

FLAGS = "select is_anomaly, threshold, needs_review from anomaly.ai_flags order by record_id"
DIFFERENT = """select count(*) as n from anomaly.ai_flags as f
                where f.threshold is distinct from (
                      select t.threshold from anomaly.thresholds as t where t.detector = f.detector order by t.number desc limit 1)"""


def judged(db: RecordsDb, *scores: float, detector: str = "padim@1") -> list[Claim]:
    claims = db.claims(len(scores))
    for claim, score in zip(claims, scores, strict=True):
        db.commit(claim, an_answer(score, is_anomaly=score >= 0.5, detector=detector))
    return list(claims)


def store_threshold(db: RecordsDb, threshold: float, *, detector: str = "padim@1", actor: str = "ann") -> ThresholdStore:
    store = ThresholdStore(db.database, batch=2)
    assert store.add(uuid.uuid4(), detector=detector, threshold=threshold, reason="too many", actor=actor)
    return store


def flags(db: RecordsDb) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in db.rows(FLAGS)]


def test_a_commit_uses_the_newest_threshold_of_its_detector_and_the_result_keeps_it(db: RecordsDb) -> None:
    store_threshold(db, 0.9)
    store_threshold(db, 0.7)
    store_threshold(db, 0.2, detector="padim@2")
    judged(db, 0.6, 0.7, 0.8)
    judged(db, 0.3, detector="other@1")
    assert flags(db) == [(False, 0.7, False), (True, 0.7, True), (True, 0.7, True), (False, 0.5, False)]
    results = db.rows("select is_anomaly, threshold from anomaly.ai_results order by record_id")
    assert [tuple(row.values()) for row in results] == [(False, 0.7), (True, 0.7), (True, 0.7), (False, 0.5)]


def test_a_threshold_is_stored_once_however_often_it_is_sent(db: RecordsDb) -> None:
    store, given = ThresholdStore(db.database), uuid.uuid4()
    added = [store.add(given, detector="padim@1", threshold=value, reason="", actor="ann") for value in (0.7, 0.7, 0.9)]
    assert added == [True, False, False]
    assert [each.threshold for each in store.stored("padim@1", size=10)] == [0.7]


def test_thresholds_of_two_people_are_both_kept_and_the_later_one_counts(db: RecordsDb) -> None:
    judged(db, 0.6)
    gate = db.gate("thresholds", "insert", "new.set_by = 'ann'")
    with gate.shut():
        first = db.meanwhile(lambda: store_threshold(db, 0.9, actor="ann"))
        db.await_blocked(1)
        second = db.meanwhile(lambda: store_threshold(db, 0.3, actor="bob"))
        db.await_blocked(2)
    first.result(timeout=10)
    store = second.result(timeout=10)
    assert [(each.threshold, each.set_by) for each in store.stored("padim@1", size=10)] == [(0.3, "bob"), (0.9, "ann")]
    store.follow()
    assert flags(db) == [(True, 0.3, True)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_threshold_that_is_no_number_is_never_stored(db: RecordsDb, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.do("select anomaly.add_threshold(gen_random_uuid(), 'padim@1', %(value)s::double precision, '', 'ann')", value=value)


def test_flags_follow_in_batches_with_a_line_in_the_log_of_each_record_whose_verdict_changes(db: RecordsDb) -> None:
    claims = judged(db, 0.1, 0.4, 0.6, 0.8, 0.9)
    others = judged(db, 0.6, detector="other@1")
    before = db.rows("select * from anomaly.ai_results order by record_id")
    store = store_threshold(db, 0.7)
    assert store.left() == store.left("padim@1") == 5
    assert store.left("other@1") == 0
    assert store.follow() == Followed(followed=5, changed=1)
    assert flags(db)[:5] == [(False, 0.7, False)] * 3 + [(True, 0.7, True)] * 2
    assert flags(db)[5] == (True, 0.5, True)
    assert [db.events(claim.record_id) for claim in claims] == [
        ["committed", "threshold_changed"] if n == 2 else ["committed"] for n in range(5)
    ]
    [logged] = db.rows("select record_id, token, actor from anomaly.processing_log where event = 'threshold_changed'")
    assert tuple(logged.values()) == (claims[2].record_id, claims[2].token, "ann")
    assert db.rows("select * from anomaly.ai_results order by record_id") == before
    assert db.events(others[0].record_id) == ["committed"]
    assert (store.left(), store.follow()) == (0, Followed())


def test_a_record_without_a_threshold_follows_too(db: RecordsDb) -> None:
    judged(db, 0.6)
    db.do("update anomaly.ai_flags set threshold = null")
    assert store_threshold(db, 0.5).follow() == Followed(followed=1)
    assert flags(db) == [(True, 0.5, True)]


def test_a_decision_of_a_person_stays_and_a_record_of_the_sample_stays_in_the_queue(db: RecordsDb) -> None:
    reviewed, drawn, plain = judged(db, 0.6, 0.6, 0.3)
    ReviewStore(db.database).decide(
        Decision(id=uuid.uuid4(), record_id=reviewed.record_id, token=reviewed.token, verdict="anomaly"), reviewer="bob"
    )
    db.do("update anomaly.ai_flags set sampled = true, sample_share = 0.5 where record_id = %(id)s", id=drawn.record_id)
    store_threshold(db, 0.7).follow()
    assert flags(db) == [(False, 0.7, False), (False, 0.7, True), (False, 0.7, False)]
    store_threshold(db, 0.2).follow()
    assert flags(db) == [(True, 0.2, False), (True, 0.2, True), (True, 0.2, True)]
    [row] = db.rows("select review, reviewed_by from anomaly.ai_flags where record_id = %(id)s", id=reviewed.record_id)
    assert tuple(row.values()) == ("anomaly", "bob")
    assert plain


def test_a_stop_between_batches_loses_nothing(db: RecordsDb) -> None:
    judged(db, *[0.6] * 5)
    store_threshold(db, 0.7)
    assert ThresholdStore(db.database, batch=2).follow(within_s=0) == Followed(followed=2, changed=2)
    assert ThresholdStore(db.database).follow() == Followed(followed=3, changed=3)
    assert flags(db) == [(False, 0.7, False)] * 5


@pytest.mark.parametrize("table", ["ai_flags", "processing_log"])
def test_a_batch_that_fails_in_any_part_changes_nothing(db: RecordsDb, table: str) -> None:
    judged(db, 0.6, 0.65)
    store = store_threshold(db, 0.7)
    db.do("create function fail() returns trigger language plpgsql as $$ begin perform 1 / 0; return null; end $$")
    db.do(f"create trigger fail before insert or update on anomaly.{table} for each row execute function fail()")
    before = db.everything()
    assert store.follow() == Followed(skipped=2)
    assert db.everything() == before
    db.do(f"drop trigger fail on anomaly.{table}")
    assert store.follow() == Followed(followed=2, changed=2)


def test_several_at_once_change_each_flag_once(db: RecordsDb) -> None:
    judged(db, *[0.6] * 60)
    store_threshold(db, 0.7)
    start = threading.Barrier(4)

    def follow() -> Followed:
        start.wait()
        return ThresholdStore(db.database, batch=7).follow()

    done = [each.result(timeout=60) for each in [db.meanwhile(follow) for _ in range(4)]]
    assert sum((each.changed for each in done), 0) == sum(each.followed for each in done) == 60
    assert db.rows("select count(*) as n from anomaly.processing_log where event = 'threshold_changed'") == [{"n": 60}]


def test_a_second_batch_waits_for_the_first_and_finds_its_flags_changed(db: RecordsDb) -> None:
    judged(db, 0.6, 0.65)
    store = store_threshold(db, 0.7)
    gate = db.gate("processing_log", "insert", "new.event = 'threshold_changed'")
    with gate.shut():
        first = db.meanwhile(store.follow)
        db.await_blocked(1)
        second = db.meanwhile(store.follow)
        db.await_blocked(2)
    assert first.result(timeout=10) == Followed(followed=2, changed=2)
    assert second.result(timeout=10) == Followed()


def test_a_threshold_waits_for_the_commits_that_have_not_seen_it(db: RecordsDb) -> None:
    """So what `left` counts after it is all that will ever have to follow."""
    [claim] = db.claims()
    gate = db.gate("ai_flags", "insert")
    with gate.shut():
        committed = db.meanwhile(lambda: db.commit(claim, an_answer(0.6)))
        db.await_blocked(1)
        stored = db.meanwhile(lambda: store_threshold(db, 0.7))
        db.await_blocked(2)
    committed.result(timeout=10)
    store = stored.result(timeout=10)
    assert flags(db) == [(True, 0.5, True)]
    assert store.left() == 1
    assert store.follow().changed == 1


def test_a_commit_that_waits_for_a_new_threshold_uses_it(db: RecordsDb) -> None:
    [claim] = db.claims()
    gate = db.gate("thresholds", "insert")
    with gate.shut():
        stored = db.meanwhile(lambda: store_threshold(db, 0.7))
        db.await_blocked(1)
        committed = db.meanwhile(lambda: db.commit(claim, an_answer(0.6)))
        db.await_blocked(2)
    stored.result(timeout=10)
    committed.result(timeout=10)
    assert flags(db) == [(False, 0.7, False)]


def test_a_record_that_is_scored_again_meanwhile_keeps_its_newer_verdict(db: RecordsDb) -> None:
    [claim] = judged(db, 0.6)
    db.store.end_chunk(db.run(), claim.chunk, HOLDER, tally={})
    store, run = store_threshold(db, 0.7), db.run("again")
    [again] = db.open(db.claim(run, origin="done"), run=run)
    gate = db.gate("ai_flags", "update", "new.token > old.token")
    with gate.shut():
        committed = db.meanwhile(lambda: db.commit(again, an_answer(0.95, detector="other@1")))
        db.await_blocked(1)
        followed = db.meanwhile(store.follow)
        db.await_blocked(2)
    committed.result(timeout=10)
    assert followed.result(timeout=10) == Followed()
    assert flags(db) == [(True, 0.5, True)]


def test_the_rows_of_a_source_follow_and_one_that_refuses_is_left_alone(db: RecordsDb) -> None:
    create_photos(db, count=5)
    source = a_source(write_back={"is_anomaly": "verdict", "score": "p"})
    db.store = RecordStore(db.database, db.settings, sources=[source])
    find(db)
    for claim in db.open(db.claim()):
        db.commit(claim, an_answer(0.6))
    store_threshold(db, 0.7)
    db.do("alter table shop.photos add check (photo_id <> 3 or verdict)")
    store = ThresholdStore(with_write_back(db.database, [source]), batch=4)
    assert store.follow() == Followed(followed=4, changed=4, skipped=1)
    verdicts = "select photo_id, verdict, p from shop.photos order by photo_id"
    assert [tuple(row.values()) for row in db.rows(verdicts)] == [(n, n == 3, 0.6) for n in range(1, 6)]
    assert sorted(flags(db)) == [(False, 0.7, False)] * 4 + [(True, 0.5, True)]
    assert store.left() == 1


def test_a_commit_writes_the_verdict_by_the_stored_threshold_to_its_row(db: RecordsDb) -> None:
    create_photos(db, count=1)
    db.store = RecordStore(db.database, db.settings, sources=[a_source(write_back={"is_anomaly": "verdict"})])
    find(db)
    store_threshold(db, 0.95)
    [claim] = db.open(db.claim())
    db.commit(claim, an_answer(0.9))
    assert db.rows("select verdict from shop.photos") == [{"verdict": False}]


def test_without_an_answer_of_the_database_nothing_is_called_done(db: RecordsDb) -> None:
    judged(db, 0.6)
    store = store_threshold(db, 0.7)
    db.do("alter table anomaly.ai_flags rename to gone")
    with pytest.raises(Exception, match="lacks what a statement names"):
        store.follow()
    db.do("alter table anomaly.gone rename to ai_flags")
    with psycopg.connect(db.dsn) as other:
        other.execute("lock table anomaly.ai_flags in access exclusive mode")
        with pytest.raises(DatabaseUnavailable):
            store.follow()
    assert db.rows(DIFFERENT) == [{"n": 1}]


@pytest.fixture
def before(postgres: Postgres) -> Iterator[str]:
    """The DSN of a database with nothing in it."""
    postgres.ensure_database("before_thresholds")
    yield postgres.dsn("before_thresholds")
    postgres.drop_database("before_thresholds")


def test_flags_and_log_of_before_stay_and_follow_the_first_threshold(before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0020":
            shutil.copy(path, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", tmp_path)
        schema.migrate(before)
    with RecordsDb(before) as db:
        db.do(
            """insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, needs_review, token, detector, score, threshold)
               select n, true, n > 5, n > 5, 1, 'padim@1', n / 10.0, 0.6 from generate_series(1, 9) as n"""
        )
        db.do("insert into anomaly.processing_log (record_id, event, attempt, token) values (1, 'committed', 1, 1)")
        assert "0020_thresholds" in schema.migrate(before)
        assert flags(db) == [(n > 5, 0.6, n > 5) for n in range(1, 10)]
        assert store_threshold(db, 0.8).follow() == Followed(followed=9, changed=2)
        assert flags(db) == [(n > 7, 0.8, n > 7) for n in range(1, 10)]
