"""The page about one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.errors import DetectorFailed, ImageNotFound
from tests.integration.page.conftest import figures, structure
from tests.integration.page.test_gallery import shown
from tests.integration.page.test_overview import HOSTILE
from tests.parts.record_builders import HOLDER, an_answer

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site


def work(site: Site, run_id: str = "run") -> list[int]:
    """Let a run judge three records, quarantine one and defer one; return the ids."""
    run = site.db.run(run_id)
    site.db.add(5)
    chunk = site.db.claim(run, size=5)
    claims = sorted(site.db.open(chunk, run=run), key=lambda claim: claim.record_id)
    for claim, (score, is_anomaly) in zip(claims, ((0.2, False), (0.6, True), (0.9, False)), strict=False):
        site.db.commit(claim, an_answer(score, is_anomaly=is_anomaly))
    site.db.store.quarantine(claims[3], error=ImageNotFound("gone"), timings={})
    site.db.store.defer(claims[4], error=DetectorFailed("500"), timings={})
    ended = {"committed": 3, "quarantined": 1, "deferred": 1}
    site.db.store.end_chunk(run, chunk or 0, HOLDER, tally={"ended": ended})
    return [claim.record_id for claim in claims]


def test_a_run_has_its_counts_failures_and_records_anomalies_first(site: Site) -> None:
    ids = work(site)
    work(site, "other")
    page = site.get("/run", dag_id="dag", run_id="run")
    assert figures(page) == {"judged": "3", "failed": "1", "deferred": "1", "given back": "0"}
    assert shown(page) == [ids[1], ids[2], ids[0]]
    for text in ("image_not_found", "detector_failed", f'href="/records/{ids[3]}"', f'href="/records/{ids[4]}"', "at work"):
        assert text in page.text
    site.db.store.end_batch(site.db.batch_id())
    assert "at work" not in site.get("/run", dag_id="dag", run_id="run").text


def test_the_overview_links_to_a_run(site: Site) -> None:
    ids = work(site, "a/b&c=<d>")
    assert 'href="/run?dag_id=dag&amp;run_id=a%2Fb%26c%3D%3Cd%3E"' in site.get("/").text
    assert len(shown(site.get("/run", dag_id="dag", run_id="a/b&c=<d>"))) == len(ids) - 2


def test_a_run_that_claimed_nothing_or_is_unknown_is_a_sentence(site: Site) -> None:
    site.db.began(site.db.run("empty"))
    assert "has judged no record yet" in site.get("/run", dag_id="dag", run_id="empty").text
    assert "Nothing of this run" in site.get("/run", run_id="none").text
    for run_id in ("\0", "x" * 251):
        site.get("/run", status=400, run_id=run_id)
    site.get("/run", status=400)


def test_text_of_a_run_is_shown_as_text(site: Site) -> None:
    work(site, "harmless")
    work(site, HOSTILE[:250])
    site.db.do("update anomaly.processing_log set error = %(t)s, error_code = %(t)s where error_code is not null", t="harmless")
    harmless = structure(site.get("/run", dag_id="dag", run_id="harmless"))
    site.db.do("update anomaly.processing_log set error = %(t)s, error_code = %(t)s where error_code is not null", t=HOSTILE)
    site.db.do("update anomaly.ai_results set label = %(t)s", t=HOSTILE)
    assert structure(site.get("/run", dag_id="dag", run_id=HOSTILE[:250])) == harmless


def test_of_a_large_run_the_last_ten_thousand_verdicts_are_read(site: Site) -> None:
    ids = work(site)
    later = """insert into anomaly.processing_log (record_id, event, attempt, token, batch_id)
               select 1, 'released', 1, i, %(batch)s from generate_series(1, %(count)s) as i"""
    site.db.do(later, batch=site.db.batch_id(), count=12_000)
    assert len(shown(site.get("/run", dag_id="dag", run_id="run"))) == 3
    assert "Failures of this run" not in site.get("/run", dag_id="dag", run_id="run").text
    site.db.do(later.replace("released", "committed"), batch=site.db.batch_id(), count=9_998)
    page = site.get("/run", dag_id="dag", run_id="run")
    assert set(shown(page)) < set(ids)
    assert figures(page)["judged"] == "3"
