"""Downloads from the gallery: what they hold, and how they are streamed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import socket
import tracemalloc
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image
from psycopg.types.json import Jsonb
from pyarrow import parquet

from anomaly.db.export import ExportFilter, ExportStore
from anomaly.db.page_gallery import GalleryFilter
from anomaly.export.formats import FORMATS
from anomaly.export.parquet import GROUP
from anomaly.export.tables import COLUMNS, csv_blocks
from tests.integration.page.test_gallery import judge

if TYPE_CHECKING:
    from embedded.s3 import S3
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
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    site.db.until(still)
    assert seen[-1] < 25
    site.get("/gallery")


def test_parquet_has_a_type_for_each_column(site: Site) -> None:
    ids = judge(site, 3)
    waiting = site.db.add(1)
    found = parquet.read_table(io.BytesIO(site.get("/export", format="parquet").content))
    assert found.column_names == list(COLUMNS)
    assert found.column("record_id").to_pylist() == list(reversed(ids))
    assert found.column("score").to_pylist() == [0.02, 0.01, 0.0]
    assert found.column("cost").to_pylist() == [0.25] * 3
    assert found.column("captured_at").to_pylist() == [site.db.record(each)["captured_at"] for each in reversed(ids)]
    stored = site.one("select regions from anomaly.ai_results where record_id = %(id)s", id=ids[0])
    assert json.loads(found.column("regions")[2].as_py()) == stored != []
    unjudged = parquet.read_table(io.BytesIO(site.get("/export", format="parquet", state="pending").content))
    assert (unjudged.column("record_id").to_pylist(), unjudged.column("score").to_pylist()) == (waiting, [None])


def test_parquet_is_written_in_groups_of_bounded_size(site: Site) -> None:
    many(site, 2 * GROUP + 1)
    file = parquet.ParquetFile(io.BytesIO(site.get("/export", format="parquet").content))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [GROUP, GROUP, 1]


def with_images(site: Site, s3: S3) -> dict[str, bytes]:
    """Archive an image for each of three judged records, the second of which a person calls unsure; return them by their path."""
    judge(site, 60)
    site.db.do("delete from anomaly.ai_flags where record_id not in (1, 2, 60)")
    site.db.do("update anomaly.ai_flags set review = 'unsure', reviewed_by = 'ann', reviewed_at = now() where record_id = 2")
    site.db.do("update anomaly.ai_results set image_key = %(p)s || '/images/' || record_id || '.png'", p=site.prefix)
    tokens = {row["record_id"]: row["token"] for row in site.db.rows("select record_id, token from anomaly.ai_results")}
    for record_id in (1, 2, 60):
        s3.client().put_object(Bucket=s3.bucket, Key=f"{site.prefix}/images/{record_id}.png", Body=b"image %d" % record_id)
    named = {"normal": 1, "unsure": 2, "anomaly": 60}
    return {f"{verdict}/{record_id}-{tokens[record_id]}.png": b"image %d" % record_id for verdict, record_id in named.items()}


def unzipped(answer: httpx.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def test_images_come_in_a_folder_for_each_verdict_and_missing_ones_are_named(site: Site, s3: S3) -> None:
    files = with_images(site, s3)
    assert unzipped(site.get("/export", format="images")) == files
    assert unzipped(site.get("/export", format="images", verdict="anomaly")) == {name: files[name] for name in files if "anomaly" in name}
    s3.client().delete_object(Bucket=s3.bucket, Key=f"{site.prefix}/images/2.png")
    found = unzipped(site.get("/export", format="images"))
    assert found.pop("missing.txt") == b"2\n"
    assert found == {name: content for name, content in files.items() if "unsure" not in name}
    assert unzipped(site.get("/export", format="images", label="none")) == {}


def test_no_text_of_a_record_is_part_of_a_file_name(site: Site, s3: S3) -> None:
    files = with_images(site, s3)
    for odd in ("../../etc/passwd", "C:\\x", "a\0b".replace("\0", "\n"), "/etc"):
        site.db.do("update anomaly.ai_flags set review = case when record_id = 2 then %(t)s end, reviewed_by = %(t)s, label = %(t)s", t=odd)
        site.db.do("update anomaly.ai_results set label = %(t)s", t=odd)
        assert sorted(unzipped(site.get("/export", format="images"))) == sorted(name.replace("unsure", "normal") for name in files)


def test_a_format_whose_package_is_missing_is_neither_offered_nor_served(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(site, 1)
    monkeypatch.setitem(FORMATS, "parquet", dataclasses.replace(FORMATS["parquet"], needs="no_such_package"))
    assert "format=parquet" not in site.get("/gallery").text
    assert "there are csv, json, coco, images" in site.get("/export", status=400, format="parquet").text


def test_coco_has_boxes_and_polygons_in_pixels(site: Site, s3: S3) -> None:
    files = with_images(site, s3)
    site.db.do("update anomaly.ai_results set image_width_px = 200, image_height_px = 100, regions_unit = 'fraction', regions = '[]'")
    box = {"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.25, "label": "scratch"}
    polygon = {"x": 0, "y": 0, "width": 0.5, "height": 1, "polygon": [[0, 0], [0.5, 0], [0.5, 1]]}
    site.db.do("update anomaly.ai_results set regions = %(r)s where record_id = 60", r=Jsonb([box, polygon, {"label": "no place"}, 7]))
    found = site.get("/export", format="coco").json()
    assert {image["file_name"]: (image["id"], image["width"], image["height"], image["is_anomaly"]) for image in found["images"]} == {
        name: (int(name.partition("/")[2].partition("-")[0]), 200, 100, name.startswith("anomaly")) for name in files
    }
    assert found["categories"] == [{"id": 1, "name": "scratch"}, {"id": 2, "name": "crack"}]
    assert found["annotations"] == [
        {
            "id": 1,
            "image_id": 60,
            "category_id": 1,
            "bbox": [20.0, 20.0, 100.0, 25.0],
            "area": 2500.0,
            "segmentation": [[20.0, 20.0, 120.0, 20.0, 120.0, 45.0, 20.0, 45.0]],
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 60,
            "category_id": 2,
            "bbox": [0.0, 0.0, 100.0, 100.0],
            "area": 10000.0,
            "segmentation": [[0.0, 0.0, 100.0, 0.0, 100.0, 100.0]],
            "iscrowd": 0,
        },
    ]
    assert site.get("/export", format="coco", label="none").json()["images"] == []


def test_coco_reads_the_size_of_an_image_that_was_judged_by_an_earlier_version(site: Site, s3: S3) -> None:
    with_images(site, s3)
    site.db.do("update anomaly.ai_results set image_width_px = null, image_height_px = null, regions_unit = null")
    photo = io.BytesIO()
    Image.new("L", (30, 20)).save(photo, "PNG")
    s3.client().put_object(Bucket=s3.bucket, Key=f"{site.prefix}/images/60.png", Body=photo.getvalue())
    s3.client().delete_object(Bucket=s3.bucket, Key=f"{site.prefix}/images/2.png")
    found = site.get("/export", format="coco").json()
    assert [(image["id"], image["width"], image["height"]) for image in found["images"]] == [(60, 30, 20), (2, None, None), (1, None, None)]
    assert found["annotations"] == []


def test_a_verdict_is_read_by_the_threshold_in_force_except_that_of_an_earlier_detector(site: Site) -> None:
    ids = judge(site, 60)
    site.db.do("update anomaly.ai_flags set threshold = 0.1, is_anomaly = score >= 0.1")
    rows = {int(row["record_id"]): (row["threshold"], row["is_anomaly"]) for row in table(site.get("/export", format="csv"))}
    assert (rows[ids[5]], rows[ids[20]]) == (("0.1", "False"), ("0.1", "True"))
    site.db.do("update anomaly.ai_flags set token = token + 1 where record_id = %(id)s", id=ids[20])
    earlier = ExportStore(site.db.database).rows(ExportFilter(detector="padim@1"))
    assert {row["record_id"]: row["is_anomaly"] for row in earlier}[ids[20]] is False
