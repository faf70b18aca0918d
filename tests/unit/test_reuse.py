"""What the detector has said about an image is not paid for again."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.records import Earlier
from anomaly.reuse import GROUP
from tests.parts.pipeline_bench import RUN, SETTINGS, Bench, FakeArchive, FakeDetector, FakeStore, claims

if TYPE_CHECKING:
    from anomaly.records import Claim

EARLIER = Earlier(answer_key="answers/of/another/run", heatmap_key="heatmaps/of/another/run")


def of_image(number: int, count: int, *, first: int = 0) -> tuple[Claim, ...]:
    """Records that all point at one image."""
    return tuple(replace(claim, image_url=f"http://images/{number}") for claim in claims(range(first, first + count)))


def test_an_image_that_was_answered_for_is_not_asked_about_and_its_result_keeps_the_earlier_keys() -> None:
    store = FakeStore([claims([1, 2])], earlier={"1": EARLIER})
    archive = FakeArchive(answers={EARLIER.answer_key: b"{}"})
    bench = Bench(store, archive=archive)
    bench.drain()
    assert store.outcome == {1: "reused", 2: "committed"}
    assert bench.detector.asked == {2: 1}
    assert archive.writes_of_answers == 1
    assert store.heatmaps == {1: EARLIER.heatmap_key, 2: "heatmaps/2"}


def test_an_earlier_answer_that_is_gone_from_the_bucket_is_asked_for_again() -> None:
    bench = Bench(FakeStore([claims([1])], earlier={"1": EARLIER}))
    bench.drain()
    assert bench.store.outcome == {1: "committed"}
    assert bench.store.heatmaps == {1: "heatmaps/1"}


def test_records_whose_image_is_known_learn_of_the_answer_when_their_chunk_is_opened() -> None:
    known = tuple(replace(claim, image_sha256=str(claim.record_id)) for claim in claims(range(50)))
    store = FakeStore([known], earlier={str(n): EARLIER for n in range(50)})
    bench = Bench(store, archive=FakeArchive(answers={EARLIER.answer_key: b"{}"}))
    bench.drain()
    assert set(store.outcome.values()) == {"reused"}
    assert store.look_ups == [sorted(str(n) for n in range(50))]


def test_an_answer_to_another_image_than_the_one_that_is_there_now_is_not_taken() -> None:
    known = tuple(replace(claim, image_sha256="77") for claim in claims([1]))
    bench = Bench(FakeStore([known], earlier={"77": EARLIER}), archive=FakeArchive(answers={EARLIER.answer_key: b"{}"}))
    bench.drain()
    assert bench.store.outcome == {1: "committed"}
    assert bench.detector.asked == {1: 1}


def test_images_are_looked_up_in_groups_and_never_twice() -> None:
    settings = replace(SETTINGS, detector_slots=32, fetch_workers=16)
    bench = Bench(FakeStore([claims(range(400))]), settings=settings)
    bench.drain()
    assert sorted(n for group in bench.store.look_ups for n in group) == sorted(str(n) for n in range(400))
    assert len(bench.store.look_ups) <= 2 * 400 / GROUP


def test_records_with_the_same_image_share_one_request() -> None:
    bench = Bench(FakeStore([of_image(5, 8) + claims([20])]))
    bench.drain()
    assert bench.detector.asked == {5: 1, 20: 1}
    assert sorted(bench.store.outcome.values()) == ["committed", "committed", *["reused"] * 7]


def test_when_the_request_that_was_shared_fails_for_good_each_record_gets_its_own_end() -> None:
    bench = Bench(FakeStore([of_image(5, 4)]), detector=FakeDetector(lambda _n, _b: errors.DetectorRefused("no")))
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(4), "quarantined detector_refused")


def test_a_record_that_loses_its_chunk_leaves_the_answer_to_those_that_wait_for_it() -> None:
    bench = Bench(FakeStore([of_image(5, 1), replace_chunk(of_image(5, 3, first=10), 1)]))
    asked = threading.Event()

    def lose(_n: int, _before: int) -> None:
        if not asked.is_set():
            asked.set()
            bench.lose(0)

    bench.detector.script = lose
    bench.drain()
    assert bench.detector.asked == {5: 1}
    assert {n: bench.store.outcome.get(n) for n in (10, 11, 12)} == dict.fromkeys((10, 11, 12), "reused")


def replace_chunk(of: tuple[Claim, ...], chunk: int) -> tuple[Claim, ...]:
    return tuple(replace(claim, chunk=chunk) for claim in of)


def test_a_look_up_that_the_database_does_not_answer_is_repeated_and_nothing_is_asked_meanwhile() -> None:
    failures = [errors.DatabaseUnavailable("gone"), errors.DatabaseUnavailable("gone")]
    asked_early: list[int] = []
    store = FakeStore([claims([1])], fails=lambda method, _: failures.pop() if method == "find_answers" and failures else None)
    bench = Bench(store, detector=FakeDetector(lambda n, _: asked_early.append(n) if failures else None))
    bench.drain()
    assert store.outcome == {1: "committed"}
    assert asked_early == []


def test_a_chunk_whose_known_images_cannot_be_looked_up_is_worked_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    known = tuple(replace(claim, image_sha256="1") for claim in claims([1]))
    failures = [errors.DatabaseUnavailable("gone")]
    store = FakeStore([known], earlier={"1": EARLIER}, fails=lambda m, _: failures.pop() if m == "find_answers" and failures else None)
    bench = Bench(store, archive=FakeArchive(answers={EARLIER.answer_key: b"{}"}))
    bench.drain()
    assert store.outcome == {1: "reused"}
    assert "earlier answers of a chunk not looked up" in caplog.text


def test_a_fresh_run_shares_requests_among_its_own_records() -> None:
    bench = Bench(FakeStore([of_image(5, 3)]), run=replace(RUN, fresh=True))
    bench.drain()
    assert bench.detector.asked == {5: 1}


def test_an_interrupted_task_asks_no_more_and_releases_what_waits_for_an_answer() -> None:
    bench = Bench(FakeStore([of_image(5, 3)]))
    pipeline = bench.pipeline()

    def interrupt(_n: int, _before: int) -> BaseException:
        pipeline.interrupt()
        return errors.DetectorFailed("500")

    bench.detector.script = interrupt
    with pytest.raises(errors.Interrupted):
        pipeline.drain()
    assert bench.detector.asked == {5: 1}
    assert bench.store.released
