"""What nobody should do and somebody will: a clear error or a clean skip, and nothing else is touched."""

from __future__ import annotations

import ast
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

import anomaly
from anomaly.errors import ChunkIncomplete, DetectorFailed, LeaseLost, Misconfigured
from anomaly.models.runs import Chunk, Holder, Run
from anomaly.pipeline import runs
from anomaly.pipeline.drain import Pipeline
from anomaly.pipeline.lease import LeaseRenewer
from anomaly.pipeline.parts import Parts
from tests.parts.fakes import SETTINGS, FakeArchive, FakeDetector, FakeFleet, FakeImages
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded.postgres import Postgres

PACKAGE = Path(anomaly.__file__).parent
WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


class Runs(FakeArchive):
    def begin_run(self, run_id: str) -> None:
        pass

    def put_report(self, run_id: str, body: bytes) -> str:
        return f"{run_id} {len(body)}"


def work(db: RecordsDb, run: Run, chunk: Chunk, *, images: FakeImages | None = None, detector: FakeDetector | None = None) -> None:
    """What a mapped task does with its chunk."""
    store = db.store

    def keeper(on_lost: Callable[[int], None]) -> LeaseRenewer:
        return LeaseRenewer(
            lease_s=60,
            renew=lambda numbers: store.renew_chunks(run.batch_id, numbers, HOLDER, lease_s=60),
            shut_overdue_calls=lambda: 0,
            on_lost=on_lost,
        )

    parts = Parts(
        run=run,
        holder=HOLDER,
        first=chunk,
        images=images or FakeImages(),
        detector=detector or FakeDetector(),
        archive=FakeArchive(),
        store=store,
        fleet=FakeFleet(),
        settings=SETTINGS,
        rng=Random(1),
        lease_renewer=keeper,
        on_worked=lambda _: None,
    )
    Pipeline(parts).drain()


def claimed(db: RecordsDb, run: Run) -> list[Chunk]:
    return runs.claim(run, store=db.store, archive=Runs(), queue_lease_s=3600, chunks_max=10)


# ── a clock that is wrong


@pytest.mark.parametrize("wrong_by", [timedelta(hours=-7), timedelta(hours=7)])
def test_a_workers_clock_that_is_wrong_by_hours_changes_nothing(
    db: RecordsDb, monkeypatch: pytest.MonkeyPatch, wrong_by: timedelta
) -> None:
    db.add(6)
    run = db.run()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + wrong_by.total_seconds())
    [chunk] = claimed(db, run)
    with pytest.raises(ChunkIncomplete):
        work(db, run, chunk, detector=FakeDetector(lambda n, _: DetectorFailed("500") if n == 5 else None))
    assert db.statuses() == {"done": 5, "claimed": 1}
    [row] = db.rows("select extract(epoch from leased_until - clock_timestamp()) as parked_s from anomaly.chunks")
    assert 60 < row["parked_s"] < 30 * 1.1 + 60
    assert db.rows("select from anomaly.processing_log where abs(extract(epoch from at - clock_timestamp())) > 60") == []


def test_the_wall_clock_is_read_for_http_dates_the_doctor_signatures_charts_names_of_files_and_times_of_capture_only() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in WALL_CLOCKS:
                found.add(path.name)
    assert found == {"backoff.py", "doctor.py", "webhook.py", "overview.py", "adding.py", "export.py"}


# ── a chunk description that is not ours


@pytest.mark.parametrize("number", [1, -1, 2**31 - 1])
def test_a_chunk_that_does_not_exist_is_passed_over_and_nothing_is_touched(db: RecordsDb, number: int) -> None:
    db.claims(2, holder=Holder(map_index=5, try_number=1))
    run, began_at = db.began()
    before = db.everything()
    work(db, run, Chunk(batch_id=run.batch_id, number=number, began_at=began_at))
    assert db.everything() == before


def test_the_chunk_of_another_task_is_passed_over_and_nothing_is_touched(db: RecordsDb) -> None:
    db.claims(2, holder=Holder(map_index=5, try_number=1))
    run, began_at = db.began()
    before = db.everything()
    work(db, run, Chunk(batch_id=run.batch_id, number=0, began_at=began_at))
    assert db.everything() == before


def test_a_chunk_whose_batch_began_at_another_time_claims_nothing_further(db: RecordsDb) -> None:
    db.add(4)
    run = db.run(chunk_size=2, batch_size=2)
    [chunk] = claimed(db, run)
    work(db, run, replace(chunk, began_at=chunk.began_at - timedelta(days=1)))
    assert db.statuses() == {"done": 2, "pending": 2}


# ── a record deleted while it is claimed


def test_a_record_that_is_deleted_while_it_is_claimed_is_dropped_and_its_neighbours_are_done(db: RecordsDb) -> None:
    added = db.add(5)
    run = db.run()
    [chunk] = claimed(db, run)

    def delete(number: int) -> None:
        if number == 2:
            db.do("delete from anomaly.records where id = %(id)s", id=added[2])

    work(db, run, chunk, images=FakeImages(delete))
    assert db.statuses() == {"done": 4}
    assert db.events(added[2]) == []
    assert len(db.everything()["ai_results"]) == len(db.everything()["ai_flags"]) == 4
    assert [row["ended_at"] is not None for row in db.everything()["chunks"]] == [True]


def test_no_ending_of_a_deleted_record_leaves_a_trace(db: RecordsDb) -> None:
    [claim] = db.claims()
    db.do("delete from anomaly.records")
    before = db.everything()
    error = DetectorFailed("500")
    with pytest.raises(LeaseLost):
        db.commit(claim)
    with pytest.raises(LeaseLost):
        db.store.defer(claim, error=error, timings={})
    with pytest.raises(LeaseLost):
        db.store.quarantine(claim, error=error, timings={})
    with pytest.raises(LeaseLost):
        db.store.give_back(claim, error=error, not_before_s=1)
    assert db.everything() == before


# ── a schema that was not migrated


def test_without_migrations_every_task_says_what_to_run(postgres: Postgres) -> None:
    postgres.ensure_database("never_migrated")
    with RecordsDb(postgres.dsn("never_migrated")) as db:
        run = db.run()
        for task in (
            lambda: claimed(db, run),
            lambda: work(db, run, Chunk(batch_id=run.batch_id, number=0, began_at=datetime.now(UTC))),
            lambda: runs.report(run, store=db.store, archive=Runs()),
        ):
            with pytest.raises(Misconfigured, match="run bin/anomaly migrate"):
                task()


def test_a_schema_that_lacks_a_column_stops_the_task_and_leaves_every_record_as_it_was(db: RecordsDb) -> None:
    db.add(3)
    run = db.run()
    [chunk] = claimed(db, run)
    db.do("alter table anomaly.ai_results rename column cost to price")
    with pytest.raises(Misconfigured, match="run bin/anomaly migrate"):
        work(db, run, chunk)
    assert db.statuses() == {"pending": 3}
    assert {row["attempts"] for row in db.everything()["records"]} == {0}
    assert db.everything()["ai_flags"] == []
