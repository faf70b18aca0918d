"""The overview: each number is that of a query, and what comes from records is text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from anomaly.errors import ImageNotFound
from anomaly.page.overview import REQUEUE_MAX
from tests.integration.page.conftest import figures, structure
from tests.parts.page_demo import fill, sum_anew
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from embedded.s3 import S3
    from tests.integration.page.conftest import Site

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\u202e'


def test_an_empty_database_is_shown_as_such(site: Site) -> None:
    page = site.get("/")
    assert figures(page) == {"due": "0", "claimed": "0", "later": "0", "quarantined": "0"}
    for sentence in ("nothing is due", "no run is at work", "No run yet.", "Nothing has failed for good.", "No verdicts in this time."):
        assert sentence in page.text


def test_each_number_equals_that_of_a_query(site: Site, s3: S3) -> None:
    fill(site.db, s3, prefix=site.prefix, judged=36)
    page = site.get("/")
    count = "select count(*) from anomaly.records where status = %(status)s"
    assert figures(page) == {
        "due": str(site.one("select count(*) from anomaly.records where status = 'pending' and not_before is null")),
        "claimed": str(site.one(count, status="claimed")),
        "later": str(site.one("select count(*) from anomaly.records where status = 'pending' and not_before > now()")),
        "quarantined": str(site.one(count, status="quarantined")),
    }
    verdicts, anomalies = (
        site.one("select count(*) from anomaly.ai_results"),
        site.one("select sum(is_anomaly::int) from anomaly.ai_results"),
    )
    assert f"anomalies: {anomalies} of {verdicts}" in page.text
    bars = re.findall(r"<title>[^<]*: (\d+) of (\d+) anomalies, [\d.]+ %</title>", page.text)
    days = site.db.rows(
        """select count(*) as verdicts, count(*) filter (where is_anomaly) as anomalies
             from anomaly.ai_results group by date_trunc('day', created_at, 'UTC') order by date_trunc('day', created_at, 'UTC')"""
    )
    assert [(int(a), int(v)) for a, v in bars] == [(day["anomalies"], day["verdicts"]) for day in days]
    by_score = re.findall(r"<title>[\d.]+ to [\d.]+: (\d+) of (\d+) anomalies</title>", page.text)
    assert sum(int(of) for _, of in by_score) == verdicts
    assert sum(int(of) for of, _ in by_score) == anomalies
    codes = site.db.rows("select last_error_code as code, count(*) as n from anomaly.records where status = 'quarantined' group by 1")
    shown = dict(re.findall(r'<code>(\w+)</code></td>\s*<td class="n">(\d+)</td>', page.text))
    assert shown == {row["code"]: str(row["n"]) for row in codes}


def test_a_run_at_work_has_a_rate_and_the_time_that_is_left(site: Site) -> None:
    claims = site.db.claims(10)
    site.db.add(6)
    for claim in claims[:8]:
        site.db.commit(claim)
    site.db.do("update anomaly.batches set created_at = now() - interval '4 s'")
    page = site.get("/now/tiles")
    assert re.search(r"\b(2\.0|1\.9) records/s, 4 s left", page.text), page.text


def test_a_requeue_makes_the_records_of_one_code_due_and_says_how_many(site: Site) -> None:
    for claim in site.db.claims(3):
        site.db.store.quarantine(claim, error=ImageNotFound("gone"), timings={})
    page = site.post("/requeue", code="image_not_found")
    assert str(page.url).endswith("/?requeued=3")
    assert "3 records are due again." in page.text
    assert site.db.statuses() == {"pending": 3}
    actors = {row["actor"] for row in site.db.rows("select actor from anomaly.processing_log where event = 'requeued'")}
    assert len(actors) == 1
    assert None not in actors
    assert "0 records are due again." in site.post("/requeue", code="image_not_found").text
    assert site.db.settings.image_max_px > REQUEUE_MAX


@pytest.mark.parametrize("form", [{}, {"code": ""}, {"code": "no_such_code"}, {"code": "a\x00b"}, {"other": "x"}])
def test_a_requeue_of_nothing_changes_nothing(site: Site, form: dict[str, str]) -> None:
    [claim] = site.db.claims(1)
    site.db.store.quarantine(claim, error=ImageNotFound("gone"), timings={})
    before = site.db.everything()
    assert site.client.post("/requeue", data=form, headers={"Origin": site.origin}).status_code in {200, 400}
    assert site.db.everything() == before


def test_html_in_a_record_is_shown_as_text(site: Site) -> None:
    def judge(text: str) -> None:
        good, bad = site.db.claims(2)
        site.db.commit(good, an_answer())
        site.db.store.quarantine(bad, error=ImageNotFound("gone"), timings={})
        site.db.do("update anomaly.records set image_url = %(text)s, last_error = %(text)s, last_error_code = 'a' || %(text)s", text=text)
        site.db.do("update anomaly.batches set run_id = %(text)s, dag_id = %(text)s", text=text)
        site.db.do("update anomaly.ai_results set detector = %(text)s", text=text)

    judge("harmless")
    harmless = structure(site.get("/"))
    judge(HOSTILE)
    page = site.get("/")
    assert structure(page) == harmless
    assert "&lt;script&gt;alert(1)" in page.text
    assert "\u202e" not in re.sub(r'value="[^"]*"', "", page.text)  # a form sends the code as it is


def test_a_new_version_of_the_detector_is_marked_in_the_chart(site: Site) -> None:
    first, second = site.db.claims(2)
    site.db.commit(first)
    site.db.commit(second)
    site.db.do("update anomaly.ai_results set detector = 'padim@2' where record_id = %(id)s", id=second.record_id)
    site.db.do("update anomaly.ai_results set created_at = now() - interval '2 days' where record_id = %(id)s", id=first.record_id)
    sum_anew(site.db)
    assert "first verdict of padim@2: " in site.get("/", days=7).text


@pytest.mark.parametrize("days", ["0", "-1", "999999999999", "7.5", "x", ""])
def test_a_range_that_makes_no_sense_is_no_error_of_the_server(site: Site, days: str) -> None:
    assert site.client.get(f"/?days={days}").status_code in {200, 400}
