"""What the detector has said about an image is not paid for again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from anomaly import errors
from anomaly.models.answers import Answer, Ask, EarlierAnswer, FoundAnswer, Verdict
from anomaly.models.runs import Holder
from anomaly.pipeline.deduplication import GROUP, RETRY_S, Deduplication
from anomaly.pipeline.stages import Stage
from tests.parts import fake_clock
from tests.parts.fakes import ANSWERED_AT, BOUND_S, RUN, SETTINGS, Bench, FakeArchive, FakeDetector, FakeImages, FakeStore, claims

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from anomaly.models.answers import AnswerLookup
    from anomaly.models.records import Claim, Image
    from tests.parts.fake_clock import FakeClockLoop

REQUEST = UUID(int=7)
EARLIER = EarlierAnswer(answer_key="answers/of/another/run", heatmap_key="heatmaps/m0/of/another/run")


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


def test_a_record_to_be_scored_again_is_asked_about_whatever_was_answered_before() -> None:
    anew, usual = (replace(claim, token=9, ask_anew=request) for claim, request in zip(claims([1, 2]), (REQUEST, None), strict=True))
    store = FakeStore([(anew, usual)], earlier={"1": EARLIER, "2": EARLIER})
    archive = FakeArchive(answers={EARLIER.answer_key: b"{}", "answers/1": b"{}"})
    bench = Bench(store, archive=archive)
    bench.drain()
    assert store.outcome == {1: "committed", 2: "reused"}
    assert bench.detector.asked == {1: 1}


def test_records_to_be_scored_again_by_one_request_share_the_answer_to_their_image_and_others_do_not() -> None:
    anew = tuple(replace(claim, ask_anew=REQUEST) for claim in of_image(5, 3))
    fetched = threading.Barrier(4)

    def fetched_together(_number: int) -> None:
        fetched.wait(BOUND_S)

    # No request is answered before each record has its image, and both requests are sent.
    detector = FakeDetector(meet=threading.Barrier(2))
    store, settings = FakeStore([anew + of_image(5, 1, first=10)]), replace(SETTINGS, fetch_workers=4)
    bench = Bench(store, images=FakeImages(fetched_together), detector=detector, settings=settings)
    bench.drain()
    assert bench.detector.asked == {5: 2}
    assert sorted(bench.store.outcome.values()) == ["committed", "committed", "reused", "reused"]


def test_an_earlier_answer_that_is_gone_from_the_bucket_is_asked_for_again() -> None:
    bench = Bench(FakeStore([claims([1])], earlier={"1": EARLIER}))
    bench.drain()
    assert bench.store.outcome == {1: "committed"}
    assert bench.store.heatmaps == {1: "heatmaps/1"}


class AnotherMapping(FakeDetector):
    """The same detector, whose answers are read by another mapping: it finds no score in an answer of before."""

    config, reading = FakeDetector.config, "m1"

    def read(self, raw: bytes) -> Verdict:
        if raw == b"of before":
            raise errors.DetectorAnswerInvalid("'score' is missing")
        return replace(super().read(raw), is_anomaly=True, heatmap=b"png" if raw == b"{}" else None)


def test_an_archived_answer_is_read_by_the_mapping_of_now_and_its_heat_map_is_kept_apart_from_that_of_before() -> None:
    store = FakeStore([claims([1, 2])], earlier={"1": EARLIER, "2": replace(EARLIER, answer_key="answers/plain")})
    archive = FakeArchive(answers={EARLIER.answer_key: b"{}", "answers/plain": b"[]"})
    bench = Bench(store, archive=archive, detector=AnotherMapping())
    bench.drain()
    assert store.outcome == {1: "reused", 2: "reused"}
    assert bench.detector.asked == {}
    assert archive.writes_of_answers == 0
    assert store.heatmaps == {1: "heatmaps/1", 2: None}


def test_an_archived_answer_that_the_mapping_cannot_read_stays_and_the_new_one_is_kept_beside_it() -> None:
    key = "answers/c0/None/1"
    archive = FakeArchive(answers={key: b"of before"})
    store = FakeStore([claims([1])], earlier={"1": EarlierAnswer(answer_key=key)})
    bench = Bench(store, archive=archive, detector=AnotherMapping())
    bench.drain()
    assert store.outcome == {1: "committed"}
    assert archive.answers == {key: b"of before", "answers/m1/None/1": b"{}"}
    later = Bench(FakeStore([claims([1])], turn=lambda *_: Ask.TAKEN_OVER), archive=archive, detector=AnotherMapping())
    later.drain()
    assert later.store.outcome == {1: "reused"}
    assert later.detector.asked == {}


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
Ask_ = Callable[[int], Ask | None]


class Rig:
    """Records that look for answers on a clock that stands still. A script says which record may ask about an image.

    Args:
        ask: called with the image; None where there is an answer.
    """

    def __init__(self, loop: FakeClockLoop, ask: Ask_ = lambda _: Ask.ELSEWHERE) -> None:
        self.loop = loop
        self.ask = ask
        self.looked: list[list[int]] = []
        """The images of each look-up."""
        self.asked: list[int] = []
        self.done: list[int] = []
        """The records that asked, and those that have an answer."""
        self.lost: set[int] = set()
        """Records whose chunk is lost."""
        self.store = FakeStore([])
        self.archive = FakeArchive(answers={EARLIER.answer_key: b"{}"})
        self.store.find_or_acquire_ask = self._find  # type: ignore[method-assign]
        self.finding, self.reading = Stage("find", workers=1), Stage("read", workers=1)
        self.answers: dict[int, asyncio.Future[Answer]] = {}
        may_start = asyncio.Event()
        may_start.set()
        self.deduplication = Deduplication(
            Bench(self.store, archive=self.archive).parts(),
            patiently=lambda stage, call, *arguments, **timed: stage.run(call, *arguments, **timed),
            finding=self.finding,
            reading=self.reading,
            check=self._check,
            running_low=lambda: True,
            fetching=Stage("fetch", workers=1),
            may_start=may_start,
        )
        self.tasks = [asyncio.create_task(self.deduplication.look_up_groups())]

    def _find(self, *_: object, wanted: Sequence[AnswerLookup], **_also: object) -> dict[str, FoundAnswer | Ask]:
        self.looked.append([int(each.image_sha256) for each in wanted])
        found = {each.image_sha256: self.ask(int(each.image_sha256)) for each in wanted}
        return {image: ask or FoundAnswer(earlier=EARLIER, at=ANSWERED_AT) for image, ask in found.items()}

    def _check(self, claim: Claim) -> None:
        if claim.record_id in self.lost:
            raise errors.LeaseLost("gone")

    async def add(self, *records: int, image: int | None = None) -> None:
        self.tasks += [asyncio.create_task(self._answer(claim, claim.record_id if image is None else image)) for claim in claims(records)]
        await self.settle()

    async def _answer(self, claim: Claim, number: int) -> None:
        async def ask() -> Answer:
            self.asked.append(claim.record_id)
            self.answers[claim.record_id] = self.loop.create_future()
            return await self.answers[claim.record_id]

        stays_claimed = False
        try:
            await self.deduplication.answer(claim, FakeImages().fetch(f"http://images/{number}"), ask, {})
            self.done.append(claim.record_id)
        except errors.DetectorFailed:
            stays_claimed = True
        except errors.LeaseLost:
            pass
        await self.deduplication.end(claim, stays_claimed=stays_claimed)

    async def settle(self) -> None:
        """Let everything happen that is due."""
        await self.loop.settle(lambda: bool(self.finding.busy or self.reading.busy))

    async def wait(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due by then."""
        self.loop.advance(seconds)
        await self.settle()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.finding.close()
        self.reading.close()


def on_a_rig(test: Callable[[Rig], Coroutine[None, None, None]], ask: Ask_ = lambda _: Ask.ELSEWHERE) -> None:
    async def main(loop: FakeClockLoop) -> None:
        rig = Rig(loop, ask)
        try:
            await test(rig)
        finally:
            rig.close()

    fake_clock.run(main)


def test_a_record_whose_image_another_task_asks_about_looks_again_after_half_a_second_and_not_before() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1)
        await rig.wait(RETRY_S * 0.9)
        assert (rig.looked, rig.asked, rig.done) == ([[1]], [], [])
        rig.ask = lambda _: None
        await rig.wait(RETRY_S * 0.11)
        assert (rig.looked, rig.asked, rig.done) == ([[1], [1]], [], [1])

    on_a_rig(test)


def test_those_that_wait_for_other_tasks_are_looked_up_together() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1, 2)
        await rig.wait(RETRY_S / 2)
        await rig.add(3)
        await rig.wait(RETRY_S / 2 + 0.001)
        assert rig.looked == [[1, 2], [3], [1, 2, 3]]

    on_a_rig(test)


def test_a_record_that_waits_holds_up_nobody_else() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1, 2)
        await rig.add(3)
        assert (rig.asked, rig.done) == ([2, 3], [])

    on_a_rig(test, lambda image: Ask.ELSEWHERE if image == 1 else Ask.OWNED)


def test_an_ask_that_becomes_free_is_taken() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1)
        rig.ask = lambda _: Ask.OWNED
        await rig.wait(RETRY_S + 0.001)
        assert rig.asked == [1]

    on_a_rig(test)


def test_records_of_a_task_that_share_an_image_wait_as_one_and_all_have_the_answer() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1, 2, 3, image=9)
        rig.ask = lambda _: None
        await rig.wait(RETRY_S + 0.001)
        assert (rig.looked, rig.done) == ([[9], [9]], [1, 2, 3])

    on_a_rig(test)


def test_a_record_that_loses_its_lease_while_it_waits_leaves_its_place_to_the_next_with_its_image() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1, 2, image=9)
        rig.lost.add(1)
        rig.ask = lambda _: Ask.OWNED
        await rig.wait(RETRY_S + 0.001)
        assert rig.asked == [2]

    on_a_rig(test)


def test_before_an_ask_that_was_taken_over_is_used_the_bucket_is_looked_into() -> None:
    async def test(rig: Rig) -> None:
        rig.archive.answers["answers/c0/None/1"] = b"{}"
        await rig.add(1)
        assert (rig.asked, rig.done) == ([], [1])
        await rig.add(2)
        assert (rig.asked, rig.done) == ([2], [1])

    on_a_rig(test, lambda _: Ask.TAKEN_OVER)


@pytest.mark.parametrize(("fails", "released"), [(True, ["1"]), (False, [])])
def test_only_a_record_that_stays_claimed_without_asking_gives_its_ask_up(*, fails: bool, released: list[str]) -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1)
        if fails:
            rig.answers[1].set_exception(errors.DetectorFailed("500"))
        else:
            rig.answers[1].set_result(AN_ANSWER)
        await rig.settle()
        assert rig.store.dropped == released

    on_a_rig(test, lambda _: Ask.OWNED)


def test_an_ask_that_the_next_record_of_the_task_takes_over_is_not_given_up() -> None:
    async def test(rig: Rig) -> None:
        await rig.add(1, 2, image=9)
        rig.answers[1].set_exception(errors.DetectorFailed("500"))
        await rig.settle()
        assert (rig.asked, rig.store.dropped) == ([1, 2], [])

    on_a_rig(test, lambda _: Ask.OWNED)


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
    assert "other tasks wait for record id=1 until this try ends: gone" in caplog.text
