"""Plans of frequent statements: each uses its index, also on tables that were never analyzed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.contracts import SAMPLES
from anomaly.db.session import configure
from anomaly.db.statements import default_statements
from anomaly.errors import ImageNotFound
from anomaly.pipeline.deduplication import GROUP
from tests.parts.plans import rows_read, scans_of
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 30_000
FEW = 8 * GROUP


@pytest.fixture
def db(database: str) -> Iterator[RecordsDb]:
    with RecordsDb(database) as db:
        db.do("alter table anomaly.records set (autovacuum_enabled = false)")
        db.add(MANY)
        db.add(MANY, status="done")
        yield db


def nodes(db: RecordsDb, name: str, *, table: str = "records", **params: Any) -> list[dict[str, Any]]:
    """Return the scans by which a statement reaches the rows of a table, run for once and undone."""
    return scans_of(db, default_statements()[name], table=table, **params)


def scans(db: RecordsDb, name: str, **params: Any) -> set[tuple[str, str]]:
    """The kind of each scan of the records, and its index."""
    return {(node["Node Type"], node.get("Index Name", "")) for node in nodes(db, name, **params)}


def indexes(found: set[tuple[str, str]]) -> set[str]:
    return {index for _, index in found if index}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(("name", "index"), [("claim_pending", "records_pending"), ("claim_done", "records_rescore")])
def test_a_claim_reads_its_own_index_and_nothing_else(db: RecordsDb, name: str, index: str, *, analysed: bool) -> None:
    if analysed:
        db.do("analyze anomaly.records")
    run, began_at = db.began()
    found = scans(db, name, batch_id=run.batch_id, began_at=began_at, size=250)
    assert "Seq Scan" not in {kind for kind, _ in found}
    assert indexes(found) == {index, "records_pkey"}


@pytest.mark.parametrize("name", ["open_chunk", "release_chunks", "release_batch", "reap_expired_chunks", "end_chunk"])
def test_what_a_chunk_still_holds_is_found_by_the_index_of_claimed_records(db: RecordsDb, name: str) -> None:
    db.open(db.claim(size=100))
    db.expire()
    found = scans(db, name, batch_id=db.batch_id(), chunk=0, map_index=HOLDER.map_index, try_number=HOLDER.try_number)
    assert "Seq Scan" not in {kind for kind, _ in found}
    assert "records_claimed" in indexes(found)


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("name", ["commit_verdict", "fail_record", "release_record"])
def test_the_end_of_a_record_finds_it_by_the_key_however_many_are_claimed(db: RecordsDb, name: str, *, analysed: bool) -> None:
    if analysed:  # while nothing is claimed, so that the index of claimed records looks as if it were free
        db.do("vacuum analyze anomaly.records")
    claim = db.open(db.claim(size=2_000))[1_000]
    assert indexes(scans(db, name, record_id=claim.record_id, token=claim.token)) == {"records_pkey"}


def test_whether_a_logged_record_is_claimed_is_looked_up_by_the_key(db: RecordsDb) -> None:
    db.do("vacuum analyze anomaly.records")
    for claim in db.open(db.claim(size=2_000))[:FEW]:
        db.commit(claim)
    db.do("update anomaly.processing_log set at = now() - interval '2 days'")
    assert indexes(scans(db, "delete_log_entries", after_id=0, size=FEW, days=1)) == {"records_pkey"}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("count", [3, 3_000])
def test_whose_turn_it_is_is_looked_up_by_the_key(db: RecordsDb, count: int, *, analysed: bool) -> None:
    """Also while the table is small: a connection keeps the plan that it has made then."""
    configure(db.sql, lent=False)
    if analysed:
        db.do("vacuum analyze anomaly.asks")
    db.rows(
        """insert into anomaly.asks (image_sha256, config, scope, record_id, token, batch_id, chunk, asked_at)
           select number::text, 'c', %(scope)s, %(many)s + number, 1, gen_random_uuid(), 0, now() - interval '2 minutes'
             from generate_series(1, %(count)s) as number
        returning image_sha256""",
        scope=SAMPLES["scope"],
        count=count,
        many=MANY,
    )
    if analysed and count < FEW:
        db.do("analyze anomaly.asks")
    group = range(1, GROUP + 1)
    wanted: dict[str, Any] = {
        "image_sha256s": [str(number) for number in group],
        "record_ids": list(group),
        "tokens": [1] * GROUP,
        "chunk_numbers": [0] * GROUP,
        "newer_than": [None] * GROUP,
    }
    found = nodes(db, "find_or_acquire_ask", table="asks", config="c", **wanted)
    assert {node.get("Index Name", node["Node Type"]) for node in found} == {"asks_pkey", "asks_asked_at", "Tid Scan"}
    assert rows_read(found) < FEW


def test_a_report_reads_no_more_than_its_batch(db: RecordsDb) -> None:
    claims = db.open(db.claim(size=50))
    for claim in claims[:20]:
        db.commit(claim)
    found = scans(db, "run_report", batch_id=db.batch_id())
    assert "Seq Scan" not in {kind for kind, _ in found}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(
    ("name", "index", "params"),
    [
        ("oldest_due", "records_pending", {}),
        ("open_batches", "records_claimed", {"size": 20}),
        ("list_errors", "records_failed_by_state", {}),
        ("record_story", "records_pkey", {"record_id": 1, "size": 1000}),
        ("compare_page", "records_rescore", {"size": FEW}),
        ("export_page", "records_rescore", {"size": FEW, "status": "done"}),
        ("export_page", "records_pending", {"size": FEW, "status": "pending"}),
        ("export_records", "records_pkey", {"record_ids": list(range(1, FEW))}),
    ],
)
def test_an_overview_reads_its_page_by_an_index(db: RecordsDb, name: str, index: str, params: dict[str, Any], *, analysed: bool) -> None:
    for claim in db.open(db.claim(size=20))[:10]:
        db.store.quarantine(claim, error=ImageNotFound("404"), timings={})
    configure(db.sql, lent=False)
    if analysed:
        db.do("vacuum analyze anomaly.records")
    found = [node for node in nodes(db, name, **params) if node["Actual Loops"]]
    assert index in {node.get("Index Name") for node in found}
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    assert rows_read(found) <= 3 * FEW


@pytest.mark.parametrize("name", ["backlog", "backlog_by_source"])
def test_the_backlog_is_counted_by_indexes_of_its_states(db: RecordsDb, name: str) -> None:
    configure(db.sql, lent=False)
    assert indexes(scans(db, name)) == {"records_pending", "records_claimed", "records_quarantined"} | (
        {"records_deferred"} if name == "backlog" else set()
    )
