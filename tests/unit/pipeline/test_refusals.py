"""Refusals concern a record where others are accepted, and the run where none is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from anomaly import errors
from anomaly.models.runs import Holder
from tests.parts.fakes import RUN, SETTINGS, Bench, FakeDetector, FakeImages, FakeStore, claims

LAST_TRY = Holder(map_index=0, try_number=4, last_try=True)
BLOCKED = errors.AddressBlocked("10.0.0.7 (see allow_networks)", by_network=True)
OF_THE_DETECTOR = [
    errors.DetectorRefused("answered 422: 'field image is required'"),
    errors.DetectorRefused("answered 403", run_error=errors.DetectorDenied),
    errors.DetectorAnswerInvalid("'score' is missing"),
]
RELEASED = "given back for 0 s"
OF_THE_HOST = [errors.ImageDenied("answered 401"), BLOCKED]
UNEXPECTED = [
    ValueError("Invalid IPv6 URL"),
    OverflowError("int too large"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    RecursionError("deep"),
    KeyError("no such key"),
    MemoryError(),
]


def bench(count: int, *, proven: bool = False, **fields: object) -> Bench:
    return Bench(FakeStore([claims(range(count))]), proven=proven, **fields)  # type: ignore[arg-type]  # the fields of a Bench


@pytest.mark.parametrize("error", OF_THE_DETECTOR, ids=str)
@pytest.mark.parametrize("proven", [True, False])
def test_a_detector_that_refuses_everything_stops_the_run_with_its_words_and_nothing_is_quarantined(
    error: errors.AnomalyError, *, proven: bool
) -> None:
    of = bench(40, proven=proven, detector=FakeDetector(lambda _n, _b: error))
    with pytest.raises(errors.RunStopped) as raised:
        of.drain()
    assert str(error) in str(raised.value)
    assert type(raised.value) is error.run_error
    assert of.store.released
    assert not any(outcome.startswith("quarantined") for outcome in of.store.outcome.values())


@pytest.mark.parametrize("error", OF_THE_DETECTOR, ids=str)
def test_a_detector_that_has_never_answered_is_asked_no_more_than_a_few_times_before_the_run_stops(error: errors.AnomalyError) -> None:
    settings = replace(SETTINGS, detector_slots=32, fetch_workers=16)
    of = bench(40, detector=FakeDetector(lambda _n, _b: error), settings=settings)
    with pytest.raises(errors.RunStopped):
        of.drain()
    assert sum(of.detector.asked.values()) <= SETTINGS.refusals_max
    assert set(of.store.outcome.values()) == {RELEASED}


@pytest.mark.parametrize("error", OF_THE_HOST, ids=str)
def test_hosts_that_refuse_every_image_stop_the_run_and_nothing_is_quarantined(error: errors.AnomalyError) -> None:
    of = bench(40, images=FakeImages(lambda _: error))
    with pytest.raises(errors.Misconfigured) as raised:
        of.drain()
    assert str(error) in str(raised.value)
    assert set(of.store.outcome.values()) == {RELEASED}
    assert of.store.released


@pytest.mark.parametrize("error", OF_THE_DETECTOR[:2], ids=str)
def test_a_refusal_concerns_its_record_where_others_are_answered(error: errors.AnomalyError) -> None:
    of = bench(400, detector=FakeDetector(lambda n, _: error if n == 7 else None))
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 399, f"quarantined {error.code}": 1}


@pytest.mark.parametrize("error", OF_THE_HOST, ids=str)
def test_a_host_that_refuses_one_image_concerns_its_record_where_others_are_fetched(error: errors.AnomalyError) -> None:
    of = bench(400, images=FakeImages(lambda n: error if n == 0 else None))
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 399, f"quarantined {error.code}": 1}


def test_an_unreadable_answer_among_readable_ones_is_asked_for_once_more_and_then_counted() -> None:
    invalid = errors.DetectorAnswerInvalid("'score' is missing")
    of = bench(400, detector=FakeDetector(lambda n, _: invalid if n == 399 else None))
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 399, "deferred detector_answer_invalid": 1}
    assert of.detector.asked[399] == 2


@pytest.mark.parametrize("proven", [True, False])
def test_a_database_that_refuses_every_result_stops_the_run_with_its_words_and_nothing_is_quarantined(*, proven: bool) -> None:
    of = bench(400, proven=proven)
    of.store.commit_error = lambda _: errors.ResultRefused("the trigger 'audit' says no")
    with pytest.raises(errors.Misconfigured, match="the trigger 'audit' says no"):
        of.drain()
    assert of.store.released
    assert sum(of.store.commits.values()) < 40  # those in work when the run stops are paid for, and tried
    assert set(of.store.outcome.values()) == {"deferred result_refused" if proven else RELEASED}


def test_a_result_that_the_database_refuses_concerns_its_record_where_others_are_stored() -> None:
    of = bench(400)
    of.store.commit_error = lambda claim: errors.ResultRefused("no") if claim.record_id < 4 else None
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 396, "deferred result_refused": 4}


def test_refusals_before_the_first_answer_wait_for_it() -> None:
    error = errors.DetectorRefused("422")
    of = bench(30, detector=FakeDetector(lambda n, _: error if n < 4 else None))
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 26, "quarantined detector_refused": 4}


@pytest.mark.parametrize(("proven", "outcome"), [(True, {0: "quarantined detector_refused"}), (False, {0: RELEASED})])
def test_a_single_refused_record_is_at_fault_only_if_the_detector_has_answered_in_an_earlier_run(
    *, proven: bool, outcome: dict[int, str]
) -> None:
    of = bench(1, proven=proven, detector=FakeDetector(lambda _n, _b: errors.DetectorRefused("422")))
    if proven:
        of.drain()
    else:
        with pytest.raises(errors.Misconfigured):
            of.drain()
    assert of.store.outcome == outcome


def test_bad_records_that_are_left_alone_count_an_attempt_each_time_so_that_they_end_in_quarantine() -> None:
    of = bench(8, proven=True, detector=FakeDetector(lambda _n, _b: errors.DetectorRefused("422")))
    with pytest.raises(errors.Misconfigured):
        of.drain()
    assert len(of.store.outcome) >= SETTINGS.refusals_max
    assert set(of.store.outcome.values()) == {"deferred detector_refused"}


def test_a_suspect_is_worked_while_refused_records_wait() -> None:
    store = FakeStore([claims(range(3)) + claims([3], lost=3)])
    of = Bench(store, proven=False, detector=FakeDetector(lambda n, _: errors.DetectorRefused("422") if n < 3 else None))
    of.drain()
    assert of.store.outcome == dict.fromkeys(range(3), "quarantined detector_refused") | {3: "committed"}


def test_a_detector_that_answered_is_remembered_for_later_runs() -> None:
    of = bench(3)
    of.drain()
    assert of.store.proven == {"m0"}
    refused = bench(3, images=FakeImages(lambda _: errors.ImageNotFound("404")))
    refused.drain()
    assert refused.store.proven == set()


# ── an exception that nobody expects


@pytest.mark.parametrize("where", ["fetch", "detect", "commit"])
@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_an_unexpected_exception_concerns_one_record_and_the_others_are_done(
    error: Exception, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = 7
    of = bench(400, proven=True, holder=LAST_TRY)
    if where == "fetch":
        of.images.error = lambda n: error if n == bad else None
    elif where == "detect":
        of.detector.script = lambda n, _: error if n == bad else None
    else:
        of.store.commit_error = lambda claim: error if claim.record_id == bad else None
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 399, "deferred internal_error": 1}
    assert of.store.outcome[bad] == "deferred internal_error"
    assert f"record id={bad} failed with an unexpected error" in caplog.text


def test_an_unexpected_exception_on_an_earlier_try_leaves_its_record_for_the_next_one() -> None:
    of = bench(20, proven=True, images=FakeImages(lambda n: ValueError("bad") if n == 3 else None))
    with pytest.raises(errors.ChunkIncomplete):
        of.drain()
    assert of.store.outcome == dict.fromkeys(set(range(20)) - {3}, "committed")


# ── too many failures


def test_a_run_in_which_too_many_records_fail_stops_while_it_works() -> None:
    of = bench(400, proven=True, images=FakeImages(lambda n: errors.ImageNotFound("404") if n % 3 else None))
    with pytest.raises(errors.FailureRateExceeded, match=r"of \d+ records failed, more than max_failure_rate=0.5 allows"):
        of.drain()
    assert 50 <= len(of.store.outcome) < 200
    assert of.store.released


def test_the_failure_rate_is_not_judged_before_fifty_records() -> None:
    of = bench(49, proven=True, images=FakeImages(lambda n: errors.ImageNotFound("404") if n else None))
    of.drain()
    assert Counter(of.store.outcome.values()) == {"committed": 1, "quarantined image_not_found": 48}


def test_a_run_that_may_fail_altogether_works_every_record() -> None:
    of = bench(
        120, proven=True, run=replace(RUN, max_failure_rate=1.0), images=FakeImages(lambda n: errors.ImageNotFound("404") if n else None)
    )
    of.drain()
    assert len(of.store.outcome) == 120
