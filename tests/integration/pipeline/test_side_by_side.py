"""Ninety-seven quarter-hour runs of one day, all at once, over the same records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict

from anomaly.models.runs import Holder, Window
from tests.parts.pgbouncer import PgBouncer
from tests.parts.record_builders import ARCHIVED, IMAGE, START, RecordsDb, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly.models.runs import Run
    from embedded.postgres import Postgres

QUARTER = timedelta(minutes=15)
RUNS = 97
HOLDER = Holder(map_index=0, try_number=1)


@pytest.fixture
def db(database: str) -> Iterator[RecordsDb]:
    with RecordsDb(database) as db:
        db.add(15 * RUNS)
        yield db


def drain(db: RecordsDb, run: Run) -> int:
    """Claim, open and commit until nothing of the run's window is due; how many records it did."""
    began_at, done = db.store.begin_batch(run), 0
    while (number := db.store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60)) is not None:
        for claim in db.store.open_chunk(run.batch_id, number, HOLDER, lease_s=60):
            db.store.commit(claim, an_answer(), ARCHIVED, config="c", image=IMAGE, run=run, holder=HOLDER, timings={})
            done += 1
        assert db.store.end_chunk(run, number, HOLDER, tally={})
    db.store.end_batch(run.batch_id)
    return done


def all_at_once(db: RecordsDb, windows: list[Window]) -> list[int]:
    runs = [db.run(str(number), window=window, chunk_size=4) for number, window in enumerate(windows)]
    with ThreadPoolExecutor(len(runs)) as threads:
        return list(threads.map(lambda run: drain(db, run), runs))


def assert_each_done_once(db: RecordsDb) -> None:
    [row] = db.rows("select count(*) as results, count(distinct record_id) as records from anomaly.ai_results")
    assert row == {"results": 15 * RUNS, "records": 15 * RUNS}
    assert db.statuses() == {"done": 15 * RUNS}
    assert db.rows("select distinct token from anomaly.records") == [{"token": 2}], "each was claimed once and opened once"


def test_backfill_runs_side_by_side_do_each_record_once_in_the_run_whose_interval_holds_it(db: RecordsDb) -> None:
    done = all_at_once(db, [Window(start=START + n * QUARTER, end=START + (n + 1) * QUARTER) for n in range(RUNS)])
    assert done == [15] * RUNS
    assert_each_done_once(db)
    strays = db.rows(
        """select r.id from anomaly.ai_results as a join anomaly.records as r on r.id = a.record_id
            where r.captured_at < %(start)s + a.run_id::integer * interval '15 minutes'
               or r.captured_at >= %(start)s + (a.run_id::integer + 1) * interval '15 minutes'""",
        start=START,
    )
    assert strays == []


def test_runs_side_by_side_behind_a_pooler_with_three_sessions_share_no_record(postgres: Postgres, database: str, tmp_path: Path) -> None:
    with PgBouncer(tmp_path, postgres, mode="transaction", default_pool_size=3) as pooler:
        name = str(conninfo_to_dict(database)["dbname"])
        with RecordsDb(pooler.dsn(name)) as behind, RecordsDb(database) as direct:
            direct.add(15 * RUNS)
            done = all_at_once(behind, [Window(end=START + (n + 1) * QUARTER) for n in range(RUNS)])
            assert sum(done) == 15 * RUNS
            assert_each_done_once(direct)


def test_scheduled_runs_side_by_side_whose_windows_hold_each_others_records_share_none_of_them(db: RecordsDb) -> None:
    done = all_at_once(db, [Window(end=START + (n + 1) * QUARTER) for n in range(RUNS)])
    assert sum(done) == 15 * RUNS
    assert_each_done_once(db)
