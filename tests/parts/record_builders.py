"""A records database with a store and a plain connection, and builders for its rows."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.rows import dict_row

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.runs import Holder, Run, Window
from anomaly.settings import Settings
from tests.parts.gates import StatementGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from anomaly.db.statements import Statements
    from anomaly.models.records import Claim
    from anomaly.models.runs import BatchId, Origin

START = datetime(2026, 1, 1, tzinfo=UTC)
ARCHIVED = ArchiveKeys(image_key="images/ab.png", answer_key="answers/ab.json", heatmap_key="heatmaps/ab.png")
IMAGE = Image(content=b"", sha256="ab" * 32, media_type="image/png", width_px=300, height_px=200)
HOLDER = Holder(map_index=0, try_number=1)
TABLES = {
    "records": "id",
    "batches": "batch_id",
    "chunks": "batch_id, chunk",
    "ai_results": "record_id, token",
    "processing_log": "id",
    "ai_flags": "record_id",
    "thresholds": "number",
    "asks": "image_sha256, config, scope",
}
WITHIN_S = 10.0


class Lowest(Random):
    """Randomness without jitter: always the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


def an_answer(score: float = 0.9, *, is_anomaly: bool = True, detector: str = "padim@1") -> Answer:
    verdict = Verdict(
        score=score,
        is_anomaly=is_anomaly,
        threshold=0.5,
        label="crack",
        reason="a dark line",
        regions=({"x_px": 1, "y_px": 2, "width_px": 3, "height_px": 4},),
        detector=detector,
        usage={"images": 1},
        cost=0.25,
    )
    return Answer(raw=b"{}", verdict=verdict, latency_ms=12.5)


class RecordsDb:
    """A records database. Its store never sleeps: `now_s` is the clock of the pool, and `on_wait` is called instead of a sleep."""

    def __init__(self, dsn: str, *, settings: Settings | None = None, statements: Statements | None = None) -> None:
        self.dsn = dsn
        self.settings = settings or Settings(review_share=0)
        self.now_s = 0.0
        self.waits: list[float] = []
        self.on_wait: Callable[[], object] = lambda: None
        self.sql = psycopg.connect(dsn, autocommit=True, row_factory=dict_row, client_encoding="UTF8")
        self.sql.execute("set datestyle to iso")
        self.pool = open_pool(connector(dsn, self.settings), self.settings, clock=lambda: self.now_s)
        self.database = Database(self.pool, statements=statements, sleep=self._wait, rng=Lowest())
        self.store = RecordStore(self.database, self.settings, rng=Lowest())
        self._threads = ThreadPoolExecutor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.sql.close()
        self._threads.shutdown()
        self.store.close()

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait()

    # ── read

    def rows(self, query: str, /, **params: Any) -> list[dict[str, Any]]:
        return self.sql.execute(query, params).fetchall()

    def do(self, statement: str, /, **params: Any) -> None:
        self.sql.execute(statement, params)

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of all tables."""
        return {table: self.rows(f"select * from anomaly.{table} order by {order}") for table, order in TABLES.items()}  # noqa: S608  # ours

    def record(self, record_id: int) -> dict[str, Any]:
        return self.rows("select * from anomaly.records where id = %(id)s", id=record_id)[0]

    def events(self, record_id: int) -> list[str]:
        found = self.rows("select event from anomaly.processing_log where record_id = %(id)s order by id", id=record_id)
        return [row["event"] for row in found]

    def statuses(self) -> dict[str, int]:
        found = self.rows("select status, count(*) as n from anomaly.records group by status")
        return {row["status"]: row["n"] for row in found}

    # ── write

    def add(self, count: int, *, status: str = "pending") -> list[int]:
        """Insert records captured a minute apart; return their ids."""
        found = self.rows(
            """insert into anomaly.records (image_url, captured_at, status, processed_at)
               select 'http://images/' || i, %(start)s::timestamptz + i * interval '1 minute', %(status)s,
                      case when %(status)s in ('done', 'quarantined') then now() - interval '1 day' end
                 from generate_series(0, %(count)s - 1) as i returning id""",
            start=START,
            status=status,
            count=count,
        )
        return [row["id"] for row in found]

    def run(self, run_id: str = "run", **changes: Any) -> Run:
        return Run(dag_id="dag", run_id=run_id, **{"window": Window(), **changes})

    def claim(self, run: Run | None = None, *, origin: Origin = "pending", holder: Holder | None = None, size: int = 10) -> int | None:
        """Claim one chunk; return its number."""
        run, began_at = self.began(run)
        map_index, try_number = (holder.map_index, holder.try_number) if holder else (None, 1)
        return self.store.claim_chunk(
            run, began_at=began_at, origin=origin, map_index=map_index, try_number=try_number, lease_s=60, size=size
        )

    def began(self, run: Run | None = None) -> tuple[Run, datetime]:
        run = run or self.run()
        return run, self.store.begin_batch(run)

    def open(self, number: int | None = 0, *, run: Run | None = None, holder: Holder = HOLDER) -> tuple[Claim, ...]:
        assert number is not None
        return self.store.open_chunk((run or self.run()).batch_id, number, holder, lease_s=60)

    def claims(self, count: int = 1, *, origin: Origin = "pending", holder: Holder = HOLDER) -> tuple[Claim, ...]:
        """Insert, claim and open *count* records."""
        self.add(count, status=origin)
        return self.open(self.claim(origin=origin, size=count), holder=holder)

    def commit(self, claim: Claim, answer: Answer | None = None, *, holder: Holder = HOLDER, image: Image = IMAGE) -> None:
        self.store.commit(
            claim,
            answer or an_answer(),
            ARCHIVED,
            config="digest",
            image=image,
            run=self.run(),
            holder=holder,
            timings={"fetch": 1.0, "detect": 2.0},
        )

    def expire(self) -> None:
        self.do("update anomaly.chunks set leased_until = now() - interval '1 second' where ended_at is null")

    def batch_id(self, run_id: str = "run") -> BatchId:
        return self.run(run_id).batch_id

    def window(self, first: int, last: int) -> Window:
        """Return the window from one inserted record up to another, exclusive."""
        return Window(start=START + timedelta(minutes=first), end=START + timedelta(minutes=last))

    # ── concurrency

    def meanwhile(self, action: Callable[[], Any]) -> Future[Any]:
        """Run *action* on another thread."""
        return self._threads.submit(action)

    def gate(self, table: str, event: str, condition: str = "true") -> StatementGate:
        return StatementGate(self.sql, table, event, condition)

    @contextlib.contextmanager
    def locked(self, record_id: int) -> Iterator[Callable[[], None]]:
        """Lock the record's row from another session, until exit or until the yielded function is called."""
        with psycopg.connect(self.dsn) as other:
            other.execute("select from anomaly.records where id = %s for update", [record_id])
            yield other.rollback

    def await_blocked(self, count: int = 1) -> None:
        """Wait until exactly *count* statements wait for a lock."""
        self.until(lambda: len(self.blocked()) == count)

    def blocked(self) -> list[int]:
        """Return the process ids of backends that wait for a lock, the longest first."""
        query = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' order by query_start"
        return [row["pid"] for row in self.rows(query)]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, self.rows("select pid, state, wait_event, query from pg_stat_activity")
            time.sleep(0.01)
