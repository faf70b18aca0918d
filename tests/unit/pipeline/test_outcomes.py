"""How a record without a verdict is written down while the database comes and goes."""

from __future__ import annotations

import pytest

from anomaly import errors
from tests.parts.fakes import Bench, FakeDetector, FakeImages, FakeStore, claims, once


def test_an_ending_that_the_database_did_not_take_is_written_again() -> None:
    gone = once(errors.DatabaseUnavailable("cut"))
    store = FakeStore([claims(range(3))], fails=lambda name, _: gone() if name == "quarantine" else None)
    Bench(store, images=FakeImages(lambda n: errors.ImageNotFound("gone") if n == 1 else None)).drain()
    assert store.outcome == {0: "committed", 1: "quarantined image_not_found", 2: "committed"}
    assert store.ended[0]["ended"] == {"committed": 2, "quarantined": 1}


def test_an_ending_of_a_record_that_is_someone_elses_changes_nothing_and_the_others_are_done() -> None:
    store = FakeStore([claims(range(3))], fails=lambda name, _: errors.LeaseLost("stale") if name == "quarantine" else None)
    Bench(store, detector=FakeDetector(lambda n, _: errors.DetectorRefused("no") if n == 1 else None)).drain()
    assert store.outcome == {0: "committed", 2: "committed"}


@pytest.mark.parametrize("error", [errors.Misconfigured("no such column"), ZeroDivisionError("a fault of ours")])
def test_an_ending_that_can_never_be_written_stops_the_task_and_releases_what_it_holds(error: Exception) -> None:
    store = FakeStore([claims(range(50))], fails=lambda name, _: error if name == "quarantine" else None)
    with pytest.raises(type(error)):
        Bench(store, images=FakeImages(lambda n: errors.ImageNotFound("gone") if n == 1 else None)).drain()
    assert store.released
    assert 1 not in store.outcome
