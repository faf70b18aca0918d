from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from anomaly import errors
from anomaly.models.runs import Holder
from tests.parts.fakes import CONTROL, RUN, SETTINGS, Bench, FakeArchive, FakeDetector, FakeImages, FakeStore, claims

if TYPE_CHECKING:
    from anomaly.models.records import Claim, Image


def test_all_records_of_all_chunks_that_are_due_are_committed_and_their_chunks_ended() -> None:
    store = FakeStore([claims(range(10)), claims(range(10, 25), chunk=1), claims(range(25, 27), chunk=2)])
    Bench(store).drain()
    assert store.outcome == dict.fromkeys(range(27), "committed")
    assert {number: tally["ended"] for number, tally in store.ended.items()} == {
        0: {"committed": 10},
        1: {"committed": 15},
        2: {"committed": 2},
    }
    assert set(store.ended[0]["timings_ms"]) >= {"fetch", "detect", "archive", "commit"}


def test_the_detector_gets_as_many_requests_at_once_as_it_has_slots_and_never_more() -> None:
    detector = FakeDetector(meet=threading.Barrier(SETTINGS.detector_slots))
    bench = Bench(FakeStore([claims(range(20))]), detector=detector)
    bench.drain()
    assert detector.most_in_flight == SETTINGS.detector_slots


def test_requests_that_wait_for_a_free_slot_are_not_at_the_detector() -> None:
    detector = FakeDetector(meet=threading.Barrier(16))
    bench = Bench(FakeStore([claims(range(64))]), detector=detector, settings=replace(SETTINGS, detector_slots=16))
    bench.drain()
    assert detector.most_in_flight == 16


@pytest.mark.parametrize(
    "error", [errors.ImageNotFound("gone"), errors.ImageTruncated("cut"), errors.ImageTooManyPixels("wide"), errors.AddressBlocked("no")]
)
def test_a_record_that_can_never_succeed_is_quarantined_and_its_neighbours_are_done(error: errors.AnomalyError) -> None:
    store = FakeStore([claims(range(5))])
    Bench(store, images=FakeImages(lambda n: error if n == 3 else None)).drain()
    assert store.outcome[3] == f"quarantined {error.code}"
    assert Counter(store.outcome.values())["committed"] == 4
    assert store.ended[0]["errors"] == {error.code: 1}


def test_the_detector_is_asked_twice_more_after_a_failure() -> None:
    bench = Bench(FakeStore([claims([1])]), detector=FakeDetector(lambda _n, before: errors.DetectorFailed("500") if before < 2 else None))
    bench.drain()
    assert bench.store.outcome == {1: "committed"}
    assert bench.detector.asked[1] == 3


def test_what_failed_for_now_stays_claimed_for_the_next_try_with_a_lease_that_lasts_until_then() -> None:
    bench = Bench(FakeStore([claims(range(3))]), detector=FakeDetector(lambda n, _: errors.DetectorFailed("500") if n == 1 else None))
    with pytest.raises(errors.ChunkIncomplete) as raised:
        bench.drain()
    assert bench.store.outcome == {0: "committed", 2: "committed"}
    assert 30 <= raised.value.delay_s <= 33
    assert bench.store.parked_s == pytest.approx(raised.value.delay_s + SETTINGS.lease_s)
    assert not bench.store.ended


def test_on_the_last_try_what_failed_for_now_is_deferred_and_the_chunk_ends() -> None:
    detector = FakeDetector(lambda n, _: errors.DetectorFailed("500") if n == 1 else None)
    last = Holder(map_index=0, try_number=4, last_try=True)
    bench = Bench(FakeStore([claims(range(3))]), detector=detector, holder=last, blamed={1})
    bench.drain()
    assert bench.store.outcome == {0: "committed", 1: "deferred detector_failed", 2: "committed"}
    assert 0 in bench.store.ended


def test_a_short_pause_that_the_detector_asks_for_is_waited_for_inside_the_task() -> None:
    detector = FakeDetector(lambda n, before: errors.Throttled("429", retry_after_s=0.05) if n == 2 and before < 3 else None)
    bench = Bench(FakeStore([claims(range(6))]), detector=detector)
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(6), "committed")
    assert detector.asked[2] == 4


def test_a_long_pause_gives_every_record_back_until_then_and_claims_no_more() -> None:
    detector = FakeDetector(lambda _n, _b: errors.Throttled("429", retry_after_s=3600))
    bench = Bench(FakeStore([claims(range(30)), claims(range(30, 40), chunk=1)]), detector=detector)
    bench.drain()
    assert set(bench.store.outcome) >= set(range(30))
    assert {text.split(" for ")[0] for text in bench.store.outcome.values()} == {"given back"}
    assert sum(detector.asked.values()) <= SETTINGS.detector_slots


def test_an_answer_in_hand_is_kept_while_the_archive_is_down_and_asked_for_once() -> None:
    archive = FakeArchive(answer_errors=[errors.ArchiveUnavailable("down") for _ in range(3)])
    bench = Bench(FakeStore([claims(range(2))]), archive=archive)
    bench.drain()
    assert bench.store.outcome == {0: "committed", 1: "committed"}
    assert bench.detector.asked == {0: 1, 1: 1}
    assert archive.writes_of_answers == 5


def test_an_archive_that_stays_down_ends_the_try_and_keeps_the_claims() -> None:
    archive = FakeArchive(answer_errors=[errors.ArchiveUnavailable("down") for _ in range(99)])
    bench = Bench(FakeStore([claims(range(2))]), archive=archive, settings=replace(SETTINGS, write_patience_s=0))
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert bench.store.parked_s is not None
    assert not bench.store.outcome


def test_a_detector_that_fails_again_and_again_is_left_alone_and_the_claims_are_kept() -> None:
    bench = Bench(FakeStore([claims(range(100))]), detector=FakeDetector(lambda _n, _b: errors.DetectorFailed("503")))
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert sum(bench.detector.asked.values()) - bench.detector.asked[CONTROL] <= SETTINGS.breaker_failures + SETTINGS.detector_slots
    assert bench.store.parked_s is not None
    assert not bench.store.outcome


def test_on_the_last_try_an_outage_releases_the_claims_and_counts_no_attempt() -> None:
    detector = FakeDetector(lambda _n, _b: errors.DetectorFailed("503"))
    bench = Bench(FakeStore([claims(range(100))]), detector=detector, holder=Holder(map_index=0, try_number=4, last_try=True))
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert bench.store.released
    assert not bench.store.outcome


@pytest.mark.parametrize("error", [errors.DetectorDenied("401"), errors.OutOfCredit("402"), errors.Misconfigured("no such model")])
def test_what_stops_the_run_releases_the_claims_and_is_raised(error: Exception) -> None:
    bench = Bench(FakeStore([claims(range(50))]), detector=FakeDetector(lambda n, _: error if n == 7 else None))
    with pytest.raises(type(error)):
        bench.drain()
    assert bench.store.released
    assert 7 not in bench.store.outcome


def test_an_interrupted_task_commits_the_answers_that_are_paid_for_and_releases_the_rest() -> None:
    bench = Bench(FakeStore([claims(range(100))]))
    pipeline = bench.pipeline()
    bench.detector.meet = threading.Barrier(SETTINGS.detector_slots, action=pipeline.interrupt)
    with pytest.raises(errors.Interrupted):
        pipeline.drain()
    assert bench.store.released
    assert len(bench.store.outcome) == sum(bench.detector.asked.values()) == SETTINGS.detector_slots


def test_a_lost_chunk_is_dropped_and_the_other_one_is_done() -> None:
    bench = Bench(FakeStore([claims(range(40)), claims(range(40, 50), chunk=1)]))
    bench.images.error = lambda n: bench.lose(0) if n == 0 else None
    bench.detector.script = lambda n, _: errors.LeaseLost("someone else's") if n < 40 else None
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(40, 50), "committed")
    assert set(bench.store.ended) == {1}


def test_a_commit_that_lost_its_lease_drops_the_record_quietly() -> None:
    store = FakeStore([claims(range(4))], commit_error=lambda claim: errors.LeaseLost("stale") if claim.record_id == 2 else None)
    Bench(store).drain()
    assert sorted(store.outcome) == [0, 1, 3]


def test_suspects_are_worked_last_one_at_a_time_and_each_is_written_down_before_it_starts() -> None:
    store = FakeStore([claims([0, 1], lost=3) + claims(range(2, 6))])
    order: list[int] = []
    detector = FakeDetector(lambda n, _: order.append(n))
    Bench(store, detector=detector).drain()
    assert sorted(order[:4]) == [2, 3, 4, 5]
    assert order[4:] == [0, 1]
    assert store.alone == [(0, True), (0, False), (1, True), (1, False)]
    assert store.outcome == dict.fromkeys(range(6), "committed")


def test_an_answer_that_was_written_down_is_not_asked_for_again() -> None:
    archive = FakeArchive(answers={"answers/c0/None/1": b"{}", "answers/c0/None/2": b"garbled"})
    bench = Bench(FakeStore([claims([1, 2, 3], token=3)]), archive=archive)
    bench.drain()
    assert bench.store.outcome == {1: "reused", 2: "committed", 3: "committed"}
    assert bench.detector.asked == {2: 1, 3: 1}


def test_a_fresh_run_reuses_only_its_own_answers() -> None:
    run = replace(RUN, fresh=True)
    archive = FakeArchive(answers={"answers/c0/None/1": b"{}", f"answers/c0/{run.batch_id}/2": b"{}"})
    bench = Bench(FakeStore([claims([1, 2], token=3)]), archive=archive, run=run)
    bench.drain()
    assert bench.store.outcome == {1: "committed", 2: "reused"}


def test_a_heat_map_that_cannot_be_archived_is_one_warning_and_the_record_is_done(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(FakeStore([claims([1])]), archive=FakeArchive(heatmap_error=errors.ArchiveUnavailable("full")))
    bench.drain()
    assert bench.store.outcome == {1: "committed"}
    assert [record.levelname for record in caplog.records if "heat map" in record.message] == ["WARNING"]


def test_the_database_going_away_during_a_commit_is_waited_for() -> None:
    failures = [errors.DatabaseUnavailable("gone"), errors.DatabaseUnavailable("gone")]
    store = FakeStore([claims([1])], commit_error=lambda _: failures.pop() if failures else None)
    bench = Bench(store)
    bench.drain()
    assert store.outcome == {1: "committed"}
    assert bench.detector.asked[1] == 1
    assert bench.archive.writes_of_answers == 1
    assert store.commits[1] == 3


def test_as_many_commits_run_at_once_as_the_settings_say_whichever_threads_they_are_on() -> None:
    together = threading.Barrier(SETTINGS.commit_workers)
    at_once: list[int] = []
    under_way: set[int] = set()

    def committed(claim: Claim) -> None:
        under_way.add(claim.record_id)
        together.wait(20)
        at_once.append(len(under_way))
        together.wait(20)
        under_way.discard(claim.record_id)

    store = FakeStore([claims(range(20))], commit_error=committed)
    Bench(store, settings=replace(SETTINGS, archive_workers=8)).drain()
    assert len(store.outcome) == 20
    assert set(at_once) == {SETTINGS.commit_workers}


def test_commits_that_hang_do_not_keep_answers_from_being_written_down() -> None:
    all_written = threading.Event()

    class Watched(FakeArchive):
        def put_answer(self, *args: Any, **kwargs: Any) -> str:
            key = super().put_answer(*args, **kwargs)
            if self.writes_of_answers == 8:
                all_written.set()
            return key

    def committed(_: Claim) -> None:
        assert all_written.wait(20)

    settings = replace(SETTINGS, detector_slots=8, archive_workers=2, commit_workers=2)
    store = FakeStore([claims(range(8))], commit_error=committed)
    Bench(store, archive=Watched(), settings=settings).drain()
    assert store.outcome == dict.fromkeys(range(8), "committed")


def test_an_answer_whose_image_is_not_written_yet_waits_with_its_commit() -> None:
    answered = threading.Event()

    class SlowForImages(FakeArchive):
        def put_image(self, image: Image) -> str:
            assert answered.wait(20)
            return super().put_image(image)

        def put_answer(self, *args: Any, **kwargs: Any) -> str:
            answered.set()
            return super().put_answer(*args, **kwargs)

    store = FakeStore([claims([1])])
    Bench(store, archive=SlowForImages()).drain()
    assert store.outcome == {1: "committed"}
    assert store.commits[1] == 1


def test_no_more_records_hold_an_image_than_the_stages_can_use() -> None:
    held: set[int] = set()
    most = 0
    lock = threading.Lock()

    def fetched(number: int) -> None:
        nonlocal most
        with lock:
            held.add(number)
            most = max(most, len(held))

    def committed(claim: Claim) -> None:
        with lock:
            held.discard(claim.record_id)

    store = FakeStore([claims(range(300))], commit_error=committed)
    Bench(store, images=FakeImages(fetched)).drain()
    assert len(store.outcome) == 300
    assert most <= 2 * SETTINGS.detector_slots + SETTINGS.fetch_workers + SETTINGS.archive_workers
