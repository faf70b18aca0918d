"""Checks that claiming by window does not depend on the number of done records: 1,000 of 10,000 pending ones are claimed.

    python -m benchmarks.claim_by_window --done 10 --few 0.1

A Postgres of its own holds a table with many done records and one with few; a million takes about 0.4 GB. Claims alternate between them, so
that other load on the machine affects both.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.db.schema import migrate
from anomaly.models.runs import Run, Window
from anomaly.settings import Settings
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

PENDING, CLAIMED = 10_000, 1_000
LIMIT = 1.3
MILLION = 1_000_000
STRIDE = 500_000
"""Records that one statement inserts."""
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=365)


@dataclass(frozen=True)
class Table:
    """A records database with *done* done records, and pending ones spread evenly among them."""

    done: int
    store: RecordStore

    def claim_ms(self, number: int) -> float:
        """Claim once, by a window in the middle of the table, release the claim, and return its duration."""
        window = Window(start=START + SPAN / 4, end=START + SPAN)
        run = Run(dag_id="benchmark", run_id=str(number), window=window)
        began_at = self.store.begin_batch(run)
        began = time.perf_counter()
        chunk = self.store.claim_chunk(run, began_at=began_at, size=CLAIMED, origin="pending", map_index=None, try_number=0, lease_s=60)
        took_ms = (time.perf_counter() - began) * 1000
        freed = self.store.release_batch(run.batch_id).records
        if chunk is None or freed != CLAIMED:
            raise SystemExit(f"{freed} records were claimed instead of {CLAIMED}")
        return took_ms


@contextlib.contextmanager
def table(server: Postgres, done: int) -> Iterator[Table]:
    name = f"windows_{done}"
    server.ensure_database(name)
    dsn = server.dsn(name)
    migrate(dsn)
    began = time.perf_counter()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        for first in range(0, done, STRIDE):
            insert(connection, "done", first, min(STRIDE, done - first), of=done)
            say(f"{name}: {min(first + STRIDE, done):,} of {done:,} records after {time.perf_counter() - began:.0f} s")
        insert(connection, "pending", 0, PENDING, of=PENDING)
        connection.execute("vacuum analyze anomaly.records")
    settings = Settings()
    with contextlib.closing(Database(open_pool(connector(dsn, settings), settings))) as database:
        yield Table(done, RecordStore(database, settings))


def insert(connection: psycopg.Connection, status: str, first: int, count: int, *, of: int) -> None:
    """Insert records of one status, spread evenly over the whole span."""
    connection.execute(
        """insert into anomaly.records (image_url, captured_at, status, attempts, token, image_sha256, processed_at)
           select 'https://images.example/' || i || '.jpg', %(start)s::timestamptz + i * (%(span)s::interval / %(of)s::integer), %(status)s,
                  (%(status)s = 'done')::integer, 2, case when %(status)s = 'done' then md5(i::text) || md5(i::text) end,
                  case when %(status)s = 'done' then now() end
             from generate_series(%(first)s::integer, %(first)s + %(count)s - 1) as i""",
        {"start": START, "span": SPAN, "of": of, "status": status, "first": first, "count": count},
    )


def measure(few: Table, many: Table, *, claims: int) -> float:
    """Claim from the tables in turns and return the ratio of the medians."""
    took: dict[Table, list[float]] = {few: [], many: []}
    for number in range(claims):
        for each in (few, many) if number % 2 else (many, few):
            took[each].append(each.claim_ms(number))
    for each, values in took.items():
        ascending = sorted(values)
        spread = f"p50 {statistics.median(values):.1f} ms, fastest {ascending[0]:.1f}, slowest {ascending[-1]:.1f}"
        say(f"{CLAIMED:,} of {PENDING:,} pending among {each.done:,} done: {spread}, {claims} claims")
    return statistics.median(took[many]) / statistics.median(took[few])


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claim_by_window", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--done", type=float, default=10.0, help="done records of the large table, in millions (default: 10)")
    parser.add_argument("--few", type=float, default=0.1, help="done records of the small one, in millions (default: 0.1)")
    parser.add_argument("--claims", type=int, default=40, help="claims from each table (default: 40)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as server, contextlib.ExitStack() as tables:
        few, many = (tables.enter_context(table(server, int(millions * MILLION))) for millions in (arguments.few, arguments.done))
        ratio = measure(few, many, claims=arguments.claims)
    say(f"ratio {ratio:.2f}, at most {LIMIT} is wanted")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
