"""What becomes of answers, pauses and failures of the detector while other things happen to the record."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.models.runs import Holder
from tests.parts.fakes import SETTINGS, Bench, FakeArchive, FakeDetector, FakeStore, claims

if TYPE_CHECKING:
    from anomaly.models.records import Image

SOON_S = 0.3
"""Long enough for what must not happen to happen."""
BOUND_S = 20


@dataclass
class SlowArchive(FakeArchive):
    """Writes an image once it may."""

    may: threading.Event = field(default_factory=threading.Event)

    def put_image(self, image: Image) -> str:
        assert self.may.wait(BOUND_S)
        return super().put_image(image)


@dataclass
class HeatmapsLast(SlowArchive):
    """The image may be written once the answer is, and the heat map takes until a commit, or a while."""

    commit_began: threading.Event = field(default_factory=threading.Event)

    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str:
        self.may.set()
        self.commit_began.wait(SOON_S)
        return super().put_heatmap(config, image_sha256, png, batch=batch)


def test_a_verdict_is_committed_once_and_with_its_heat_map_in_whatever_order_its_objects_are_written() -> None:
    archive = HeatmapsLast()
    store = FakeStore([claims([1])], commit_error=lambda _: archive.commit_began.set())
    Bench(store, archive=archive).drain()
    assert store.heatmaps == {1: "heatmaps/1"}
    assert store.commits == {1: 1}


def test_an_answer_that_comes_after_the_lease_is_lost_is_written_down_for_whoever_asks_next() -> None:
    bench = Bench(FakeStore([claims([1])]))
    bench.detector.script = lambda _n, _b: bench.lose(0)
    bench.drain()
    assert bench.archive.answers == {"answers/c0/None/1": b"{}"}
    assert bench.store.outcome == {}


def test_a_record_that_is_lost_while_the_detector_asks_for_a_long_pause_ends_all_the_same() -> None:
    dropped = threading.Event()
    archive = SlowArchive()
    store = FakeStore([claims([1])])
    store.fails = lambda name, _: errors.LeaseLost("someone else's") if name == "give_back" else None
    bench = Bench(store, archive=archive)

    def script(_number: int, _before: int) -> errors.AnomalyError:
        bench.lose(0)
        archive.may.set()
        dropped.wait(SOON_S)
        return errors.Throttled("429", retry_after_s=3600)

    bench.detector.script = script
    bench.pipeline(worked=lambda _: dropped.set()).drain()
    assert store.outcome == {}


def test_no_new_request_starts_because_an_answer_came_while_the_archive_is_down() -> None:
    """An answer in hand does not say that the archive is back."""
    down = threading.Event()

    @dataclass
    class Down(FakeArchive):
        def put_image(self, image: Image) -> str:
            down.set()
            raise errors.ArchiveUnavailable(image.sha256)

    bench = Bench(FakeStore([claims(range(30))]), archive=Down(), settings=replace(SETTINGS, write_patience_s=1))

    def answers_when_the_archive_is_down(_number: int, _before: int) -> None:
        assert down.wait(BOUND_S)

    bench.detector.script = answers_when_the_archive_is_down
    with pytest.raises(errors.DetectorDown):
        bench.drain()
    assert sum(bench.detector.asked.values()) <= SETTINGS.detector_slots


def test_a_record_that_is_throttled_for_longer_than_the_task_waits_is_given_back_by_short_pauses_too() -> None:
    settings = replace(SETTINGS, throttle_patience_s=0)
    bench = Bench(
        FakeStore([claims(range(3))]),
        detector=FakeDetector(lambda _n, _b: errors.Throttled("429", retry_after_s=0.01)),
        settings=settings,
    )
    bench.drain()
    assert set(bench.store.outcome) == {0, 1, 2}
    assert set(bench.store.outcome.values()) == {"given back for 0 s"}


def test_a_record_that_is_lost_while_it_waits_to_be_asked_again_is_asked_no_more() -> None:
    bench = Bench(FakeStore([claims([1])]))

    def script(_number: int, _before: int) -> errors.AnomalyError:
        bench.lose(0)
        return errors.DetectorFailed("500")

    bench.detector.script = script
    bench.drain()
    assert bench.detector.asked == {1: 1}
    assert bench.store.outcome == {}


@pytest.mark.parametrize("error", [errors.DetectorFailed("500"), errors.Throttled("429", retry_after_s=3600), errors.DetectorRefused("no")])
def test_an_interrupted_task_ends_whatever_its_last_requests_come_to(error: errors.AnomalyError) -> None:
    bench = Bench(FakeStore([claims(range(50))]), holder=Holder(map_index=0, try_number=4, last_try=True))
    pipeline = bench.pipeline()
    bench.detector.meet = threading.Barrier(SETTINGS.detector_slots, action=pipeline.interrupt)
    bench.detector.script = lambda _n, _b: error
    with pytest.raises(errors.Interrupted):
        pipeline.drain()
    assert bench.store.released
    assert sum(bench.detector.asked.values()) == SETTINGS.detector_slots
