"""Scoring again from the page of a record and for selected records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.page.test_reviews import judged

if TYPE_CHECKING:
    import httpx

    from tests.integration.page.conftest import Site


def send(site: Site, body: Any, *, origin: str | None = None) -> httpx.Response:
    return site.client.post("/score-again", json=body, headers={"Origin": origin or site.origin})


def test_the_page_of_a_record_makes_it_due_and_says_so(site: Site) -> None:
    [(record, _)] = judged(site.db)
    assert "/score-again" in site.get(f"/records/{record}").text
    page = site.post(f"/records/{record}/score-again").text
    assert "waits to be scored again" in page
    assert "/score-again" not in page
    assert site.db.record(record)["status"] == "pending"
    site.post(f"/records/{record}/score-again")
    assert site.db.events(record) == ["committed", "requeued"]


def test_selected_records_are_made_due_and_those_that_wait_already_are_not_counted(site: Site) -> None:
    ids = [record for record, _ in judged(site.db, 3)]
    assert send(site, {"record_ids": ids[:1]}).json() == {"records": 1}
    assert send(site, {"record_ids": ids}).json() == {"records": 2}
    assert site.db.statuses() == {"pending": 3}


@pytest.mark.parametrize("body", [{}, {"record_ids": []}, {"record_ids": ["x"]}, {"record_ids": [-1]}, {"record_ids": [2**63]}, [1], None])
def test_a_request_that_makes_no_sense_changes_nothing(site: Site, body: Any) -> None:
    judged(site.db)
    before = site.db.everything()
    assert send(site, body).status_code == 400
    assert site.db.everything() == before


def test_another_site_cannot_make_records_due(site: Site) -> None:
    [(record, _)] = judged(site.db)
    assert send(site, {"record_ids": [record]}, origin="https://elsewhere.example").status_code == 403
    assert site.db.record(record)["status"] == "done"
