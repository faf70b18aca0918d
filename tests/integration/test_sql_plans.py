"""How Postgres runs the statements of the hot path: by the index that was made for each, on tables that nobody has analysed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.sql_check import SAMPLES
from anomaly.statements import shipped
from tests.parts.records_bench import HOLDER, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 30_000


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        bench.do("alter table anomaly.records set (autovacuum_enabled = false)")
        bench.add(MANY)
        bench.add(MANY, status="done")
        yield bench


def scans(bench: Bench, name: str, **params: Any) -> set[tuple[str, str]]:
    """How a statement reaches the records, run for once and undone: the kind of scan and the index."""
    with bench.sql.transaction(force_rollback=True):
        [row] = bench.rows(f"explain (analyze, format json) {shipped().text(name)}", **{**SAMPLES, **params})
    found: set[tuple[str, str]] = set()
    waiting = [json.loads(json.dumps(row["QUERY PLAN"]))[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if node.get("Relation Name") == "records" and "Scan" in node["Node Type"]:
            found.add((node["Node Type"], node.get("Index Name", "")))
        elif node["Node Type"].startswith("Bitmap Index"):
            found.add((node["Node Type"], node["Index Name"]))
    return found


def indexes(found: set[tuple[str, str]]) -> set[str]:
    return {index for _, index in found if index}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(("name", "index"), [("claim_pending", "records_pending"), ("claim_done", "records_rescore")])
def test_a_claim_reads_its_own_index_and_nothing_else(bench: Bench, name: str, index: str, *, analysed: bool) -> None:
    if analysed:
        bench.do("analyze anomaly.records")
    run, began_at = bench.began()
    found = scans(bench, name, batch_id=run.batch_id, began_at=began_at, size=250)
    assert "Seq Scan" not in {kind for kind, _ in found}
    assert indexes(found) == {index, "records_pkey"}


@pytest.mark.parametrize("name", ["open_chunk", "release_chunks", "release_batch", "reap_expired_chunks", "end_chunk"])
def test_what_a_chunk_still_holds_is_found_by_the_index_of_claimed_records(bench: Bench, name: str) -> None:
    bench.open(bench.claim(size=100))
    bench.expire()
    found = scans(bench, name, batch_id=bench.batch_id(), chunk=0, map_index=HOLDER.map_index, try_number=HOLDER.try_number)
    assert "Seq Scan" not in {kind for kind, _ in found}
    assert "records_claimed" in indexes(found)


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("name", ["commit_verdict", "fail_record", "release_record"])
def test_the_end_of_a_record_finds_it_by_the_key_however_many_are_claimed(bench: Bench, name: str, *, analysed: bool) -> None:
    if analysed:  # while nothing is claimed, so that the index of claimed records looks as if it were free
        bench.do("vacuum analyze anomaly.records")
    claim = bench.open(bench.claim(size=2_000))[1_000]
    assert indexes(scans(bench, name, record_id=claim.record_id, token=claim.token)) == {"records_pkey"}


def test_a_report_reads_no_more_than_its_batch(bench: Bench) -> None:
    claims = bench.open(bench.claim(size=50))
    for claim in claims[:20]:
        bench.commit(claim)
    found = scans(bench, "run_report", batch_id=bench.batch_id())
    assert "Seq Scan" not in {kind for kind, _ in found}
