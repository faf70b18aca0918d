"""The gallery: filters, order, pages by key, pictures, and a million rows."""

from __future__ import annotations

import io
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from anomaly.errors import ImageNotFound
from anomaly.page.gallery import SIZE
from tests.integration.page.conftest import figures, structure
from tests.integration.page.test_overview import HOSTILE
from tests.parts.page_demo import fill
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    import httpx

    from embedded.s3 import S3
    from tests.integration.page.conftest import Site


def shown(page: httpx.Response) -> list[int]:
    """Return the ids of the records of a grid, in its order."""
    return [int(found) for found in re.findall(r'data-record="(\d+)"', page.text)]


def judge(site: Site, count: int) -> list[int]:
    """Add judged records with scores from 0.00 up, a day apart; those above 0.5 are anomalies. Return their ids by score."""
    claims = sorted(site.db.claims(count), key=lambda claim: claim.record_id)
    for n, claim in enumerate(claims):
        site.db.commit(claim, an_answer(n / 100, is_anomaly=n > 50))
    return [claim.record_id for claim in claims]


def test_the_grid_is_ordered_and_its_pages_follow_each_other_without_gap_or_repeat(site: Site) -> None:
    ids = judge(site, SIZE + 20)
    by_margin = site.db.rows("select record_id from anomaly.ai_flags order by abs(score - threshold), record_id")
    expected = {
        "score": list(reversed(ids)),
        "time": list(reversed(ids)),
        "uncertain": [row["record_id"] for row in by_margin],
    }
    for order, wanted in expected.items():
        first = site.get("/gallery", order=order)
        assert shown(first) == wanted[:SIZE], order
        [link] = re.findall(r'rel="next" href="([^"]+)"', first.text)
        second = site.get(f"/gallery{link.replace('&amp;', '&')}")
        assert shown(second) == wanted[SIZE:], order
        assert 'rel="next"' not in second.text


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "true"),
    ({"verdict": "anomaly"}, "is_anomaly"),
    ({"verdict": "normal"}, "not is_anomaly"),
    ({"low": "0.1", "high": "0.3"}, "score between 0.1 and 0.3"),
    ({"label": "crack"}, "label = 'crack'"),
    ({"label": "none of these"}, "false"),
    ({"detector": "padim@1", "low": "0.2"}, "detector = 'padim@1' and score >= 0.2"),
    ({"review": "open"}, "needs_review"),
    ({"review": "done"}, "review is not null"),
    ({"review": "anomaly"}, "review = 'anomaly'"),
    ({"review": "unsure"}, "review = 'unsure'"),
    ({"since": "2026-01-01", "until": "2026-01-01"}, "image_at >= '2026-01-01Z' and image_at < '2026-01-02Z'"),
    ({"since": "2026-01-01"}, "image_at >= '2026-01-01Z'"),
    ({"until": "2025-12-31"}, "image_at < '2026-01-01Z'"),
    ({"detector": "other@1"}, "detector = 'other@1'"),
    ({"low": "0.52", "verdict": "anomaly", "label": "crack"}, "is_anomaly and score >= 0.52 and label = 'crack'"),
    ({"attribute": "line", "value": "L1"}, "record_id in (select id from anomaly.records where attributes ->> 'line' = 'L1')"),
]


@pytest.mark.parametrize(("query", "condition"), FILTERS)
def test_a_filter_shows_and_counts_what_a_query_finds(site: Site, query: dict[str, Any], condition: str) -> None:
    ids = judge(site, 56)
    site.db.do('update anomaly.records set attributes = \'{"line": "L1"}\' where id %% 2 = 0')
    for review, record_id in (("unsure", ids[5]), ("anomaly", ids[7])):
        site.db.do(
            "update anomaly.ai_flags set review = %(review)s, reviewed_by = 'ann', reviewed_at = now() where record_id = %(id)s",
            review=review,
            id=record_id,
        )
    page = site.get("/gallery", **query)
    found = site.db.rows(f"select record_id from anomaly.ai_flags where {condition} order by score desc")  # noqa: S608  # of this file
    assert shown(page) == [row["record_id"] for row in found][:SIZE]
    assert figures(page)["count"] == str(len(found))


@pytest.mark.parametrize(
    "query",
    [
        {"verdict": "good"},
        {"low": "much"},
        {"high": "nan"},
        {"since": "yesterday"},
        {"until": "2026-02-31"},
        {"order": "size"},
        {"state": "lost"},
        {"review": "x" * 200},
        {"after": "1"},
        {"after": "x~1"},
        {"after": "0.5~99999999999999999999"},
    ],
)
def test_a_filter_that_makes_no_sense_is_named_and_left_out(site: Site, query: dict[str, Any]) -> None:
    if query != {"review": "x" * 200}:
        judge(site, 3)
        page = site.get("/gallery", **query)
        assert len(shown(page)) == 3
        assert 'role="alert"' in page.text
    else:
        assert 'role="alert"' in site.get("/gallery", **query).text


@pytest.mark.parametrize(("state", "status"), [("pending", "pending"), ("quarantined", "quarantined"), ("claimed", "claimed")])
def test_records_without_a_verdict_are_listed_by_state(site: Site, state: str, status: str) -> None:
    claims = site.db.claims(3)
    site.db.store.quarantine(claims[0], error=ImageNotFound("gone"), timings={})
    site.db.add(2)
    page = site.get("/gallery", state=state)
    found = site.db.rows("select id from anomaly.records where status = %(status)s order by captured_at desc, id desc", status=status)
    assert [int(each) for each in re.findall(r'<a href="/records/(\d+)">', page.text)] == [row["id"] for row in found]
    assert found


def test_pictures_come_from_the_bucket_small_ones_as_webp(site: Site, s3: S3) -> None:
    fill(site.db, s3, prefix=site.prefix, judged=9, waiting=2)
    [row] = site.db.rows("select record_id, token, image_key from anomaly.ai_results order by record_id limit 1")
    at = f"/pictures/{row['record_id']}/{row['token']}"
    stored = s3.client().get_object(Bucket=s3.bucket, Key=row["image_key"])["Body"].read()
    whole = site.get(f"{at}/image")
    assert whole.content == stored
    assert "sandbox" in whole.headers["content-security-policy"]
    for kind in ("thumbnail", "heatmap-thumbnail"):
        small = site.get(f"{at}/{kind}")
        assert small.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(small.content)) as opened:
            assert max(opened.size) <= 360
    assert site.get(f"{at}/heatmap").content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "no longer in the bucket"), (b"not an image", "cannot be decoded"), (b"", "cannot be decoded")],
)
def test_a_picture_that_cannot_be_shown_is_a_picture_with_a_sentence(site: Site, s3: S3, content: bytes | None, sentence: str) -> None:
    judge(site, 1)
    key = f"{site.prefix}/images/sha256/ab/odd.tif"
    site.db.do("update anomaly.ai_results set image_key = %(key)s", key=key)
    if content is not None:
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=content)
    [row] = site.db.rows("select record_id, token from anomaly.ai_results")
    for kind in ("image", "thumbnail"):
        page = site.get(f"/pictures/{row['record_id']}/{row['token']}/{kind}", status=HTTPStatus.NOT_FOUND)
        assert page.headers["content-type"] == "image/svg+xml"
        assert sentence in page.text


def test_an_image_with_more_pixels_than_allowed_is_not_decoded(site: Site, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(site, 1)
    out = io.BytesIO()
    Image.new("I;16", (200, 100)).save(out, "TIFF")
    key = f"{site.prefix}/images/sha256/ab/deep.tif"
    s3.client().put_object(Bucket=s3.bucket, Key=key, Body=out.getvalue())
    site.db.do("update anomaly.ai_results set image_key = %(key)s", key=key)
    [row] = site.db.rows("select record_id, token from anomaly.ai_results")
    assert site.get(f"/pictures/{row['record_id']}/{row['token']}/image").headers["content-type"] == "image/webp"
    monkeypatch.setenv("ANOMALY_IMAGE_MAX_PX", "19999")
    page = site.get(f"/pictures/{row['record_id']}/{row['token']}/thumbnail", status=HTTPStatus.NOT_FOUND)
    assert "too many pixels" in page.text


HOSTILE_UPDATES = (
    "update anomaly.ai_flags set label = %(t)s, detector = %(t)s, review = %(t)s, reviewed_by = %(t)s, reviewed_at = now()",
    "update anomaly.ai_results set label = %(t)s, detector = %(t)s, reason = %(t)s, dag_id = %(t)s, run_id = %(t)s",
    "update anomaly.ai_results set regions = jsonb_build_array(jsonb_build_object('x', %(t)s::text, 'note', %(t)s::text))",
    "update anomaly.ai_results set image_key = %(t)s, answer_key = %(t)s, usage = jsonb_build_object(%(t)s::text, 1)",
    "update anomaly.records set image_url = %(t)s, attributes = jsonb_build_object(%(t)s::text, %(t)s::text)",
    "update anomaly.records set last_error_code = %(t)s, last_error = %(t)s",
    "update anomaly.processing_log set error_code = %(t)s, error = %(t)s, actor = %(t)s",
    "update anomaly.processing_log set timings = jsonb_build_object(%(t)s::text, 1.5)",
)


def test_html_in_a_verdict_is_shown_as_text(site: Site) -> None:
    [record] = judge(site, 1)
    pages = ("/gallery", f"/records/{record}")

    def write(text: str) -> None:
        for statement in HOSTILE_UPDATES:
            site.db.do(statement, t=text)

    write("harmless")
    site.db.do(
        """insert into anomaly.reviews (id, record_id, token, verdict, label, comment, reviewer)
           values (gen_random_uuid(), %(id)s, 1, 'normal', %(t)s, %(t)s, %(t)s)""",
        id=record,
        t="harmless",
    )
    harmless = [structure(site.get(path)) for path in pages]
    write(HOSTILE)
    site.db.do("update anomaly.reviews set label = %(t)s, comment = %(t)s, reviewer = %(t)s", t=HOSTILE)
    for path, before in zip(pages, harmless, strict=True):
        page = site.get(path)
        assert structure(page) == before, path
        assert "&lt;script&gt;" in page.text
    assert structure(site.get("/gallery", label=HOSTILE, detector=HOSTILE, attribute=HOSTILE, value=HOSTILE, low=HOSTILE))
    assert "<script>alert" not in site.get("/gallery", label=HOSTILE, low=HOSTILE, order=HOSTILE).text


def test_a_record_that_is_gone_is_a_sentence(site: Site) -> None:
    assert "There is no record 77." in site.get("/records/77", status=404).text
    site.get("/pictures/77/1/image", status=404)


def test_a_failed_record_is_requeued_from_its_page(site: Site) -> None:
    [claim] = site.db.claims(1)
    site.db.store.quarantine(claim, error=ImageNotFound("gone"), timings={})
    assert "Requeue" in site.get(f"/records/{claim.record_id}").text
    page = site.post(f"/records/{claim.record_id}/requeue")
    assert "The record is due again." in page.text
    assert site.db.record(claim.record_id)["status"] == "pending"
    assert "due again" not in site.post(f"/records/{claim.record_id}/requeue").text
