"""The threshold page: each number is that of a query, and a stored threshold is used, followed and kept."""

from __future__ import annotations

import itertools
import math
import re
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.reviews import Decision, ReviewStore
from anomaly.page.estimates import Cell, effect
from anomaly.page.threshold import FOLLOW_BATCH
from tests.integration.page.conftest import figures, structure
from tests.integration.page.test_overview import HOSTILE
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site
    from tests.parts.record_builders import RecordsDb

SCORES = [n / 50 for n in range(1, 50)]


def judge(db: RecordsDb, scores: list[float] = SCORES, *, detector: str = "padim@1") -> list[tuple[int, int]]:
    """Add a judged record for each score; return their ids and tokens."""
    claims = db.claims(len(scores))
    for claim, score in zip(claims, scores, strict=True):
        db.commit(claim, an_answer(score, is_anomaly=score >= 0.5, detector=detector))
    return [(claim.record_id, claim.token) for claim in claims]


def review(db: RecordsDb, record: tuple[int, int], verdict: Any) -> None:
    ReviewStore(db.database).decide(Decision(id=uuid.uuid4(), record_id=record[0], token=record[1], verdict=verdict), reviewer="ann")


def reviewed(site: Site) -> list[tuple[int, int]]:
    """Add judged records: the flagged ones are reviewed, and of the others a sample and one that somebody has picked."""
    records = judge(site.db)
    for n, record in enumerate(records):
        if SCORES[n] >= 0.5:
            review(site.db, record, "unsure" if n % 11 == 0 else "normal" if n % 4 == 0 else "anomaly")
        elif n % 5 == 0:
            site.db.do("update anomaly.ai_flags set sampled = true, sample_share = 0.2 where record_id = %(id)s", id=record[0])
            review(site.db, record, "anomaly" if n % 10 == 0 else "normal")
    review(site.db, records[3], "anomaly")
    return records


def store(site: Site, threshold: object, *, status: int = 200, **changes: Any) -> Any:
    form = {"id": str(uuid.uuid4()), "detector": "padim@1", "threshold": threshold, "reason": "too many false alarms", **changes}
    return site.post("/threshold", status=status, **form)


def test_without_a_verdict_the_page_says_what_it_will_show(site: Site) -> None:
    assert "No verdicts yet" in site.get("/threshold").text


def test_without_a_review_nothing_is_claimed_about_errors(site: Site) -> None:
    judge(site.db)
    page = site.get("/threshold")
    found = figures(page)
    assert (found["threshold"], found["now"]) == ("0.5000", "0.5000")
    assert found["flagged"] == "25"
    assert found["false_alarms"] == found["misses"] == found["missed_a_day"] == "\N{EN DASH}"
    assert found["false_alarms_interval"] == "not known yet"
    assert "Nobody has reviewed these records yet." in page.text


CUMULATED = """select e.edge, count(*) as records,
                      count(*) filter (where (f.sampled or f.is_anomaly) and f.review = 'anomaly') as anomalies,
                      count(*) filter (where (f.sampled or f.is_anomaly) and f.review = 'normal') as normals
                 from unnest(%(edges)s::float8[]) as e (edge) join anomaly.ai_flags as f on f.score >= e.edge
                group by e.edge order by e.edge"""
"""Counts at or above each edge."""


def cells_of(site: Site, edges: list[float]) -> list[Cell]:
    """Return the cells between the edges, of which the first is below all scores."""
    above = {row.pop("edge"): row for row in site.db.rows(CUMULATED, edges=edges)}
    none = {"records": 0, "anomalies": 0, "normals": 0}
    found = [Cell(low=-math.inf, records=0)]
    for edge, following in itertools.pairwise([*edges, math.inf]):
        counts = {name: count - above.get(following, none)[name] for name, count in above.get(edge, none).items()}
        found.append(Cell(low=edge, apart=edge == 0.5, **counts))
    return found


def percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value * 100:.1f} %"


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.72, 0.98])
def test_each_number_equals_that_of_a_query(site: Site, threshold: float) -> None:
    reviewed(site)
    page = site.get("/threshold", threshold=threshold, days="all")
    found = figures(page)
    assert found["records"] == str(site.one("select count(*) from anomaly.ai_flags"))
    assert found["reviews"] == str(site.one("select count(*) from anomaly.ai_flags where review is not null"))
    counted = "select count(*) from anomaly.ai_flags where (sampled or is_anomaly) and review in ('anomaly', 'normal')"
    assert found["counted"] == str(site.one(counted))
    flagged = site.one("select count(*) from anomaly.ai_flags where score >= %(at)s", at=threshold)
    days = site.one("select greatest(1, extract(epoch from max(image_at) - min(image_at)) / 86400)::float8 from anomaly.ai_flags")
    assert found["flagged"] == str(flagged)
    assert found["flagged_a_day"] == f"{flagged / days:.1f}"
    edges = [float(each) for each in re.findall(r'<tr data-threshold="([^"]+)"', page.text)]
    cells = cells_of(site, edges)
    exact = effect(cells, 1 + edges.index(threshold))
    for name, share in (("false_alarms", exact.false_alarms), ("misses", exact.misses)):
        assert found[name] == percent(share.value)
        assert found[f"{name}_interval"] == f"{percent(share.low)} to {percent(share.high)}"
    assert found["missed_a_day"] == f"{(exact.misses.value or 0) * exact.unflagged / days:.1f}"


def test_the_bars_add_up_to_the_records_and_to_what_people_said(site: Site) -> None:
    reviewed(site)
    page = site.get("/threshold").text
    assert sum(int(n) for n in re.findall(r": (\d+) all</title>", page)) == len(SCORES)
    for verdict in ("anomaly", "normal", "unsure"):
        shown = sum(int(n) for n in re.findall(rf"(\d+) {verdict}(?:, [^<]*)?</title>", page))
        assert shown == site.one("select count(*) from anomaly.ai_flags where review = %(v)s", v=verdict)


def test_a_record_that_somebody_has_picked_is_shown_and_not_counted(site: Site) -> None:
    records = judge(site.db)
    review(site.db, records[2], "anomaly")
    found = figures(site.get("/threshold"))
    assert (found["reviews"], found["counted"], found["misses_interval"]) == ("1", "0", "not known yet")


def test_a_review_counts_by_the_threshold_that_was_in_force_when_it_was_made(site: Site) -> None:
    records = judge(site.db)
    store(site, 0.3)
    review(site.db, records[16], "normal")  # 0.34, flagged since
    store(site, 0.8)
    review(site.db, records[30], "normal")  # 0.62, no longer flagged
    assert figures(site.get("/threshold"))["counted"] == "1"


def test_a_stored_threshold_is_used_followed_and_shown_with_who_and_why(site: Site) -> None:
    records = reviewed(site)
    page = store(site, 0.7)
    assert "The threshold is stored." in page.text
    found = figures(page)
    assert (found["now"], found["threshold"]) == ("0.7000", "0.7000")
    assert "too many false alarms" in page.text
    assert "All records of this detector follow the stored threshold." in page.text
    assert site.one("select count(*) from anomaly.ai_flags where is_anomaly") == sum(score >= 0.7 for score in SCORES)
    assert site.one("select count(*) from anomaly.ai_results where is_anomaly") == sum(score >= 0.5 for score in SCORES)
    assert site.db.events(records[30][0]) == ["committed", "reviewed", "threshold_changed"]
    [row] = site.db.rows("select detector, threshold, reason, set_by from anomaly.thresholds")
    assert (row["detector"], row["threshold"], row["reason"]) == ("padim@1", 0.7, "too many false alarms")
    judge(site.db, [0.6])
    assert site.one("select is_anomaly from anomaly.ai_flags order by record_id desc limit 1") is False


def test_a_form_that_is_sent_twice_stores_one_threshold(site: Site) -> None:
    judge(site.db)
    for _ in range(2):
        store(site, 0.7, id="0a" * 16)
    assert site.one("select count(*) from anomaly.thresholds") == 1


def test_of_two_people_the_later_one_counts_and_both_see_it(site: Site) -> None:
    judge(site.db)
    first = str(uuid.uuid4())
    store(site, 0.7, id=first, reason="of Ann")
    store(site, 0.4, reason="of Bob")
    page = site.get("/threshold", detector="padim@1", stored=first)
    assert "Somebody has stored another one since, which counts: 0.4000." in page.text
    assert "of Ann" in page.text
    assert "of Bob" in page.text


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"threshold": "nan"}, "the threshold is not a number"),
        ({"threshold": "inf"}, "the threshold is not a number"),
        ({"threshold": ""}, "the threshold is not a number"),
        ({"threshold": "0,5"}, "the threshold is not a number"),
        ({"threshold": "1e9"}, "the threshold has to be from 0.02 to 1"),
        ({"threshold": "-1"}, "the threshold has to be from 0.02 to 1"),
        ({"detector": "nobody@1"}, "there is no such detector"),
        ({"detector": "padim@1\x00"}, "there is no such detector"),
        ({"reason": "  "}, "write a reason"),
        ({"reason": "x" * 501}, "write a reason"),
        ({"reason": "a\x00b"}, "write a reason"),
        ({"id": "1"}, "the form is incomplete"),
    ],
)
def test_a_form_that_makes_no_sense_stores_nothing_and_is_answered_with_a_sentence(site: Site, form: dict[str, str], sentence: str) -> None:
    judge(site.db)
    page = store(site, form.pop("threshold", 0.7), status=HTTPStatus.BAD_REQUEST, **form)
    assert f"Nothing was stored: {sentence}" in page.text
    assert figures(page)["threshold"] == "0.5000"
    assert site.one("select count(*) from anomaly.thresholds") == 0


@pytest.mark.parametrize("threshold", ["nan", "-inf", "x", "1e9", "-1", "\x00"])
def test_an_address_that_makes_no_sense_shows_the_threshold_in_force_and_a_sentence(site: Site, threshold: str) -> None:
    judge(site.db)
    page = site.get("/threshold", threshold=threshold)
    assert 'role="alert"' in page.text
    assert figures(page)["threshold"] == "0.5000"
    page = site.get("/threshold", detector="nobody@1")
    assert "There is no such detector" in page.text
    assert figures(page)["records"] == str(len(SCORES))


def test_each_detector_and_version_has_its_own_scores_and_threshold(site: Site) -> None:
    judge(site.db)
    judge(site.db, [0.1, 30.0, 70.0], detector="padim@2")
    store(site, 0.7)
    page = site.get("/threshold", detector="padim@2")
    assert (figures(page)["records"], figures(page)["now"]) == ("3", "0.5000")
    assert figures(site.get("/threshold", detector="padim@1"))["now"] == "0.7000"
    assert site.one("select count(*) from anomaly.ai_flags where detector = 'padim@2' and threshold = 0.5") == 3


def test_one_source_is_counted_alone(site: Site) -> None:
    records = judge(site.db)
    site.db.do("insert into anomaly.sources (source, config) values ('line 1', '{}')")
    site.db.do("update anomaly.records set source = 'line 1', source_key = id::text where id <= %(id)s", id=records[9][0])
    assert figures(site.get("/threshold", source="line 1"))["records"] == "10"
    assert figures(site.get("/threshold", source="no such"))["records"] == str(len(SCORES))


def test_scores_that_are_all_equal_and_detectors_without_a_threshold_are_shown(site: Site) -> None:
    judge(site.db, [0.9, 0.9])
    assert figures(site.get("/threshold"))["records"] == "2"
    site.db.do("update anomaly.ai_flags set threshold = null")
    page = site.get("/threshold")
    assert "now: none, the detector decides" in page.text
    assert figures(page)["flagged"] == "2"


def test_a_number_that_lies_between_two_steps_is_looked_at_exactly(site: Site) -> None:
    judge(site.db)
    found = figures(site.get("/threshold", exactly="0.6123"))
    assert (found["threshold"], found["flagged"]) == ("0.6123", str(sum(score >= 0.6123 for score in SCORES)))


def test_many_flags_follow_request_by_request_and_the_page_counts_those_that_are_left(site: Site) -> None:
    records = judge(site.db)
    site.db.do(
        """insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, token, detector, score, threshold, image_at)
           select 100000 + n, true, true, 1, 'padim@1', 0.6, 0.5, now() from generate_series(1, %(n)s) as n""",
        n=FOLLOW_BATCH,
    )
    site.db.do(
        "insert into anomaly.thresholds (id, detector, threshold, reason, set_by) values (gen_random_uuid(), 'padim@1', 0.7, 'x', 'ann')"
    )
    page = site.get("/threshold")
    assert figures(page)["left"] == str(FOLLOW_BATCH + len(records))
    for _ in range(20):
        if "left" not in figures(page):
            break
        page = site.post("/threshold/follow", detector="padim@1")
    assert site.one("select count(*) from anomaly.ai_flags where threshold <> 0.7") == 0
    site.post("/threshold/follow", detector="\x00")


def test_what_people_and_detectors_write_is_text(site: Site) -> None:
    plain = judge(site.db)
    shown = structure(site.get("/threshold"))
    site.db.do("update anomaly.ai_flags set detector = %(t)s", t=HOSTILE)
    assert structure(site.get("/threshold")) == shown
    store(site, 0.7, detector=HOSTILE, reason=HOSTILE)
    page = site.get("/threshold", stored=HOSTILE, threshold=HOSTILE)
    assert "<script>alert" not in page.text
    assert "onerror=alert(2)>" not in page.text
    assert plain
