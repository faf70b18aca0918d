"""The last good image of the same source, and the score within its source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from anomaly.db.contracts import SAMPLES
from anomaly.db.page_context import LOOK_BACK
from anomaly.db.statements import default_statements
from tests.integration.page.conftest import figures
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    import httpx

    from tests.integration.page.conftest import Site


@pytest.fixture(autouse=True)
def same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_SAME_SOURCE", "line")


def judge(site: Site, *verdicts: tuple[str | None, float]) -> list[int]:
    """Add judged records in the order of time, each with a line and a score from 0.5 on for an anomaly; return their ids."""
    claims = site.db.claims(len(verdicts))
    for claim, (line, score) in zip(claims, verdicts, strict=True):
        site.db.do(
            "update anomaly.records set attributes = %(to)s where id = %(id)s", to=Jsonb({"line": line} if line else {}), id=claim.record_id
        )
        site.db.commit(claim, an_answer(score, is_anomaly=score >= 0.5))
    return [claim.record_id for claim in claims]


def review(site: Site, record: int, verdict: str) -> None:
    site.db.do(
        "update anomaly.ai_flags set review = %(to)s, reviewed_by = 'ann', reviewed_at = now() where record_id = %(id)s",
        to=verdict,
        id=record,
    )


def good(page: httpx.Response) -> int | None:
    """Return the record of the last good image on a page."""
    found = re.search(r'class="good" href="/records/(\d+)"', page.text)
    return int(found[1]) if found else None


def test_it_is_the_last_normal_image_of_the_same_line_before_the_record(site: Site) -> None:
    ids = judge(site, ("L1", 0.1), ("L1", 0.2), ("L2", 0.1), ("L1", 0.9), ("L1", 0.8), ("L1", 0.3))
    assert good(site.get(f"/records/{ids[4]}")) == ids[1]
    assert good(site.get(f"/records/{ids[1]}")) == ids[0]


def test_a_decision_of_a_person_comes_before_that_of_the_detector(site: Site) -> None:
    ids = judge(site, ("L1", 0.9), ("L1", 0.2), ("L1", 0.1), ("L1", 0.8))
    review(site, ids[2], "anomaly")
    assert good(site.get(f"/records/{ids[3]}")) == ids[1]
    review(site, ids[0], "normal")
    page = site.get(f"/records/{ids[3]}")
    assert good(page) == ids[0]
    assert "normal by ann" in page.text


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ([("L1", 0.9)], "Nothing of line L1 was decided to be normal among the 2,000 images before this one."),
        ([("L2", 0.1), ("L1", 0.7), ("L1", 0.9)], "Nothing of line L1 was decided to be normal"),
        ([("L1", 0.1), (None, 0.9)], "This record has no attribute <code>line</code>"),
    ],
)
def test_a_record_without_a_good_image_says_why(site: Site, verdicts: list[tuple[str | None, float]], sentence: str) -> None:
    page = site.get(f"/records/{judge(site, *verdicts)[-1]}")
    assert good(page) is None
    assert sentence in page.text


def test_without_the_setting_the_source_is_the_table_of_the_record(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOMALY_SAME_SOURCE")
    ids = judge(site, ("L1", 0.1), ("L2", 0.2), ("L3", 0.9))
    assert good(site.get(f"/records/{ids[2]}")) == ids[1]
    site.db.do("update anomaly.records set source = 'shop', source_key = id::text where id <> %(id)s", id=ids[1])
    page = site.get(f"/records/{ids[2]}")
    assert good(page) == ids[0]
    assert "shop" in page.text


def test_the_score_is_placed_among_those_of_its_source_by_the_same_detector(site: Site) -> None:
    ids = judge(site, ("L1", 0.1), ("L1", 0.2), ("L1", 0.3), ("L1", 0.9), ("L2", 0.2), ("L1", 0.4))
    site.db.do("update anomaly.ai_flags set detector = 'other' where record_id = %(id)s", id=ids[0])
    page = site.get(f"/records/{ids[5]}")
    assert figures(page)["above"] == "66.7 %"
    assert "of the 3 scores" in page.text
    assert "this image 0.4000" in page.text
    assert "threshold 0.5000" in page.text


@pytest.mark.parametrize("scores", [[0.4, 0.4], [0.0, 0.0], [-5.0, 1e300]])
def test_equal_and_huge_scores_are_drawn(site: Site, scores: list[float]) -> None:
    ids = judge(site, *[("L1", score) for score in scores])
    assert "Scores of this source" in site.get(f"/records/{ids[-1]}").text


def test_the_review_queue_gets_it_with_reason_earlier_verdicts_and_decisions(site: Site) -> None:
    ids = judge(site, ("L1", 0.1), ("L1", 0.9))
    run = site.db.run("again")
    site.db.do("update anomaly.chunks set ended_at = now()")
    claims = {claim.record_id: claim for claim in site.db.open(site.db.claim(run, origin="done"), run=run)}
    site.db.commit(claims[ids[1]], an_answer(0.95, detector="newer@2"))
    [item] = [each for each in site.get("/review/queue").json()["records"] if each["record_id"] == ids[1]]
    part = site.get(item["context"])
    assert good(part) == ids[0]
    for words in ("a dark line", "padim@1", "0.9000"):
        assert words in part.text
    assert site.get(f"/records/{ids[1]}/context", token=999, status=404).status_code == 404


def test_the_images_before_a_record_are_read_by_indexes_however_many_there_are(site: Site) -> None:
    site.db.do(
        """insert into anomaly.records (image_url, captured_at, attributes)
           select 'u', now() - i * interval '1 s', jsonb_build_object('line', i %% 50) from generate_series(1, 20000) as i"""
    )
    site.db.do(
        """insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, token, detector, score, image_at)
           select id, true, false, 2, 'd', 0.1, captured_at from anomaly.records"""
    )
    site.db.do("analyze anomaly.ai_flags")
    params: dict[str, Any] = {**SAMPLES, "record_id": 1, "image_at": "2100-01-01", "source": None, "same": '{"line": 7}', "size": LOOK_BACK}
    [row] = site.db.rows(f"explain (analyze, format json) {default_statements()['page_same_source']}", **params)
    nodes: list[dict[str, Any]] = []
    waiting = [row["QUERY PLAN"][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        nodes.append(node)
    assert {node.get("Index Name") for node in nodes if "Relation Name" in node} == {"ai_flags_by_time", "records_pkey"}
    assert max(node["Actual Rows"] for node in nodes) <= LOOK_BACK
