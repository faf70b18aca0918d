"""How a task's chunks are opened, lost and ended, and how its suspects are worked."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.models.runs import Holder
from anomaly.pipeline.chunks import UNFINISHED_MAX
from tests.parts.fakes import SETTINGS, Bench, FakeDetector, FakeStore, claims, once

if TYPE_CHECKING:
    from anomaly.metrics import Tally

SECOND_TRY = Holder(map_index=0, try_number=2)
SOON_S = 0.3
"""Long enough for what must not happen to happen."""


@pytest.mark.parametrize("method", ["claim_chunk", "open_chunk"])
def test_a_drain_goes_on_after_the_database_failed_for_a_moment(method: str) -> None:
    gone = once(errors.DatabaseUnavailable("cut"))
    store = FakeStore([claims(range(5)), claims(range(5, 10), chunk=1), claims(range(10, 12), chunk=2)])
    store.fails = lambda name, number: gone() if (name, number) == (method, 1) else None
    Bench(store).drain()
    assert store.outcome == dict.fromkeys(range(12), "committed")
    assert set(store.ended) == {0, 1, 2}


def test_a_second_try_whose_database_fails_for_a_moment_still_works_every_chunk_that_the_first_one_left() -> None:
    gone = once(errors.DatabaseUnavailable("cut"))
    store = FakeStore([claims([n], chunk=n) for n in range(4)], claimed=4)
    store.fails = lambda name, number: gone() if (name, number) == ("open_chunk", 2) else None
    Bench(store, holder=SECOND_TRY).drain()
    assert store.outcome == dict.fromkeys(range(4), "committed")


def test_a_database_that_stays_away_ends_the_try_and_not_quietly() -> None:
    store = FakeStore([claims(range(5)), claims([9], chunk=1)])
    store.fails = lambda name, _: errors.DatabaseUnavailable("gone") if name == "claim_chunk" else None
    with pytest.raises(errors.DatabaseUnavailable):
        Bench(store, settings=replace(SETTINGS, write_patience_s=0)).drain()
    assert store.released


def test_a_schema_that_does_not_fit_stops_the_task_and_releases_what_it_holds() -> None:
    store = FakeStore([claims(range(5)), claims([9], chunk=1)])
    store.fails = lambda name, _: errors.Misconfigured("no such table") if name == "claim_chunk" else None
    with pytest.raises(errors.Misconfigured):
        Bench(store).drain()
    assert store.released


def test_a_fault_in_our_own_bookkeeping_releases_the_claims_and_is_raised() -> None:
    bench = Bench(FakeStore([claims([0]), claims(range(1, 50), chunk=1)]))

    def broken(_: Tally) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.pipeline(worked=broken).drain()
    assert bench.store.released


def test_a_chunk_that_could_not_be_ended_is_left_to_its_lease_and_the_task_succeeds() -> None:
    store = FakeStore([claims([0])], fails=lambda name, _: errors.DatabaseUnavailable("cut") if name == "end_chunk" else None)
    Bench(store).drain()
    assert store.outcome == {0: "committed"}


def test_leases_that_cannot_be_parked_are_left_to_run_out_and_the_reason_is_still_told() -> None:
    store = FakeStore([claims([0])], fails=lambda name, _: errors.DatabaseUnavailable("cut") if name == "park_chunks" else None)
    with pytest.raises(errors.ChunkIncomplete):
        Bench(store, detector=FakeDetector(lambda _n, _b: errors.DetectorFailed("500"))).drain()


def test_after_three_chunks_with_failures_no_further_one_is_claimed() -> None:
    store = FakeStore([claims([n], chunk=n) for n in range(20)])
    settings = replace(SETTINGS, detector_slots=1, breaker_failures=1000, detector_retries=0)
    with pytest.raises(errors.ChunkIncomplete):
        Bench(store, detector=FakeDetector(lambda _n, _b: errors.DetectorFailed("500")), settings=settings).drain()
    under_way = max(2 * settings.detector_slots + settings.fetch_workers + settings.archive_workers, 2 * settings.refusals_max + 2)
    waiting = 2 * settings.detector_slots
    assert UNFINISHED_MAX <= len(store.opened) <= UNFINISHED_MAX - 1 + under_way + waiting


# ── suspects


def test_while_a_suspect_is_in_work_no_chunk_is_opened_even_where_its_own_is_lost() -> None:
    other_began = threading.Event()
    bench = Bench(FakeStore([claims([0, 1], lost=3), claims([2], chunk=1)]))
    seen: list[bool] = []

    def script(number: int, _before: int) -> None:
        if number == 2:
            other_began.set()
        else:
            bench.lose(0)
            seen.append(other_began.wait(SOON_S))

    bench.detector.script = script
    bench.drain()
    assert seen == [False]
    assert bench.store.outcome == {2: "committed"}


def test_a_suspect_whose_chunk_is_someone_elses_is_dropped_and_the_task_has_nothing_left_to_retry() -> None:
    store = FakeStore([claims([0], lost=3) + claims([1])])
    store.fails = lambda name, _: errors.LeaseLost("not ours") if name == "mark_alone" else None
    bench = Bench(store)
    bench.drain()
    assert store.outcome == {1: "committed"}
    assert not bench.detector.asked[0]


def test_a_suspect_that_cannot_be_marked_is_not_begun_and_is_left_for_the_next_try() -> None:
    store = FakeStore([claims([0, 1], lost=3)])
    store.fails = lambda name, number: errors.DatabaseUnavailable("cut") if (name, number) == ("mark_alone", 0) else None
    bench = Bench(store)
    with pytest.raises(errors.ChunkIncomplete):
        bench.drain()
    assert store.outcome == {1: "committed"}
    assert not bench.detector.asked[0]


def test_a_suspect_that_the_detector_has_no_time_for_is_given_back_with_all_that_wait() -> None:
    store = FakeStore([claims(range(3), lost=3)])
    Bench(store, detector=FakeDetector(lambda _n, _b: errors.Throttled("429", retry_after_s=3600))).drain()
    assert set(store.outcome) == {0, 1, 2}
    assert store.alone == [(0, True), (0, False)]


def test_a_stop_while_a_suspect_is_being_marked_begins_nothing() -> None:
    bench = Bench(FakeStore([claims([0], lost=3)]))
    pipeline = bench.pipeline()
    bench.store.fails = lambda name, _: pipeline.interrupt() if name == "mark_alone" else None
    with pytest.raises(errors.Interrupted):
        pipeline.drain()
    assert not bench.detector.asked
    assert bench.store.released
