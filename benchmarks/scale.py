"""Measures what a record costs the database: claim, open and commit at full speed, and the growth of each table.

    python -m benchmarks.scale --records 1000000

Several processes share one batch, as the mapped tasks of a run do, with the project's statements and a Postgres of their own. Detector and
archive take no time, so only the database is measured. At the end, SQL checks that each record has exactly one right result.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.db.schema import migrate
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.runs import Chunk, Holder, Run, Window
from anomaly.pipeline.chunk_source import ChunkSource
from anomaly.settings import Settings
from benchmarks import capacity
from benchmarks.bench import JobFailed
from benchmarks.figures import LoadFigures, tables
from benchmarks.statements import sql
from benchmarks.table_stats import State, connect, growth, one
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from psycopg import Connection

    from anomaly.models.records import Claim
    from anomaly.pipeline.chunk_source import OpenChunk

CHUNK_SIZE = 250
THREADS = 5
"""Committing threads in each process."""
LEASE_S = 600.0
EDGE = 20
"""Number of chunks at the start and at the end whose claims are compared."""
PROGRESS_S = 10.0
ANOMALOUS_FROM = 0.9
CONFIG = hashlib.sha256(b"scale").hexdigest()
REGION = {"x_px": 1, "y_px": 2, "width_px": 30, "height_px": 40, "score": 0.95}
TIMINGS = {"fetch": 22.163, "detect": 290.136, "archive": 61.743}
SPREADS = {name: {"p50": took, "p95": took, "max": took} for name, took in TIMINGS.items()}
TALLY = {"ended": {"committed": CHUNK_SIZE}, "timings_ms": SPREADS}
DATABASE = "scale"


@dataclass(frozen=True, slots=True)
class Share:
    """The job of one process."""

    dsn: str
    chunk: Chunk
    map_index: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """The measurements of one process. Times are of the monotonic clock, which all processes share."""

    claims: list[tuple[float, float]]
    """For each chunk, the time at which it was open, and the milliseconds to reap, claim and open it."""
    commits_ms: list[float]
    began: float
    """When the process had connected; imports are not measured."""
    ended: float


# ── a process


def work(share: Share) -> Measurements:
    """Claim, open and commit until nothing is due. The next chunk is claimed during the commits, as in the pipeline."""
    settings = Settings(db_pool_max=THREADS + 1, commit_workers=THREADS)
    store = RecordStore(Database(open_pool(connector(share.dsn, settings), settings)), settings)
    run, holder = scale_run(), Holder(map_index=share.map_index, try_number=1)
    source = ChunkSource(run=run, holder=holder, first=share.chunk, store=store, lease_s=LEASE_S)
    claims: list[tuple[float, float]] = []
    commits_ms: list[float] = []
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as committers, ThreadPoolExecutor(1) as claimer:
        upcoming = claimer.submit(_next, source, claims)
        while (chunk := upcoming.result()) is not None:
            upcoming = claimer.submit(_next, source, claims)
            commits_ms.extend(committers.map(partial(_commit, store, run, holder), chunk.claims))
            if not store.end_chunk(run, chunk.number, holder, tally=TALLY):
                raise JobFailed(f"chunk {chunk.number} has not ended")
    ended = time.monotonic()
    store.close()
    return Measurements(claims, commits_ms, began, ended)


def _next(source: ChunkSource, claims: list[tuple[float, float]]) -> OpenChunk | None:
    began = time.monotonic()
    if (chunk := source.next()) is not None:
        claims.append((time.monotonic(), (time.monotonic() - began) * 1000))
    return chunk


def _commit(store: RecordStore, run: Run, holder: Holder, claim: Claim) -> float:
    """Commit an answer, with keys of realistic length, and return the milliseconds it took."""
    sha256 = hashlib.sha256(str(claim.record_id).encode()).hexdigest()
    image = Image(content=b"", sha256=sha256, media_type="image/jpeg", width_px=300, height_px=300)
    began = time.monotonic()
    store.commit(claim, answer_to(claim.record_id), archived(sha256), config=CONFIG, image=image, run=run, holder=holder, timings=TIMINGS)
    return (time.monotonic() - began) * 1000


def answer_to(number: int) -> Answer:
    """Return the answer that `check.sql` expects. One record in ten is an anomaly, with a region."""
    score = (number * 7919 % 1000) / 1000
    is_anomaly = score >= ANOMALOUS_FROM
    verdict = Verdict(
        score=score,
        is_anomaly=is_anomaly,
        threshold=ANOMALOUS_FROM,
        label="anomalous" if is_anomaly else "normal",
        regions=(REGION,) if is_anomaly else (),
        detector="bench@1",
        usage={"images": 1},
    )
    return Answer(raw=b"", verdict=verdict, latency_ms=290.136)


def archived(sha256: str) -> ArchiveKeys:
    folder = sha256[:2]
    return ArchiveKeys(image_key=f"images/sha256/{folder}/{sha256}.jpg", answer_key=f"answers/{CONFIG}/{folder}/{sha256}.json")


def scale_run() -> Run:
    return Run(dag_id="anomaly_detection", run_id="scheduled__2026-11-24T00:00:00+00:00", window=Window(), chunk_size=CHUNK_SIZE)


# ── the load


def load(dsn: str, *, records: int, processes: int) -> tuple[list[Measurements], float]:
    """Process all records and return the measurements of each process and the seconds from the first start to the last end."""
    settings = Settings()
    store = RecordStore(Database(open_pool(connector(dsn, settings), settings)), settings)
    run = scale_run()
    began_at = store.begin_batch(run)
    shares = [_share(store, run, dsn, index, began_at=began_at) for index in range(min(processes, -(-records // CHUNK_SIZE)))]
    store.close()
    with ProcessPoolExecutor(len(shares), mp_context=get_context("spawn")) as pool:
        began = time.monotonic()
        working = [pool.submit(work, share) for share in shares]
        _print_progress(working, dsn, records=records, since=began)
        worked = [each.result() for each in working]
    return worked, max(each.ended for each in worked) - min(each.began for each in worked)


def _share(store: RecordStore, run: Run, dsn: str, map_index: int, *, began_at: Any) -> Share:
    number = store.claim_chunk(run, began_at=began_at, origin="pending", map_index=None, try_number=0, lease_s=LEASE_S)
    if number is None:
        raise JobFailed("there was nothing to claim")
    return Share(dsn, Chunk(batch_id=run.batch_id, number=number, began_at=began_at), map_index)


def _print_progress(working: Sequence[Future[Measurements]], dsn: str, *, records: int, since: float) -> None:
    with connect(dsn) as connection:
        while wait(working, timeout=PROGRESS_S).not_done:
            claimed, took_s = one(connection, "select sum(claimed) as value from anomaly.batches"), time.monotonic() - since
            say(f"{claimed:,} of {records:,} claimed after {took_s:.0f} s, {claimed / took_s:,.0f} a second")


# ── what it came to


def measure(server: Postgres, *, records: int, processes: int) -> LoadFigures:
    """Fill a database, process its records and check the results.

    Raises:
        JobFailed: a record does not have exactly one right result.
    """
    server.ensure_database(DATABASE)
    dsn = server.dsn(DATABASE)
    migrate(dsn)
    with connect(dsn) as connection:
        connection.execute(sql("fill"), {"images_url": "https://images.example/line-4/camera-2", "records": records})
        for statement in ("vacuum analyze anomaly.records", "checkpoint", "create extension pg_walinspect"):
            connection.execute(statement)
        before = State.of(connection)
        worked, took_s = load(dsn, records=records, processes=processes)
        grown = growth(connection, before, State.of(connection), records=records)
        check(connection, records)
    claims = [took_ms for _, took_ms in sorted(chain.from_iterable(each.claims for each in worked))]
    commits = sorted(chain.from_iterable(each.commits_ms for each in worked))
    return LoadFigures(
        records=records,
        processes=len(worked),
        threads=THREADS,
        chunk_size=CHUNK_SIZE,
        edge=EDGE,
        took_s=took_s,
        first_claims_ms=median(claims[:EDGE]),
        last_claims_ms=median(claims[-EDGE:]),
        claims_ms=median(claims),
        commit_p50_ms=median(commits),
        commit_p95_ms=quantiles(commits, n=20)[-1],
        growth=grown,
    )


def check(connection: Connection[dict[str, Any]], records: int) -> None:
    """Raise JobFailed unless each record has exactly one right result, its log entry and its flags."""
    found = connection.execute(sql("check"), {"records": records}).fetchone() or {}
    if wrong := {name: count for name, count in found.items() if count}:
        raise JobFailed(str(wrong))


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument(
        "--records", type=int, default=100_000, metavar="N", help="records that are worked (100000); a million takes about 2 GB"
    )
    options.add_argument("--processes", type=int, default=2, metavar="N", help="tasks that work side by side (2)")
    arguments = options.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as server:
        figures = measure(server, records=arguments.records, processes=arguments.processes)
    say(tables(figures))
    say(f"\n{capacity.table(figures.growth, chunk_size=CHUNK_SIZE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
