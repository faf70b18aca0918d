"""Earlier answers, and the views of results."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly.db.statements import default_statements
from anomaly.models.answers import ArchiveKeys, EarlierAnswer
from tests.parts.record_builders import HOLDER, IMAGE, START, RecordsDb, an_answer

if TYPE_CHECKING:
    from anomaly.db.record_store import RecordStore
    from anomaly.models.records import Claim
    from anomaly.models.runs import Run


def committed(db: RecordsDb, claim: Claim, *, said: int, config: str = "c", image: str = "i", run: Run | None = None) -> None:
    """A result whose keys end in a number."""
    db.store.commit(
        claim,
        an_answer(),
        ArchiveKeys(image_key="images/1", answer_key=f"answers/{said}", heatmap_key=f"heatmaps/{said}"),
        config=config,
        image=replace(IMAGE, sha256=image),
        run=run or db.run(),
        holder=HOLDER,
        timings={},
    )


def earlier(said: int) -> EarlierAnswer:
    return EarlierAnswer(answer_key=f"answers/{said}", heatmap_key=f"heatmaps/{said}")


def test_the_newest_answer_of_a_configuration_to_each_image_is_found_whichever_record_it_was_for(db: RecordsDb) -> None:
    first, second, third, fourth = db.claims(4)
    committed(db, first, said=1)
    committed(db, second, said=2)
    committed(db, third, said=3, image="j")
    committed(db, fourth, said=4, config="another")
    assert db.store.find_answers(db.run(), config="c", image_sha256s=["i", "j", "k"]) == {"i": earlier(2), "j": earlier(3)}


def test_a_fresh_run_finds_only_its_own_answers(db: RecordsDb) -> None:
    first, second = db.claims(2)
    committed(db, first, said=1)
    fresh = db.run("another", fresh=True)
    assert db.store.find_answers(fresh, config="c", image_sha256s=["i"]) == {}
    committed(db, second, said=2, run=fresh)
    assert db.store.find_answers(fresh, config="c", image_sha256s=["i"]) == {"i": earlier(2)}


def verdicts(db: RecordsDb, detector: str, said: list[bool]) -> None:
    """One more scoring of the records that there are, in their order."""
    run = db.run(f"{detector} {len(db.everything()['ai_results'])}")
    origin: Any = "done" if "done" in db.statuses() else "pending"
    claims = db.open(db.claim(run, origin=origin, size=100), run=run)
    for claim, is_anomaly in zip(sorted(claims, key=lambda c: c.record_id), said, strict=True):
        answer = an_answer(is_anomaly=is_anomaly)
        db.commit(claim, replace(answer, verdict=replace(answer.verdict, detector=detector)))
    db.store.end_batch(run.batch_id)


def test_two_detectors_are_compared_by_their_last_words_within_a_window(db: RecordsDb) -> None:
    db.add(5)
    verdicts(db, "old@1", [True, True, True, True, True])
    verdicts(db, "old@1", [True, True, False, False, True])
    verdicts(db, "new@2", [True, False, True, False, True])
    compared = "select * from anomaly.compare_detectors('old@1', 'new@2', %(start)s, %(end)s)"
    window = db.window(0, 4)
    assert db.rows(compared, start=window.start, end=window.end) == [
        {
            "records": 4,
            "first_anomalies": 2,
            "second_anomalies": 2,
            "both_anomalous": 1,
            "only_first": 1,
            "only_second": 1,
            "both_normal": 1,
            "agreement": 0.5,
        }
    ]
    assert db.rows(compared, start=None, end=None)[0]["records"] == 5
    assert db.rows(compared, start=window.end, end=None)[0]["records"] == 1


def test_the_records_that_changed_sides_are_named(db: RecordsDb) -> None:
    ids = db.add(3)
    verdicts(db, "old@1", [True, False, False])
    verdicts(db, "new@2", [True, True, False])
    changed = db.rows(
        """select record_id, image_url, captured_at, first_is_anomaly, second_is_anomaly from anomaly.verdict_pairs
            where first_detector = 'old@1' and second_detector = 'new@2' and changed_sides"""
    )
    assert [row["record_id"] for row in changed] == [ids[1]]
    assert (changed[0]["first_is_anomaly"], changed[0]["second_is_anomaly"]) == (False, True)
    assert changed[0]["image_url"] == "http://images/1"
    assert changed[0]["captured_at"] > START


def test_a_records_history_tells_every_attempt_with_its_verdict_and_its_run(db: RecordsDb) -> None:
    [record_id] = db.add(1)
    verdicts(db, "old@1", [False])
    verdicts(db, "new@2", [True])
    rows = db.rows("select * from anomaly.record_history where record_id = %(id)s order by at", id=record_id)
    told = [(row["event"], row["run_id"], row["detector"], row["is_anomaly"]) for row in rows]
    assert told == [("committed", "old@1 0", "old@1", False), ("committed", "new@2 1", "new@2", True)]


def test_the_flags_show_the_newest_verdict(db: RecordsDb) -> None:
    db.add(1)
    verdicts(db, "old@1", [True])
    verdicts(db, "new@2", [False])
    assert [row["is_anomaly"] for row in db.everything()["ai_flags"]] == [False]


def test_a_look_up_reads_the_index_that_was_made_for_it_on_a_table_that_nobody_analysed(db: RecordsDb) -> None:
    db.do("alter table anomaly.ai_results set (autovacuum_enabled = false)")
    db.do(
        """insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key,
                                           latency_ms, dag_id, run_id, map_index, try_number)
           select i, 2, 'd@1', 'c', 0, false, md5(i::text), 'k', 'k', 0, 'dag', 'run', 0, 1 from generate_series(1, 20000) as i"""
    )
    params = {"config": "c", "image_sha256s": ["a", "b"], "fresh": False, "dag_id": "dag", "run_id": "run"}
    [row] = db.rows(f"explain (format json) {default_statements()['find_answers']}", **params)
    plan = json.dumps(row["QUERY PLAN"])
    assert '"Index Name": "ai_results_answers"' in plan
    assert "Seq Scan" not in plan


# ── configurations that have answered


def test_a_configuration_of_a_detector_is_known_as_proven_once_it_was_added(db: RecordsDb) -> None:
    assert not db.store.is_detector_proven("c")
    db.store.add_proven_detector("c")
    assert db.store.is_detector_proven("c")
    assert not db.store.is_detector_proven("another")


def test_two_tasks_that_add_the_same_configuration_at_once_both_succeed_and_the_first_time_stays(database: str, db: RecordsDb) -> None:
    with RecordsDb(database) as other, ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            meet = Barrier(2)

            def add(store: RecordStore, meet: Barrier = meet) -> None:
                meet.wait(20)
                store.add_proven_detector("c")

            for done in [threads.submit(add, each.store) for each in (db, other)]:
                done.result(20)
    first = db.rows("select first_answered_at from anomaly.detector_configs")
    db.store.add_proven_detector("c")
    assert db.rows("select first_answered_at from anomaly.detector_configs") == first
    assert len(first) == 1


@pytest.mark.parametrize(
    ("names", "wrong"), [(["old@1", "new@3"], "new@3"), (["odl@1", "new@2"], "odl@1"), (["old@1", ""], ""), (["", ""], "")]
)
def test_a_comparison_with_a_detector_that_has_no_results_is_refused_with_those_that_have_some(
    db: RecordsDb, names: list[str], wrong: str
) -> None:
    db.add(1)
    verdicts(db, "old@1", [True])
    verdicts(db, "new@2", [True])
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        db.sql.execute("select * from anomaly.compare_detectors(%s, %s)", names)
    assert refused.value.diag.message_primary == f"there are no results of a detector '{wrong}'"
    assert refused.value.diag.message_hint == "there are results of: new@2, old@1"
    assert db.rows("select records from anomaly.compare_detectors('old@1', 'new@2')") == [{"records": 1}]
