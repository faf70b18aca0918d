"""Earlier answers, and the views of results."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.statements import default_statements
from anomaly.models.answers import ArchiveKeys, EarlierAnswer
from tests.parts.record_builders import HOLDER, START, Bench, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.db.record_store import RecordStore
    from anomaly.models.records import Claim
    from anomaly.models.runs import Run


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


def committed(bench: Bench, claim: Claim, *, said: int, config: str = "c", image: str = "i", run: Run | None = None) -> None:
    """A result whose keys end in a number."""
    bench.store.commit(
        claim,
        an_answer(),
        ArchiveKeys(image_key="images/1", answer_key=f"answers/{said}", heatmap_key=f"heatmaps/{said}"),
        config=config,
        image_sha256=image,
        run=run or bench.run(),
        holder=HOLDER,
        timings={},
    )


def earlier(said: int) -> EarlierAnswer:
    return EarlierAnswer(answer_key=f"answers/{said}", heatmap_key=f"heatmaps/{said}")


def test_the_newest_answer_of_a_configuration_to_each_image_is_found_whichever_record_it_was_for(bench: Bench) -> None:
    first, second, third, fourth = bench.claims(4)
    committed(bench, first, said=1)
    committed(bench, second, said=2)
    committed(bench, third, said=3, image="j")
    committed(bench, fourth, said=4, config="another")
    assert bench.store.find_answers(bench.run(), config="c", image_sha256s=["i", "j", "k"]) == {"i": earlier(2), "j": earlier(3)}


def test_a_fresh_run_finds_only_its_own_answers(bench: Bench) -> None:
    first, second = bench.claims(2)
    committed(bench, first, said=1)
    fresh = bench.run("another", fresh=True)
    assert bench.store.find_answers(fresh, config="c", image_sha256s=["i"]) == {}
    committed(bench, second, said=2, run=fresh)
    assert bench.store.find_answers(fresh, config="c", image_sha256s=["i"]) == {"i": earlier(2)}


def verdicts(bench: Bench, detector: str, said: list[bool]) -> None:
    """One more scoring of the records that there are, in their order."""
    run = bench.run(f"{detector} {len(bench.everything()['ai_results'])}")
    origin: Any = "done" if "done" in bench.statuses() else "pending"
    claims = bench.open(bench.claim(run, origin=origin, size=100), run=run)
    for claim, is_anomaly in zip(sorted(claims, key=lambda c: c.record_id), said, strict=True):
        answer = an_answer(is_anomaly=is_anomaly)
        bench.commit(claim, replace(answer, verdict=replace(answer.verdict, detector=detector)))
    bench.store.end_batch(run.batch_id)


def test_two_detectors_are_compared_by_their_last_words_within_a_window(bench: Bench) -> None:
    bench.add(5)
    verdicts(bench, "old@1", [True, True, True, True, True])
    verdicts(bench, "old@1", [True, True, False, False, True])
    verdicts(bench, "new@2", [True, False, True, False, True])
    compared = "select * from anomaly.compare_detectors('old@1', 'new@2', %(start)s, %(end)s)"
    window = bench.window(0, 4)
    assert bench.rows(compared, start=window.start, end=window.end) == [
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
    assert bench.rows(compared, start=None, end=None)[0]["records"] == 5
    assert bench.rows(compared, start=window.end, end=None)[0]["records"] == 1


def test_the_records_that_changed_sides_are_named(bench: Bench) -> None:
    ids = bench.add(3)
    verdicts(bench, "old@1", [True, False, False])
    verdicts(bench, "new@2", [True, True, False])
    changed = bench.rows(
        """select record_id, image_url, captured_at, first_is_anomaly, second_is_anomaly from anomaly.verdict_pairs
            where first_detector = 'old@1' and second_detector = 'new@2' and changed_sides"""
    )
    assert [row["record_id"] for row in changed] == [ids[1]]
    assert (changed[0]["first_is_anomaly"], changed[0]["second_is_anomaly"]) == (False, True)
    assert changed[0]["image_url"] == "http://images/1"
    assert changed[0]["captured_at"] > START


def test_a_records_history_tells_every_attempt_with_its_verdict_and_its_run(bench: Bench) -> None:
    [record_id] = bench.add(1)
    verdicts(bench, "old@1", [False])
    verdicts(bench, "new@2", [True])
    rows = bench.rows("select * from anomaly.record_history where record_id = %(id)s order by at", id=record_id)
    told = [(row["event"], row["run_id"], row["detector"], row["is_anomaly"]) for row in rows]
    assert told == [("committed", "old@1 0", "old@1", False), ("committed", "new@2 1", "new@2", True)]


def test_the_flags_show_the_newest_verdict(bench: Bench) -> None:
    bench.add(1)
    verdicts(bench, "old@1", [True])
    verdicts(bench, "new@2", [False])
    assert [row["is_anomaly"] for row in bench.everything()["ai_flags"]] == [False]


def test_a_look_up_reads_the_index_that_was_made_for_it_on_a_table_that_nobody_analysed(bench: Bench) -> None:
    bench.do("alter table anomaly.ai_results set (autovacuum_enabled = false)")
    bench.do(
        """insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key,
                                           latency_ms, dag_id, run_id, map_index, try_number)
           select i, 2, 'd@1', 'c', 0, false, md5(i::text), 'k', 'k', 0, 'dag', 'run', 0, 1 from generate_series(1, 20000) as i"""
    )
    params = {"config": "c", "image_sha256s": ["a", "b"], "fresh": False, "dag_id": "dag", "run_id": "run"}
    [row] = bench.rows(f"explain (format json) {default_statements().text('find_answers')}", **params)
    plan = json.dumps(row["QUERY PLAN"])
    assert '"Index Name": "ai_results_answers"' in plan
    assert "Seq Scan" not in plan


# ── configurations that have answered


def test_a_configuration_of_a_detector_is_known_as_proven_once_it_was_added(bench: Bench) -> None:
    assert not bench.store.is_detector_proven("c")
    bench.store.add_proven_detector("c")
    assert bench.store.is_detector_proven("c")
    assert not bench.store.is_detector_proven("another")


def test_two_tasks_that_add_the_same_configuration_at_once_both_succeed_and_the_first_time_stays(database: str, bench: Bench) -> None:
    with Bench(database) as other, ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            meet = Barrier(2)

            def add(store: RecordStore, meet: Barrier = meet) -> None:
                meet.wait(20)
                store.add_proven_detector("c")

            for done in [threads.submit(add, each.store) for each in (bench, other)]:
                done.result(20)
    first = bench.rows("select first_answered_at from anomaly.detector_configs")
    bench.store.add_proven_detector("c")
    assert bench.rows("select first_answered_at from anomaly.detector_configs") == first
    assert len(first) == 1
