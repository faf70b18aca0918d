"""The gallery of a large table: each page reads a bounded part of it, by an index."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.contracts import SAMPLES
from anomaly.db.page_gallery import CANDIDATES, ORDERS, GalleryFilter, GalleryStore
from anomaly.db.statements import default_statements
from anomaly.page.gallery import SIZE
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from anomaly.db.page_gallery import After, Order
    from tests.integration.page.conftest import Site
    from tests.parts.record_builders import RecordsDb

PLANS = [
    ("page_gallery_score", {}, "ai_flags_by_score"),
    ("page_gallery_score", {"after": 0.5, "after_id": 5}, "ai_flags_by_score"),
    ("page_gallery_score", {"verdict": False}, "ai_flags_by_verdict"),
    ("page_gallery_score", {"label": "rare"}, "ai_flags_by_label"),
    ("page_gallery_score", {"reviewed": "open"}, "ai_flags_review_by_score"),
    ("page_gallery_time", {"verdict": True}, "ai_flags_anomalies_by_time"),
    ("page_gallery_time", {}, "ai_flags_by_time"),
    ("page_gallery_time", {"verdict": False, "reviewed": "open"}, "ai_flags_sample_to_review"),
    ("page_gallery_uncertain", {}, "ai_flags_by_margin_and_score"),
    ("page_gallery_uncertain", {"after": 0.1, "after_id": 5}, "ai_flags_by_margin_and_score"),
    ("page_gallery_uncertain", {"low": 0.95, "high": 0.97}, "ai_flags_by_margin_and_score"),
]
FEW: list[tuple[dict[str, Any], str]] = [
    ({"label": "rare"}, "ai_flags_by_label"),
    ({"low": 0.3, "high": 0.31}, "ai_flags_by_score"),
    ({"detector": "chat@1"}, "ai_flags_by_threshold"),
    ({"detector": "chat@1", "since": datetime(2026, 1, 1, tzinfo=UTC)}, "ai_flags_by_threshold"),
    ({"since": datetime(2100, 1, 1, tzinfo=UTC), "verdict": False}, "ai_flags_by_time"),
    ({"reviewed": "done"}, "ai_flags_reviewed_by_score"),
]


def scans(db: RecordsDb, name: str, **params: Any) -> list[dict[str, Any]]:
    """Return the scans of the flags and of their indexes, for a page on 40,000 analyzed rows."""
    db.do(
        """insert into anomaly.ai_flags (
                  record_id, ai_processed, is_anomaly, needs_review, token, detector, score, threshold, label, image_at)
           select i, true, i %% 50 = 0, i %% 100 = 0 or i %% 90 = 1, 2, case when i %% 997 = 0 then 'chat@1' else 'padim@1' end,
                  random(), 0.98, case when i %% 1000 = 0 then 'rare' end, now() - i * interval '1 s'
             from generate_series(1, 40000) as i"""
    )
    db.do("analyze anomaly.ai_flags")
    nothing = dict.fromkeys(("verdict", "reviewed", "low", "high", "label", "detector", "since", "until"))
    db.rows("select set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)")
    text = default_statements()[name]
    [row] = db.rows(f"explain (analyze, format json) {text}", **{**SAMPLES, **nothing, "size": SIZE, "candidates": SIZE, **params})
    nodes, waiting = [], [row["QUERY PLAN"][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        nodes.append(node)
    return [node for node in nodes if node.get("Relation Name") == "ai_flags" or node["Node Type"] == "Bitmap Index Scan"]


@pytest.mark.parametrize(("name", "params", "index"), PLANS)
def test_a_page_of_the_gallery_reads_its_rows_by_an_index_in_their_order(
    db: RecordsDb, name: str, params: dict[str, Any], index: str
) -> None:
    [scan] = scans(db, name, **params)
    assert scan.get("Index Name") == index
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= 3 * SIZE


@pytest.mark.parametrize(("params", "index"), FEW)
@pytest.mark.parametrize("order", ORDERS)
def test_few_records_are_found_by_the_index_of_their_filter_in_any_order(
    db: RecordsDb, order: str, params: dict[str, Any], index: str
) -> None:
    found = scans(db, f"page_gallery_{order}", **params, is_few=True)
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    assert index in {node.get("Index Name") for node in found}
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in found) <= 1000


def all_pages(store: GalleryStore, chosen: GalleryFilter, order: Order, *, is_few: bool) -> list[list[int]]:
    """Return the ids of the records of each page."""
    pages: list[list[int]] = []
    after: After | None = None
    while True:
        page = store.page(chosen, order, after=after, size=4, count=store.count(chosen) if is_few else None)
        pages.append([record.record_id for record in page.records])
        after = page.after
        if after is None:
            return pages


@pytest.mark.parametrize("order", ORDERS)
def test_pages_of_few_records_are_those_along_the_index(db: RecordsDb, order: Order) -> None:
    for number, claim in enumerate(db.claims(30)):
        db.commit(claim, an_answer(number * 7 % 30 / 30, is_anomaly=number % 3 == 0, detector=f"padim@{number % 2}"))
    store = GalleryStore(db.database)
    for chosen in (GalleryFilter(), GalleryFilter(verdict=True), GalleryFilter(low=0.2, detector="padim@1")):
        pages = all_pages(store, chosen, order, is_few=False)
        assert pages == all_pages(store, chosen, order, is_few=True)
        ids = [record_id for page in pages for record_id in page]
        assert len(set(ids)) == len(ids) == store.count(chosen)


@pytest.mark.parametrize("is_few", [False, True])
def test_an_attribute_is_looked_up_for_a_bounded_number_of_records_at_a_time(db: RecordsDb, *, is_few: bool) -> None:
    claims = db.claims(35)
    for number, claim in enumerate(claims):
        db.commit(claim, an_answer((100 - number) / 100))
    wanted = [claims[number].record_id for number in (12, 13, 34)]
    db.do("""update anomaly.records set attributes = '{"line": "L2"}' where id = any(%(ids)s)""", ids=wanted)
    store = GalleryStore(db.database, candidates=10)
    chosen = GalleryFilter(attribute="line", attribute_value="L2")
    assert all_pages(store, chosen, "score", is_few=is_few) == [[], wanted[:2], [], wanted[2:]]
    assert [record.record_id for record in store.judged(chosen, "score", after=None, size=2)] == wanted[:2]
    assert [record.record_id for record in store.judged(chosen, "time", after=None, size=10)] == wanted[::-1]


def test_a_page_without_the_attribute_leads_on_to_the_one_that_has_it(site: Site) -> None:
    [last] = site.db.claims(1)
    site.db.commit(last, an_answer(0.01))
    site.db.do("""update anomaly.records set attributes = '{"line": "L2"}'""")
    site.db.do(
        """with added as (
               insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key,
                      latency_ms, dag_id, run_id, map_index, try_number)
               select 1000 + i, 1, 'padim@1', 'c', 0.5, false, 'ab', 'k', 'k', 1, 'd', 'r', 0, 1 from generate_series(1, %(count)s) as i
            returning record_id)
           insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, token, detector, score, image_at)
           select record_id, true, false, 1, 'padim@1', 0.5, now() from added""",
        count=CANDIDATES,
    )
    first = site.get("/gallery", attribute="line", value="L2")
    assert "None of the next 3,000 records has this attribute." in first.text
    [following] = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = site.get(f"/gallery{html.unescape(following)}")
    assert f'data-record="{last.record_id}"' in second.text
    assert 'rel="next"' not in second.text
