"""Counting and requeueing quarantined records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly.db.quarantine import REQUEUE_SIZE, QuarantineStore
from anomaly.errors import Misconfigured
from anomaly.models.runs import QuarantineFilter

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb


@pytest.fixture
def quarantine(db: RecordsDb) -> QuarantineStore:
    return QuarantineStore(db.database)


def quarantined(db: RecordsDb, count: int, code: str) -> list[int]:
    ids = db.add(count, status="quarantined")
    db.do("update anomaly.records set last_error_code = %(code)s, attempts = 5, lost = 2 where id = any(%(ids)s)", code=code, ids=ids)
    return ids


def test_records_are_chosen_by_code_by_window_by_id_and_by_all_at_once(db: RecordsDb, quarantine: QuarantineStore) -> None:
    missing, refused = quarantined(db, 6, "image_not_found"), quarantined(db, 3, "detector_refused")
    db.add(2)
    db.add(2, status="done")
    window = db.window(1, 3)
    assert quarantine.count(QuarantineFilter()) == {"image_not_found": 6, "detector_refused": 3}
    assert quarantine.count(QuarantineFilter(error_code="detector_refused")) == {"detector_refused": 3}
    assert quarantine.count(QuarantineFilter(window=window)) == {"image_not_found": 2, "detector_refused": 2}
    assert quarantine.count(QuarantineFilter(record_ids=(missing[0], refused[2]))) == {"image_not_found": 1, "detector_refused": 1}
    assert quarantine.count(QuarantineFilter(error_code="image_not_found", window=window, record_ids=(missing[0], missing[1]))) == {
        "image_not_found": 1
    }


def test_what_is_chosen_is_due_again_with_no_attempt_counted_and_the_log_says_on_whose_word(
    db: RecordsDb, quarantine: QuarantineStore
) -> None:
    ids, _ = quarantined(db, 3, "image_not_found"), quarantined(db, 2, "detector_refused")
    assert quarantine.requeue(QuarantineFilter(error_code="image_not_found"), actor="ann", dry_run=False) == {"image_not_found": 3}
    assert db.statuses() == {"pending": 3, "quarantined": 2}
    assert {(db.record(n)["attempts"], db.record(n)["lost"]) for n in ids} == {(0, 0)}
    logged = db.rows("select record_id, event, actor from anomaly.processing_log order by record_id")
    assert logged == [{"record_id": n, "event": "requeued", "actor": "ann"} for n in ids]
    assert len(db.open(db.claim())) == 3


def test_a_dry_run_only_counts(db: RecordsDb, quarantine: QuarantineStore) -> None:
    quarantined(db, 3, "image_not_found")
    before = db.everything()
    assert quarantine.requeue(QuarantineFilter(), actor="ann", dry_run=True) == {"image_not_found": 3}
    assert db.everything() == before


def test_everything_at_once_has_to_be_meant(db: RecordsDb, quarantine: QuarantineStore) -> None:
    quarantined(db, 1, "image_not_found")
    with pytest.raises(Misconfigured, match="choose the quarantined records by error_code"):
        quarantine.requeue(QuarantineFilter(), actor="ann", dry_run=False)
    assert db.statuses() == {"quarantined": 1}


def test_many_records_take_several_short_statements_and_the_bound_holds(db: RecordsDb, quarantine: QuarantineStore) -> None:
    quarantined(db, REQUEUE_SIZE + 200, "image_not_found")
    assert quarantine.requeue_at_most(REQUEUE_SIZE + 100, QuarantineFilter(), actor="ann") == REQUEUE_SIZE + 100
    assert db.statuses() == {"pending": REQUEUE_SIZE + 100, "quarantined": 100}
