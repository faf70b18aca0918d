"""Downloads from the gallery: what they hold, and how they are streamed."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from anomaly.db.export import ExportFilter, ExportStore
from anomaly.db.page_gallery import GalleryFilter
from anomaly.export.formats import FORMATS
from anomaly.export.tables import csv_blocks
from tests.integration.page.test_gallery import judge

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site

COUNTING = """
create sequence anomaly.pages;
alter function anomaly.judged rename to judged_uncounted;
create function anomaly.judged(
    verdict boolean, reviewed text, low double precision, high double precision, in_label text, in_detector text,
    since timestamptz, until timestamptz
) returns setof anomaly.ai_flags language plpgsql as $$
begin
    perform nextval('anomaly.pages');
    return query select * from anomaly.judged_uncounted(verdict, reviewed, low, high, in_label, in_detector, since, until);
end $$;
"""
"""Counts the pages that are read."""


def table(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


def many(site: Site, count: int) -> None:
    """Add judged records without their log."""
    site.db.do(
        """with r as (
               insert into anomaly.records (image_url, captured_at, status)
               select 'https://images.example/' || i, now(), 'done' from generate_series(1, %(count)s) as i returning id
           ), a as (
               insert into anomaly.ai_results (
                      record_id, token, detector, config, score, is_anomaly, reason, image_sha256, image_key, answer_key, latency_ms,
                      dag_id, run_id, map_index, try_number)
               select id, 1, 'padim@1', 'c', id / 1e6, false, repeat('x', 300), 'ab', 'images/ab.png', 'answers/ab', 1, 'dag', 'run', 0, 1
                 from r)
           insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, token, detector, score)
           select id, true, false, 1, 'padim@1', id / 1e6 from r""",
        count=count,
    )


def test_a_filter_of_the_gallery_is_exported_as_it_is_shown(site: Site) -> None:
    ids = judge(site, 60)
    waiting = site.db.add(2)
    answer = site.get("/export", format="csv", verdict="anomaly", low="0.55", order="time")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="anomalies-{datetime.now(UTC):%Y-%m-%d}.csv"'
    assert [int(row["record_id"]) for row in table(answer)] == list(reversed(ids[55:]))
    assert [int(row["record_id"]) for row in table(site.get("/export", format="csv", state="pending"))] == waiting
    lines = [json.loads(line) for line in site.get("/export", format="json", high="0.01").text.splitlines()]
    assert [(line["record_id"], line["score"], line["is_anomaly"]) for line in lines] == [(ids[1], 0.01, False), (ids[0], 0.0, False)]
    assert table(site.get("/export", format="csv", label="none")) == []


@pytest.mark.parametrize("path", ["/gallery?verdict=anomaly&label=crack&order=time", "/gallery?state=quarantined"])
def test_the_gallery_links_to_each_format_with_its_filter(site: Site, path: str) -> None:
    judge(site, 60)
    site.db.do("update anomaly.records set status = 'quarantined' where id = 1")
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="(/export[^"]+)"', site.get(path).text)]
    assert [dict(httpx.URL(link).params)["format"] for link in links] == list(FORMATS)
    query = dict(httpx.URL(path).params)
    for link in links:
        assert {**query, **dict(httpx.URL(link).params)} == {**query, "format": httpx.URL(link).params["format"]}
        site.get(link)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"format": "csv", "low": "high"}, "low: “high” is not a number."),
        ({"format": "csv", "verdict": "odd"}, "verdict: there is no “odd”"),
        ({"format": "exe"}, "There is no such format"),
        ({}, "There is no such format"),
    ],
)
def test_a_filter_or_format_that_makes_no_sense_exports_nothing(site: Site, query: dict[str, Any], sentence: str) -> None:
    assert sentence in site.get("/export", status=400, **query).text


def test_a_database_that_fails_is_a_sentence_and_no_empty_file(site: Site) -> None:
    site.db.add(1)
    site.db.do("alter table anomaly.ai_results rename to gone")
    assert "<h1>" in site.get("/export", status=503, format="csv", state="pending").text


def test_text_does_not_become_a_formula_and_numbers_stay_numbers(site: Site) -> None:
    judge(site, 1)
    for start in ("=", "+", "-", "@", "\t", "\r"):
        site.db.do(
            "update anomaly.ai_results set label = %(t)s, reason = %(t)s, detector = %(t)s, run_id = %(t)s, score = -0.5",
            t=f"{start}HYPERLINK(1)",
        )
        site.db.do("update anomaly.records set image_url = %(t)s, last_error = %(t)s", t=f"{start}1+1")
        [row] = csv.DictReader(io.StringIO(site.get("/export", format="csv").content.decode(), newline=""))
        assert {row[name] for name in ("label", "reason", "detector", "run_id")} == {f"'{start}HYPERLINK(1)"}
        assert {row[name] for name in ("image_url", "last_error")} == {f"'{start}1+1"}
        assert row["score"] == "-0.5"
        [document] = site.get("/export", format="json").text.splitlines()
        assert json.loads(document)["label"] == f"{start}HYPERLINK(1)"


def test_memory_does_not_grow_with_the_number_of_records(site: Site) -> None:
    many(site, 20_000)
    peaks = []
    for low in (0.019, 0.0):  # 1,000 records, all
        tracemalloc.start()
        size = sum(len(block) for block in csv_blocks(ExportStore(site.db.database).rows(ExportFilter(judged=GalleryFilter(low=low)))))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert size > 8_000_000
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.timeout(300)
def test_a_client_that_goes_away_ends_the_queries(site: Site) -> None:
    many(site, 30_000)
    site.db.do(COUNTING)
    narrow = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)])
    with httpx.Client(base_url=site.origin, transport=narrow, timeout=60) as client, client.stream("GET", "/export?format=csv") as answer:
        next(answer.iter_raw())
    pages = "select last_value from anomaly.pages"
    seen: list[int] = []

    def still() -> bool:
        seen.append(site.one(pages))
        return len(seen) > 100 and len(set(seen[-100:])) == 1

    site.db.until(still)
    assert seen[-1] < 25
    site.get("/gallery")
