"""The services of a run: real Postgres and S3 behind proxies, a scripted image host and detector, workers that can be killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import psycopg
from PIL import Image
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tests.chaos.runs import DagRun
from tests.chaos.workers import until
from tests.parts.gates import CallGate, StatementGate
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.chaos.workers import Try, Workers
    from tests.parts.http_stub import Seen

SLOTS = 4
LEASE_S = 10
"""The shortest lease that settings allow."""
MARGIN_S = 2.0
WITHIN_S = 60.0
QUIET_S = 1.0
SETTINGS = {
    "LEASE_S": LEASE_S,
    "QUEUE_LEASE_S": LEASE_S,
    "DETECTOR_SLOTS": SLOTS,
    "FETCH_WORKERS": SLOTS,
    "ARCHIVE_WORKERS": SLOTS,
    "COMMIT_WORKERS": SLOTS,
    "DETECTOR_BACKOFF_S": 0.05,
    "IMAGE_BACKOFF_S": 0.05,
    "DB_CALL_DEADLINE_S": 5,
    "DEFER_BACKOFF_S": 1,
    "TASK_BACKOFF_S": 1,
}
HELD_MAX = 2 * SLOTS + SLOTS + SLOTS
"""Most records that a task works on at once, with these settings."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Counts over the records after a row."""

    records: int
    lost: int
    """Records neither done nor quarantined, or done without their result, log entry and flags."""
    duplicates: int
    """Results or log entries of commits beyond the first of a record."""
    stuck: int
    """Records still claimed."""
    asked_twice: int
    """Requests to the detector for an image beyond the first."""


class World:
    """The services of one row, open between enter and exit."""

    def __init__(self, dsn: str, postgres: Postgres, s3: S3, workers: Workers, folder: Path) -> None:
        to = conninfo_to_dict(dsn)
        self.postgres = postgres
        self.dsn = dsn
        self.folder = folder
        self._to = to
        self._s3 = s3
        self._workers = workers
        self._prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self._client = s3.client()
        self._exit = contextlib.ExitStack()
        self.stub = HttpStub()
        self.database = TcpProxy(int(str(to["port"])))
        self.bucket = TcpProxy(s3.port)
        self.fetching = CallGate(10**9)
        self.detecting = CallGate(10**9)
        self.settings: Mapping[str, float | str] = {}
        """Overrides of `SETTINGS`."""
        self.has_source = False
        """True if the records are rows of a table of the user, to which verdicts are written."""
        self.slow_to_end: list[str] = []
        self.stuck = 0
        """Records still leased to a dead worker one lease after its death."""
        self.tries: list[Try] = []

    def __enter__(self) -> Self:
        self._exit.enter_context(self.stub)
        self.images = TcpProxy(self.stub.port)
        self.detector = TcpProxy(self.stub.port)
        for proxy in (self.database, self.bucket, self.images, self.detector):
            self._exit.enter_context(proxy)
        self._exit.callback(self._end_tries)
        self._exit.callback(self._open_gates)
        self.stub.at("/detect", self._detect)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _open_gates(self) -> None:
        for gate in (self.fetching, self.detecting):
            gate.open()

    def _end_tries(self) -> None:
        for each in self.tries:
            if each.alive:
                each.kill()

    # ── image host and detector

    def _detect(self, _seen: Seen) -> Reply:
        self.detecting.wait()
        return Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")

    def use_source(self) -> None:
        """Let records come from a table of the user."""
        self.has_source = True
        self.do("create schema shop")
        self.do("create table shop.photos (id uuid primary key default gen_random_uuid(), url text, at timestamptz, bad boolean, p real)")
        columns = {"table": "shop.photos", "id": "id", "image_url": "url", "captured_at": "at"}
        self.settings = {**self.settings, "SOURCE": json.dumps(columns | {"write_back": {"is_anomaly": "bad", "score": "p"}})}

    def add(self, count: int, *, at: Callable[[int], None] = lambda _: None) -> None:
        """Insert records, each with its own image; call *at* with the number of each image that is fetched."""
        for number in range(count):
            self._add_image(number, at)
        base = f"http://127.0.0.1:{self.images.port}/image/"
        insert = "insert into shop.photos (url, at)" if self.has_source else "insert into anomaly.records (image_url, captured_at)"
        self.do(
            f"""{insert}
               select %(base)s || i, now() - interval '1 day' + i * interval '1 minute' from generate_series(0, %(last)s) as i""",  # noqa: S608  # one of two constants
            base=base,
            last=count - 1,
        )

    def _add_image(self, number: int, at: Callable[[int], None]) -> None:
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(out, "PNG")
        reply = Reply(body=out.getvalue(), content_type="image/png")

        def script(_seen: Seen) -> Reply:
            at(number)
            self.fetching.wait()
            return reply

        self.stub.at(f"/image/{number}", script)

    # ── runs

    def run(self, run_id: str, **how: Any) -> DagRun:
        return DagRun(self, run_id, **how)

    def start_try(self, asked: dict[str, Any]) -> Try:
        run_id = asked["run"]["run_id"]
        memory = self.folder / f"{run_id}-{asked['task']}-{asked['map_index']}.json"
        asked = asked | {"env": self.env(), "memory": str(memory)}
        started = self._workers.start(asked, log=self.folder / f"{run_id}.log", slow_to_end=self.slow_to_end)
        self.tries.append(started)
        return started

    def env(self) -> dict[str, str]:
        to, s3 = self._to, self._s3
        database = {
            "host": "127.0.0.1",
            "port": self.database.port,
            "login": to["user"],
            "password": to["password"],
            "schema": to["dbname"],
        }
        url = f"http://127.0.0.1:{self.bucket.port}"
        bucket = {"bucket": s3.bucket, "prefix": self._prefix, "endpoint_url": url, "region_name": s3.region}
        detector = {"host": "127.0.0.1", "port": self.detector.port, "extra": {"dialect": "generic", "path": "/detect"}}
        settings = {f"ANOMALY_{name}": str(value) for name, value in {**SETTINGS, **self.settings}.items()}
        return settings | {
            "AIRFLOW_CONN_ANOMALY_DB": json.dumps({"conn_type": "postgres", **database}),
            "AIRFLOW_CONN_ANOMALY_S3": json.dumps({"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": bucket}),
            "AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps({"conn_type": "http", **detector}),
            "AIRFLOW_CONN_ANOMALY_IMAGES": json.dumps(
                {"conn_type": "http", "extra": {"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]}}
            ),
            "ANOMALY_LOG_FILE": str(self.folder / "anomaly_detection.log"),
        }

    # ── reads

    def rows(self, query: str, **params: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row, connect_timeout=2) as sql:
            return sql.execute(query, params).fetchall()

    def do(self, statement: str, **params: Any) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as sql:
            sql.execute(statement, params)

    def count(self, table: str, condition: str = "true") -> int:
        found: int = self.rows(f"select count(*) as n from anomaly.{table} where {condition}")[0]["n"]  # noqa: S608  # constants of the tests
        return found

    @property
    def committed(self) -> int:
        return self.count("ai_results")

    def quiet(self) -> bool:
        """Return whether the detector has had no request for QUIET_S seconds."""
        return time.monotonic() - self.stub.asked("/detect")[-1].at > QUIET_S

    @property
    def answers(self) -> int:
        """Number of answers in the bucket."""
        found = self._client.list_objects_v2(Bucket=self._s3.bucket, Prefix=f"{self._prefix}/answers/")
        return len(found.get("Contents", []))

    def put(self, folder: str) -> bytes:
        """Return the first bytes of a request that puts an object below *folder*."""
        return f"PUT /{self._s3.bucket}/{self._prefix}/{folder}/".encode()

    def counted(self) -> Counted:
        asked: defaultdict[bytes, list[str]] = defaultdict(list)
        for seen in self.stub.asked("/detect"):
            asked[seen.body].append(seen.headers["idempotency-key"])
        assert all(len(set(keys)) == 1 for keys in asked.values()), "one image, two idempotency keys"
        if self.has_source:
            disagreeing = """select p.id
                               from shop.photos as p
                               full join anomaly.records as r on r.source_key = p.id::text
                               left join anomaly.ai_flags as f on f.record_id = r.id
                               left join anomaly.ai_results as a on a.record_id = r.id
                              where (p.bad, p.p) is distinct from (f.is_anomaly, a.score::real)"""
            assert self.rows(disagreeing) == []
        whole = """select count(*) filter (where r.status = 'quarantined'
                                              or r.status = 'done' and a.n >= 1 and l.n >= 1 and f.n = 1 and r.attempts = 1) as whole,
                          count(*) as records,
                          sum(greatest(0, greatest(a.n, l.n) - 1))::integer as duplicates,
                          count(*) filter (where r.status = 'claimed') as stuck
                     from anomaly.records as r,
                          lateral (select count(*) as n from anomaly.ai_results where record_id = r.id) as a,
                          lateral (select count(*) as n from anomaly.processing_log where record_id = r.id and event = 'committed') as l,
                          lateral (select count(*) as n from anomaly.ai_flags where record_id = r.id and ai_processed) as f"""
        found = self.rows(whole)[0]
        return Counted(
            records=found["records"],
            lost=found["records"] - found["whole"],
            duplicates=found["duplicates"],
            stuck=found["stuck"],
            asked_twice=sum(len(keys) - 1 for keys in asked.values()),
        )

    # ── faults and waits

    def shut_commits(self, *, after: int) -> Callable[[], int]:
        """Block commits inside their transaction once *after* records are committed, until `open_commits`.

        Returns a function that counts the blocked commits.
        """
        connection = self._exit.enter_context(psycopg.connect(self.dsn, autocommit=True))
        gate = StatementGate(connection, "ai_results", "insert", f"(select count(*) from anomaly.ai_results) >= {after}")  # noqa: S608  # a number
        self._shut = self._exit.enter_context(contextlib.ExitStack())
        self._shut.enter_context(gate.shut())
        return gate.blocked

    def open_commits(self) -> None:
        self._shut.close()

    def await_leases_over(self) -> int:
        """Wait for one lease and a margin, or until no chunk is leased; return the number of chunks still leased."""
        over = time.monotonic() + LEASE_S + MARGIN_S
        live = "select from anomaly.chunks where ended_at is null and leased_until > clock_timestamp()"
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.rows(live), within_s=over - time.monotonic(), what="leases run out")
        return len(self.rows(live))
