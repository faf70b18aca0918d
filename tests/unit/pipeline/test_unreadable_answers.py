"""An unreadable answer is archived, and its record has the key; a bucket that is away costs nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from tests.parts.fakes import SETTINGS, Bench, FakeArchive, FakeDetector, FakeStore, claims

if TYPE_CHECKING:
    from anomaly.models.records import Claim


def invalid(number: int) -> errors.DetectorAnswerInvalid:
    return errors.DetectorAnswerInvalid("'score' is missing", begins="{}", raw=b"{}", image_sha256=str(number))


@dataclass
class RememberingStore(FakeStore):
    """Keeps the sentence with which each record ended."""

    sentences: dict[int, str] = field(default_factory=dict)

    def defer(self, claim: Claim, *, error: errors.AnomalyError, timings: dict[str, float]) -> str:
        self.sentences[claim.record_id] = str(error)
        return super().defer(claim, error=error, timings=timings)

    def give_back(self, claim: Claim, *, error: errors.AnomalyError, not_before_s: float) -> str:
        self.sentences[claim.record_id] = str(error)
        return super().give_back(claim, error=error, not_before_s=not_before_s)


def test_one_unreadable_answer_among_others_is_kept_and_named() -> None:
    store = RememberingStore([claims(range(40))])
    of = Bench(store, detector=FakeDetector(lambda n, _: invalid(n) if n == 7 else None))
    of.drain()
    assert of.archive.unreadable == {"unreadable/c0/7": b"{}"}
    assert of.store.outcome[7] == "deferred detector_answer_invalid"
    assert store.sentences[7] == "'score' is missing; it is kept as unreadable/c0/7; the answer begins: {}"


@pytest.mark.parametrize("proven", [True, False])
def test_a_run_that_stops_over_unreadable_answers_keeps_each_and_counts_no_attempt_of_a_new_detector(*, proven: bool) -> None:
    store = RememberingStore([claims(range(20))])
    of = Bench(store, proven=proven, detector=FakeDetector(lambda n, _: invalid(n)))
    with pytest.raises(errors.Misconfigured, match="it is kept as unreadable/c0/"):
        of.drain()
    assert set(of.archive.unreadable) == {f"unreadable/c0/{number}" for number in of.store.outcome}
    assert all("'score' is missing; it is kept as" in str(sentence) for sentence in store.sentences.values())
    if not proven:
        assert sum(of.detector.asked.values()) <= SETTINGS.refusals_max
        assert set(of.store.outcome.values()) == {"given back for 0 s"}


@pytest.mark.parametrize("error", [errors.ArchiveUnavailable("503"), errors.Misconfigured("no such bucket")])
def test_a_bucket_that_does_not_take_an_unreadable_answer_costs_a_warning(
    error: errors.AnomalyError, caplog: pytest.LogCaptureFixture
) -> None:
    archive = FakeArchive(unreadable_error=error)
    store = RememberingStore([claims(range(5))])
    of = Bench(store, archive=archive, detector=FakeDetector(lambda n, _: invalid(n) if n == 3 else None))
    of.drain()
    assert store.sentences[3] == "'score' is missing; the answer begins: {}"
    assert of.store.outcome[3] == "deferred detector_answer_invalid"
    assert f"unreadable answer not archived: {error}" in caplog.messages
