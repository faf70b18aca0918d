"""What the detector has said about an image is not paid for again."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.models.answers import Answer, Ask, EarlierAnswer, Verdict
from anomaly.models.runs import Holder
from anomaly.pipeline.deduplication import AGAIN_S, GROUP, Reuse
from anomaly.pipeline.record import Work
from anomaly.pipeline.stages import Loop
from tests.parts.fakes import BOUND_S, RUN, SETTINGS, Bench, FakeArchive, FakeDetector, FakeImages, FakeStore, claims

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim, Image
    from anomaly.pipeline.stages import Step

EARLIER = EarlierAnswer(answer_key="answers/of/another/run", heatmap_key="heatmaps/of/another/run")


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
    here = threading.Semaphore(0)

    class Counting(FakeArchive):
        def put_image(self, image: Image) -> str:
            here.release()
            return super().put_image(image)

    bench = Bench(FakeStore([of_image(5, 1), replace_chunk(of_image(5, 3, first=10), 1)]), archive=Counting())
    asked = threading.Event()

    def lose(_n: int, _before: int) -> None:
        if not asked.is_set():
            asked.set()
            for _ in range(4):  # until all of them wait for this answer
                assert here.acquire(timeout=20)
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


# ── another task asks


AN_ANSWER = Answer(raw=b"{}", verdict=Verdict(score=0.5, is_anomaly=False, detector="fake@1"), latency_ms=1.0)


@dataclass
class Rig:
    """Records that look for answers, on a clock that stands still; whose turn it is, a script says."""

    turn: Callable[[int], Ask | None] = lambda _: Ask.ELSEWHERE
    """Called with the image; None where there is an answer."""
    now_s: float = 0.0
    looked: list[list[int]] = field(default_factory=list)
    """The images of each look-up."""
    asked: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    """The records that are asked about, and those that have an answer."""
    over: set[int] = field(default_factory=set)
    """Records whose chunk is lost."""
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = Loop(clock=lambda: self.now_s)
        reading = self.loop.stage("read", workers=1)
        self.reuse = Reuse(
            find=self._find, drop=self._drop, read=self._read, reading=reading, then=self, loop=self.loop, clock=lambda: self.now_s
        )

    def _find(self, group: list[Work]) -> None:
        for work in group:
            work.turn = self.turn(image_of(work))
            work.earlier = None if work.turn else EARLIER
        self.looked.append([image_of(work) for work in group])

    def _read(self, work: Work) -> None:
        if work.earlier:
            work.answer = AN_ANSWER

    def _drop(self, _claim: Claim, image_sha256: str) -> None:
        self.dropped.append(image_sha256)

    def goes_on(self, work: Work) -> bool:
        if work.claim.record_id in self.over and not work.ended:
            work.ended = True
            self.reuse.settle(work)
        return not work.ended

    def answered(self, work: Work) -> None:
        self.done.append(work.claim.record_id)
        self.reuse.settle(work)

    def unanswered(self, work: Work) -> None:
        self.asked.append(work.claim.record_id)

    def failed(self, step: Step, work: Work, error: BaseException) -> None:
        raise AssertionError(step.name, work.claim) from error

    def add(self, *records: int, image: int | None = None) -> list[Work]:
        works = [Work(claim) for claim in claims(records)]
        for work, record in zip(works, records, strict=True):
            work.image = FakeImages().fetch(f"http://images/{record if image is None else image}")
            self.reuse.add(work)
        return works

    def wait(self, seconds: float) -> None:
        """So much time passes, and what is due then happens."""
        self.now_s += seconds
        self.loop.run_once(wait_s=0)
        self.reuse.start(hungry=True, fetching=False)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + BOUND_S
        while not condition():
            assert time.monotonic() < deadline
            self.loop.run_once(wait_s=0.01)

    def look(self, *, after_s: float = 0.0) -> None:
        """The next look-up, which has to be due by then, and what follows from it."""
        before = len(self.looked)
        self.wait(after_s)
        self.until(lambda: len(self.looked) > before and self.settled)

    @property
    def settled(self) -> bool:
        """Whether no thread has anything to do; what waits for its time may."""
        self.loop.run_once(wait_s=0)
        return not any(stage.busy for stage in self.loop._stages)  # noqa: SLF001  # whatever waits for its time makes `busy` true


def image_of(work: Work) -> int:
    assert work.image
    return int(work.image.sha256)


def test_a_record_whose_image_another_task_asks_about_looks_again_after_half_a_second_and_not_before() -> None:
    rig = Rig()
    rig.add(1)
    rig.look()
    rig.wait(AGAIN_S * 0.9)
    assert (rig.looked, rig.asked, rig.done) == ([[1]], [], [])
    rig.turn = lambda _: None
    rig.look(after_s=AGAIN_S * 0.1)
    rig.until(lambda: rig.done)
    assert (rig.looked, rig.asked, rig.done) == ([[1], [1]], [], [1])


def test_those_that_wait_for_other_tasks_are_looked_up_together() -> None:
    rig = Rig()
    rig.add(1, 2)
    rig.look()
    rig.wait(AGAIN_S / 2)
    rig.add(3)
    rig.look()
    rig.look(after_s=AGAIN_S / 2)
    assert rig.looked == [[1, 2], [3], [1, 2, 3]]


def test_a_record_that_waits_holds_up_nobody_else() -> None:
    rig = Rig(lambda image: Ask.ELSEWHERE if image == 1 else Ask.OWNED)
    rig.add(1, 2)
    rig.look()
    rig.add(3)
    rig.look()
    assert (rig.asked, rig.done) == ([2, 3], [])


def test_a_turn_that_becomes_free_is_taken() -> None:
    rig = Rig()
    rig.add(1)
    rig.look()
    rig.turn = lambda _: Ask.OWNED
    rig.look(after_s=AGAIN_S)
    assert rig.asked == [1]


def test_records_of_a_task_that_share_an_image_wait_as_one_and_all_have_the_answer() -> None:
    rig = Rig()
    rig.add(1, 2, 3, image=9)
    rig.look()
    rig.turn = lambda _: None
    rig.look(after_s=AGAIN_S)
    rig.until(lambda: len(rig.done) == 3)
    assert (rig.looked, rig.done) == ([[9], [9]], [1, 2, 3])


def test_a_record_that_loses_its_lease_while_it_waits_leaves_its_place_to_the_next_with_its_image() -> None:
    rig = Rig()
    rig.add(1, 2, image=9)
    rig.look()
    rig.over.add(1)
    rig.turn = lambda _: Ask.OWNED
    rig.look(after_s=AGAIN_S)
    assert rig.asked == [2]


def test_before_a_turn_that_was_taken_over_is_used_the_bucket_is_looked_into() -> None:
    rig = Rig(lambda _: Ask.TAKEN_OVER)
    [work] = rig.add(1)
    work.answer = AN_ANSWER
    rig.look()
    assert (rig.asked, rig.done) == ([], [1])
    rig.add(2)
    rig.look()
    assert (rig.asked, rig.done) == ([2], [1])


@pytest.mark.parametrize(("left", "dropped"), [(True, ["1"]), (False, [])])
def test_only_a_record_that_stays_claimed_without_asking_gives_its_turn_up(*, left: bool, dropped: list[str]) -> None:
    rig = Rig(lambda _: Ask.OWNED)
    [work] = rig.add(1)
    rig.look()
    rig.reuse.settle(work, left=left)
    rig.until(lambda: rig.settled)
    assert rig.dropped == dropped


def test_a_turn_that_the_next_record_of_the_task_takes_over_is_not_given_up() -> None:
    rig = Rig(lambda _: Ask.OWNED)
    work, _ = rig.add(1, 2, image=9)
    rig.look()
    work.ended = True
    rig.reuse.settle(work, left=True)
    rig.look()
    assert (rig.asked, rig.dropped) == ([1, 2], [])


def test_a_task_whose_records_all_wait_for_others_goes_on_when_they_are_answered() -> None:
    settings = replace(SETTINGS, detector_slots=1, fetch_workers=1, archive_workers=1)
    store = FakeStore([claims(range(6))], turn=lambda _image, before: Ask.OWNED if before else Ask.ELSEWHERE)
    bench = Bench(store, settings=settings)
    bench.drain()
    assert store.outcome == dict.fromkeys(range(6), "committed")
    assert bench.detector.asked == dict.fromkeys(range(6), 1)


class Crossing:
    """Two tasks with the same two images: each asks about its first one, and waits for what the other says about that."""

    def __init__(self) -> None:
        self.earlier: dict[str, EarlierAnswer] = {}
        self.askers: dict[str, int] = {}
        self.crossed = threading.Barrier(2)
        self.asks = [threading.Event(), threading.Event()]

    def task(self, number: int) -> Bench:
        first, second = (1, 2) if number == 0 else (2, 1)

        def turn(image: str, _before: int) -> Ask:
            return Ask.OWNED if self.askers.setdefault(image, number) == number else Ask.ELSEWHERE

        def fetched(image: int) -> None:
            if image == second:  # only once both tasks ask about their first one
                assert self.asks[number].wait(BOUND_S)

        def asked(image: int, _before: int) -> None:
            assert image == first
            self.crossed.wait(BOUND_S)
            self.asks[number].set()

        def committed(claim: Claim) -> None:
            self.earlier[claim.image_url.rsplit("/", 1)[1]] = EARLIER

        records = tuple(replace(claim, image_url=f"http://images/{n}") for claim, n in zip(claims([1, 2]), (first, second), strict=True))
        store = FakeStore([records], earlier=self.earlier, turn=turn, commit_error=committed)
        archive = FakeArchive(answers={EARLIER.answer_key: b"{}"})
        return Bench(store, images=FakeImages(fetched), detector=FakeDetector(asked), archive=archive)


def test_two_tasks_that_wait_for_each_others_images_both_end() -> None:
    crossing = Crossing()
    tasks = [crossing.task(0), crossing.task(1)]
    with ThreadPoolExecutor(2) as threads:
        for drain in [threads.submit(task.drain) for task in tasks]:
            drain.result(BOUND_S)
    assert [task.store.outcome for task in tasks] == [{1: "committed", 2: "reused"}] * 2
    assert [task.detector.asked for task in tasks] == [{1: 1}, {2: 1}]


def test_what_a_dead_task_has_archived_is_found_by_whoever_takes_its_turn_over() -> None:
    store = FakeStore([claims([1, 2])], turn=lambda _image, _before: Ask.TAKEN_OVER)
    bench = Bench(store, archive=FakeArchive(answers={"answers/c0/None/1": b"{}"}))
    bench.drain()
    assert store.outcome == {1: "reused", 2: "committed"}
    assert bench.detector.asked == {2: 1}


def test_an_answer_that_is_gone_from_the_bucket_is_asked_for_by_whose_turn_it_is() -> None:
    store = FakeStore([claims([1])], earlier={"1": EARLIER}, turn=lambda _image, before: Ask.OWNED if before else Ask.ELSEWHERE)
    bench = Bench(store)
    bench.drain()
    assert (store.outcome, bench.detector.asked) == ({1: "committed"}, {1: 1})
    assert store.asks == ["1", "1"]


def test_an_interrupted_task_does_not_wait_for_the_answers_of_others() -> None:
    store = FakeStore([claims(range(4))])
    bench = Bench(store)
    pipeline = bench.pipeline()

    def theirs(_image: str, _before: int) -> Ask:
        pipeline.interrupt()
        return Ask.ELSEWHERE

    store.turn = theirs
    with pytest.raises(errors.Interrupted):
        pipeline.drain()
    assert (store.outcome, store.released, bench.detector.asked) == ({}, True, {})


def test_a_task_whose_chunk_is_lost_while_it_waits_for_others_ends() -> None:
    store = FakeStore([claims(range(4))])
    bench = Bench(store)

    def theirs(_image: str, _before: int) -> Ask:
        bench.lose(0)
        return Ask.ELSEWHERE

    store.turn = theirs
    bench.drain()
    assert [tally.ended for tally in bench.tallies] == [{"lease_lost": 4}]


def test_a_record_that_is_left_for_the_next_try_lets_other_tasks_ask_about_its_image() -> None:
    def fails(number: int, _before: int) -> BaseException | None:
        return errors.DetectorFailed("500") if number == 1 else None

    bench = Bench(FakeStore([claims(range(40))]), detector=FakeDetector(fails), holder=Holder(map_index=0, try_number=1))
    with pytest.raises(errors.ChunkIncomplete):
        bench.drain()
    assert bench.store.dropped == ["1"]
    assert bench.store.outcome.keys() == set(range(40)) - {1}


@pytest.mark.parametrize("error", [errors.DatabaseUnavailable("gone"), errors.LeaseLost("gone")])
def test_a_turn_that_cannot_be_given_up_is_one_warning(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fails(number: int, _before: int) -> BaseException | None:
        return errors.DetectorFailed("500") if number == 1 else None

    store = FakeStore([claims(range(40))], fails=lambda method, _: error if method == "release_ask" else None)
    bench = Bench(store, detector=FakeDetector(fails))
    with pytest.raises(errors.ChunkIncomplete):
        bench.drain()
    assert "others wait for record id=1 until the task's try ends: gone" in caplog.text
