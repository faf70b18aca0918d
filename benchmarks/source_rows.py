"""Measures how long new rows of a source take to be found in a small and in a large table, and what writing back adds to a commit.

    python -m benchmarks.source_rows [--rows 10000000] [--repeats 3] [--commits 2000]

Both tables have 100,000 rows within the look-back, of which 10,000 are new and spread over it. The large one has older rows besides.
The looks at both take turns, and so do commits with and without writing back, in blocks of 100.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.db.schema import migrate
from anomaly.db.source_store import SourceStore
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.runs import Holder, Run, Window
from anomaly.models.source import sources_of
from anomaly.settings import Settings
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SMALL, NEW, BLOCK = 100_000, 10_000, 100
IMAGE = Image(content=b"", sha256="ab" * 32, media_type="image/jpeg", width_px=300, height_px=300)
CREATE = """
create schema shop;
create table shop.photos (photo_id bigint primary key, url text not null, taken_at timestamptz not null, verdict boolean, score real);
insert into shop.photos
select i, 'http://images/' || i, now() - case when i <= %(small)s then i * interval '0.8 s' else interval '1 day' + i * interval '3 s' end
  from generate_series(1, %(rows)s) as i;
create index on shop.photos (taken_at);
insert into anomaly.records (source, source_key, image_url, captured_at, status, processed_at)
select 'shop.photos', photo_id::text, url, taken_at, 'done', now() from shop.photos where photo_id > %(small)s or photo_id %% 10 > 0;
"""
FORGET = "delete from anomaly.records where source_key::bigint <= %(small)s and source_key::bigint %% 10 = 0"
SOURCE = {"table": "shop.photos", "id": "photo_id", "image_url": "url", "captured_at": "taken_at"}


@contextlib.contextmanager
def table_of(server: Postgres, rows: int) -> Iterator[Callable[[], float]]:
    """Create a table of so many rows, and yield a function that looks for its new rows and returns the seconds that it took."""
    name = f"rows_{rows}"
    server.ensure_database(name)
    dsn = server.dsn(name)
    migrate(dsn)
    [source] = sources_of(SOURCE, "the benchmark")
    with psycopg.connect(dsn, autocommit=True) as owner:
        with owner.transaction(), psycopg.ClientCursor(owner) as cursor:
            cursor.execute(CREATE, {"small": SMALL, "rows": rows})
        owner.execute("vacuum analyze")
        database = Database(open_pool(connector(dsn, Settings()), Settings()))
        store = SourceStore(source, records=database, rows=database)
        store.attach(trigger=False)
        owner.execute("update anomaly.sources set found_until = now()")

        def find_s() -> float:
            began = time.perf_counter()
            if store.find(Window(), most=None).added != NEW:
                raise SystemExit("not every new row was found")
            took_s = time.perf_counter() - began
            with psycopg.ClientCursor(owner) as cursor:
                cursor.execute(FORGET, {"small": SMALL})
            owner.execute("vacuum anomaly.records")
            return took_s

        yield find_s
        database.close()


def commit_s(server: Postgres, commits: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each commit without and with writing back."""
    name = "commits"
    server.ensure_database(name)
    dsn = server.dsn(name)
    migrate(dsn)
    [source] = sources_of({**SOURCE, "write_back": {"is_anomaly": "verdict", "score": "score"}}, "the benchmark")
    with psycopg.connect(dsn, autocommit=True) as owner, psycopg.ClientCursor(owner) as cursor:
        cursor.execute(CREATE, {"small": 3 * commits, "rows": 3 * commits})
        cursor.execute("update anomaly.records set status = 'pending'")
        cursor.execute("vacuum analyze")
    database = Database(open_pool(connector(dsn, Settings()), Settings()))
    stores = RecordStore(database, Settings()), RecordStore(database, Settings(), sources=[source])
    run, holder = Run(dag_id="d", run_id="r", window=Window()), Holder(map_index=0, try_number=1)
    verdict = Verdict(score=0.9, is_anomaly=True, threshold=0.5, label=None, reason=None, regions=(), detector="d", usage=None, cost=None)
    answer, keys = Answer(raw=b"{}", verdict=verdict, latency_ms=1.0), ArchiveKeys(image_key="i", answer_key="a", heatmap_key=None)
    took: tuple[list[float], list[float]] = [], []
    began_at = stores[0].begin_batch(run)
    while len(took[1]) < commits:
        for store, seconds in zip(stores, took, strict=True):
            number = store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=600, size=BLOCK)
            if number is None:
                raise SystemExit("too few records")
            for claim in store.open_chunk(run.batch_id, number, holder, lease_s=600):
                began = time.perf_counter()
                store.commit(claim, answer, keys, config="c", image=IMAGE, run=run, holder=holder, timings={})
                seconds.append(time.perf_counter() - began)
    database.close()
    return took


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commits", type=int, default=2000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as server:
        without, written = (statistics.median(each) * 1000 for each in commit_s(server, options.commits))
        print(f"commit: {without:.3f} ms without, {written:.3f} ms with writing back, {written / without:.2f} x")  # noqa: T201  # its result
        with table_of(server, SMALL) as small, table_of(server, options.rows) as large:
            found = [(small(), large()) for _ in range(options.repeats)]
        for rows, took in zip((SMALL, options.rows), zip(*found, strict=True), strict=True):
            print(f"find {NEW} of {rows} rows: {min(took):.2f} s, median {statistics.median(took):.2f} s")  # noqa: T201  # as above
        print(f"{statistics.median(large / small for small, large in found):.2f} x")  # noqa: T201  # as above


if __name__ == "__main__":
    main()
