"""Whose fault a failure is: an outage of the detector costs no record an attempt, and a record that fails by itself pays for it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import pytest

from anomaly import errors
from anomaly.models.runs import Holder
from tests.parts.fakes import CONTROL, SETTINGS, Bench, FakeArchive, FakeDetector, FakeStore, claims

LAST_TRY = Holder(map_index=0, try_number=4, last_try=True)
BAD = 3
BOUND_S = 20


def failing(bad: set[int]) -> FakeDetector:
    return FakeDetector(lambda n, _before: errors.DetectorFailed("500") if n in bad else None)


@pytest.mark.parametrize("records", [1, 3, 9])
def test_an_outage_with_few_records_left_on_the_last_try_costs_none_of_them_an_attempt(records: int) -> None:
    bench = Bench(FakeStore([claims(range(records))]), detector=failing({CONTROL, *range(records)}), holder=LAST_TRY)
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert bench.store.outcome == {}
    assert bench.store.released


def test_an_outage_that_begins_on_the_last_try_costs_the_records_that_are_left_nothing() -> None:
    detector = FakeDetector()
    detector.script = lambda _n, _before: errors.DetectorFailed("503") if sum(detector.asked.values()) > 40 else None
    bench = Bench(FakeStore([claims(range(43))]), detector=detector, holder=LAST_TRY)
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert set(bench.store.outcome.values()) == {"committed"}


def test_a_record_that_fails_while_others_are_answered_is_deferred_on_the_last_try() -> None:
    slowly = threading.Event()

    def script(number: int, _before: int) -> errors.AnomalyError | None:
        slowly.wait(0.02)
        return errors.DetectorFailed("500") if number == BAD else None

    bench = Bench(FakeStore([claims(range(60))]), detector=FakeDetector(script), holder=LAST_TRY)
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(60), "committed") | {BAD: "deferred detector_failed"}
    assert bench.blamed == {BAD}


def test_records_that_failed_by_themselves_are_deferred_on_the_last_try_however_many_of_them_are_left_alone() -> None:
    bad = set(range(8))
    bench = Bench(FakeStore([claims(bad)]), detector=failing(bad), holder=LAST_TRY, blamed=set(bad))
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(bad, "deferred detector_failed")


@pytest.mark.parametrize("records", [1, 3])
def test_records_that_fail_alone_are_deferred_on_the_last_try_because_the_detector_answers_a_control_request(records: int) -> None:
    bench = Bench(FakeStore([claims(range(records))]), detector=failing(set(range(records))), holder=LAST_TRY)
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(records), "deferred detector_failed")
    assert bench.detector.asked[CONTROL] <= records


def test_twelve_bad_records_in_a_row_of_sixty_are_deferred_and_the_others_are_done() -> None:
    bad = set(range(20, 32))
    bench = Bench(FakeStore([claims(range(60))]), detector=failing(bad), holder=LAST_TRY)
    bench.drain()
    assert bench.store.outcome == dict.fromkeys(range(60), "committed") | dict.fromkeys(bad, "deferred detector_failed")


def test_on_an_earlier_try_a_row_of_bad_records_is_left_for_the_next_try_and_the_others_are_done() -> None:
    bad = set(range(20, 32))
    bench = Bench(FakeStore([claims(range(60))]), detector=failing(bad))
    with pytest.raises(errors.ChunkIncomplete):
        bench.drain()
    assert bench.store.outcome == dict.fromkeys(set(range(60)) - bad, "committed")


def test_while_a_control_request_is_out_no_other_request_begins() -> None:
    began: list[int] = []

    def script(number: int, _before: int) -> errors.AnomalyError:
        began.append(number)
        return errors.DetectorFailed("503")

    bench = Bench(FakeStore([claims(range(100))]), detector=FakeDetector(script))
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert began.count(CONTROL) == 1
    assert len(began) <= SETTINGS.breaker_failures + SETTINGS.detector_slots + 1


@dataclass
class Stalled(FakeArchive):
    """Takes no answer until it may."""

    may: threading.Event = field(default_factory=threading.Event)

    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str:
        assert self.may.wait(BOUND_S)
        return super().put_answer(config, image_sha256, raw, batch=batch)


@pytest.mark.parametrize(("slots", "archive_workers", "most"), [(4, 2, 8), (1, 3, 4)])
def test_no_more_answers_are_in_danger_than_are_asked_for_and_written_at_once(slots: int, archive_workers: int, most: int) -> None:
    archive = Stalled()
    settings = replace(SETTINGS, detector_slots=slots, archive_workers=archive_workers, fetch_workers=20)
    bench = Bench(FakeStore([claims(range(60))]), archive=archive, settings=settings)
    pipeline = bench.pipeline()
    thread = threading.Thread(target=pipeline.drain)
    thread.start()
    deadline = time.monotonic() + BOUND_S
    while sum(bench.detector.asked.values()) < most and time.monotonic() < deadline:
        thread.join(0.01)
    thread.join(0.2)  # long enough for what must not happen to happen
    asked = sum(bench.detector.asked.values())
    archive.may.set()
    thread.join(BOUND_S)
    assert asked == most
    assert len(bench.store.outcome) == 60
