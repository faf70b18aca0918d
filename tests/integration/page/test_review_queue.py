"""The review queue: flagged records with the random sample among them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.record_store import RecordStore
from anomaly.page.review_queue import SAMPLED, SIZE
from anomaly.settings import Settings
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site
    from tests.parts.record_builders import RecordsDb

FLAGGED, SAMPLE = 50, 12


def fill(db: RecordsDb) -> None:
    """Add flagged records, records of the sample, and records that need no review."""
    for share, count, is_anomaly in ((0, FLAGGED, True), (1, SAMPLE, False), (0, 5, False)):
        db.store = RecordStore(db.database, Settings(review_share=share), rng=Random(1))
        for n, claim in enumerate(db.claims(count)):
            db.commit(claim, an_answer(0.6 + n / 200 if is_anomaly else n / 200, is_anomaly=is_anomaly))
        db.do("update anomaly.chunks set ended_at = now()")


def pages(site: Site, query: str = "") -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    following: str | None = query
    while following is not None:
        page = site.get(f"/review/queue?{following}").json()
        found.append(page["records"])
        following = page["following"] and "&".join(filter(None, (query, page["following"])))
    return found


@pytest.mark.parametrize("order", ["score", "uncertain", "time"])
def test_each_waiting_record_is_in_the_queue_once_and_the_sample_is_spread_over_it(site: Site, order: str) -> None:
    fill(site.db)
    found = pages(site, f"order={order}")
    ids = [record["record_id"] for page in found for record in page]
    waiting = site.db.rows("select record_id from anomaly.ai_flags where needs_review order by record_id")
    assert sorted(ids) == [row["record_id"] for row in waiting]
    assert len(ids) == FLAGGED + SAMPLE
    assert sum(not record["is_anomaly"] for record in found[0]) == SAMPLED
    assert len(found[0]) == SIZE
    places = [n for n, record in enumerate(found[0]) if not record["is_anomaly"]]
    assert places != list(range(SIZE - SAMPLED, SIZE))


def test_flagged_records_keep_their_order(site: Site) -> None:
    fill(site.db)
    scores = [record["score"] for page in pages(site) for record in page if record["is_anomaly"]]
    assert scores == sorted(scores, reverse=True)


def test_a_queue_of_anomalies_alone_has_no_sample_and_covers_nothing(site: Site) -> None:
    fill(site.db)
    assert all(record["is_anomaly"] for page in pages(site, "verdict=anomaly") for record in page)
    assert 'data-mixed="no"' in site.get("/review", verdict="anomaly").text
    assert 'data-mixed="yes"' in site.get("/review").text


def test_a_record_of_the_sample_has_no_mark_in_the_queue_and_one_on_its_own_page(site: Site) -> None:
    fill(site.db)
    [page, *_] = pages(site)
    assert len({tuple(record) for record in page}) == 1
    assert not {"sampled", "sample_share", "needs_review"} & set(page[0])
    sampled = next(record for record in page if not record["is_anomaly"])
    assert "with a probability of 100.0 %" in site.get(sampled["page"]).text
    flagged = next(record for record in page if record["is_anomaly"])
    assert "Random sample" not in site.get(flagged["page"]).text


def test_a_queue_with_a_sample_alone_is_read_to_its_end(site: Site) -> None:
    db = site.db
    db.store = RecordStore(db.database, Settings(review_share=1), rng=Random(1))
    for claim in db.claims(SIZE + 3):
        db.commit(claim, an_answer(0.1, is_anomaly=False))
    assert [len(page) for page in pages(site)] == [SIZE, 3]


@pytest.mark.parametrize("value", ["1", "x~1", "2026-01-01~-1"])
def test_a_place_in_the_sample_that_makes_no_sense_begins_it_anew(site: Site, value: str) -> None:
    fill(site.db)
    assert len(site.get("/review/queue", sample_after=value).json()["records"]) == SIZE
