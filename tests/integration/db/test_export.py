"""Records for an export: by status, by the gallery's filter, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.export import ExportFilter, ExportStore
from anomaly.db.page_gallery import GalleryFilter
from anomaly.errors import ImageNotFound
from anomaly.models.runs import Window
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from tests.parts.record_builders import RecordsDb


@pytest.fixture
def scored(db: RecordsDb) -> RecordsDb:
    """Five done records: padim@1 calls all anomalous, padim@2 only the even ones, and the last one was scored by padim@1 alone."""
    for claim in db.claims(5):
        db.commit(claim)
    run = db.run("again")
    for number, claim in enumerate(db.open(db.claim(run, origin="done", size=4), run=run)):
        db.commit(claim, an_answer(number / 10, is_anomaly=number % 2 == 0, detector="padim@2"))
    return db


def rows(db: RecordsDb, **chosen: Any) -> list[dict[str, Any]]:
    return list(ExportStore(db.database, page=2).rows(ExportFilter(**chosen)))


def ids(db: RecordsDb, **chosen: Any) -> list[int]:
    return [row["record_id"] for row in rows(db, **chosen)]


def test_an_export_has_each_record_once_with_its_newest_result(scored: RecordsDb) -> None:
    pending = scored.add(3)
    found = rows(scored)
    assert [(row["record_id"], row["status"], row["detector"]) for row in found] == [
        *((each, "pending", None) for each in pending),
        *((each, "done", "padim@2") for each in (1, 2, 3, 4)),
        (5, "done", "padim@1"),
    ]
    assert found[-1]["needs_review"] is True


def test_an_export_is_limited_by_status_detector_code_and_window(scored: RecordsDb) -> None:
    (failed,) = scored.claims(1)
    scored.store.quarantine(failed, error=ImageNotFound("404"), timings={})
    assert ids(scored, statuses=("done",), window=scored.window(1, 3)) == [2, 3]
    assert ids(scored, detector="padim@2") == [1, 2, 3, 4]
    assert ids(scored, error_code="image_not_found") == ids(scored, statuses=("quarantined",)) == [failed.record_id]
    assert ids(scored, statuses=("claimed",)) == []
    first = rows(scored, detector="padim@1", window=Window(end=scored.window(0, 1).end))[0]
    assert (first["record_id"], first["score"]) == (1, 0.9)


def test_judged_records_are_chosen_as_the_gallery_chooses_them_and_come_by_score(scored: RecordsDb) -> None:
    scored.add(2)
    assert ids(scored, judged=GalleryFilter()) == [5, 4, 3, 2, 1]
    assert ids(scored, judged=GalleryFilter(verdict=True)) == [5, 3, 1]
    assert ids(scored, judged=GalleryFilter(verdict=True, detector="padim@2", low=0.1)) == [3]
    assert ids(scored, judged=GalleryFilter(), statuses=("pending",)) == []


def test_a_record_that_moves_to_another_status_between_page_and_row_is_left_out(scored: RecordsDb) -> None:
    found = ExportStore(scored.database, page=2).rows(ExportFilter(statuses=("done",)))
    first = next(found)
    scored.do("update anomaly.records set status = 'quarantined' where id > 2")
    assert [first["record_id"], *(row["record_id"] for row in found)] == [1, 2]
