"""Processes many records in several processes under faults: `python -m benchmarks.soak [--records N]`.

One in twenty first requests to the image host and to the detector fails as one of `FAULTS`. Every few seconds all connections to the
database or to S3 are reset, and now and then S3 refuses connections. Postgres, S3 and HTTP are real; Airflow is not used. Two records
cannot succeed, for different reasons.

Exits with 1 unless each other record is done exactly once, those two are quarantined for their reasons, and memory does not grow.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, LiteralString

import psutil
import psycopg
from PIL import Image
from psycopg.conninfo import make_conninfo
from rich.console import Console

from anomaly.db.record_store import RecordStore
from anomaly.db.schema import migrate
from anomaly.pipeline import runs
from benchmarks.soak_worker import READ_TIMEOUT_S, SETTINGS, build_archive, build_run, open_database
from embedded.postgres import Postgres
from embedded.s3 import S3
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from tests.parts.http_stub import Seen

SHARE = 0.05
ROUNDS_MAX = 10
GROWTH_MAX = 1.2
ANSWER = Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")
FAULTS: dict[str, Reply] = {
    "500": Reply(status=500),
    "503": Reply(status=503),
    "429": Reply(status=429, headers={"Retry-After": "1"}),
    "reset": Reply(reset=True),
    "silence": Reply(headers_after_s=READ_TIMEOUT_S + 1, reset=True),
    "cut": Reply(body=b'{"score": 0.25, "is_an', headers={"Content-Length": "4096"}, cut_at=20),
}
NEVER = {0: "image_not_found", 1: "detector_refused"}


class Hosts(HttpStub):
    """Image host and detector that fail at the first request of one record in twenty."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._asked: Counter[tuple[str, int]] = Counter()

    def answer(self, seen: Seen) -> Reply:
        _, kind, *rest = seen.path.split("/")
        number = int(rest[0]) if rest else self._numbers[hashlib.sha256(seen.body).hexdigest()]
        self._asked[kind, number] += 1
        chance = Random(f"{kind}/{number}")  # noqa: S311  # the same faults each time
        if number in NEVER:
            return self._never(kind, number)
        if self._asked[kind, number] == 1 and chance.random() < SHARE:
            fault = chance.choice(sorted(FAULTS))
            self.faults[f"{kind} {fault}"] += 1
            return FAULTS[fault]
        return self._image(number) if kind == "image" else ANSWER

    def _never(self, kind: str, number: int) -> Reply:
        if kind == "image":
            return Reply(status=404) if NEVER[number] == "image_not_found" else self._image(number)
        return Reply(status=422)

    def _image(self, number: int) -> Reply:
        out = io.BytesIO()
        Image.new("RGB", (32, 32), (number % 256, number // 256 % 256, number // 65536)).save(out, "PNG")
        self._numbers[hashlib.sha256(out.getvalue()).hexdigest()] = number
        return Reply(body=out.getvalue(), content_type="image/png")


class Soak:
    """One soak: its servers, its workers, and the checks at the end."""

    def __init__(self, *, records: int, workers: int, folder: Path) -> None:
        self.records, self.workers, self.folder = records, workers, folder
        self.console = Console(width=200)
        self.began = time.monotonic()
        self.over = threading.Event()
        self.rss_mib: dict[int, float] = {}
        """TaskState of the largest worker, by percentage of done records."""
        self.cuts: Counter[str] = Counter()

    def run(self) -> bool:
        with ExitStack() as opened:
            postgres, s3 = opened.enter_context(Postgres(self.folder / "pg")), opened.enter_context(S3(self.folder / "s3"))
            hosts = opened.enter_context(Hosts())
            database, bucket = opened.enter_context(TcpProxy(postgres.port)), opened.enter_context(TcpProxy(s3.port))
            self.sql = opened.enter_context(self._database(postgres, hosts))
            given = {"dsn": make_conninfo(postgres.dsn("soak"), port=database.port), "hosts": hosts.url("").rstrip("/")}
            given |= {"s3": f"http://127.0.0.1:{bucket.port}", "key": s3.access_key, "secret": s3.secret_key}
            cutting = threading.Thread(target=self._cut, args=(database, bucket), daemon=True)
            cutting.start()
            try:
                for number in range(ROUNDS_MAX):
                    if not self._round(f"round {number}", given, postgres.dsn("soak")):
                        break
            finally:
                self.over.set()
                cutting.join()
            return self._verdict(hosts)

    def _database(self, postgres: Postgres, hosts: Hosts) -> psycopg.Connection[Any]:
        postgres.ensure_database("soak")
        migrate(postgres.dsn("soak"))
        sql = psycopg.connect(postgres.dsn("soak"), autocommit=True)
        sql.execute(
            """insert into anomaly.records (image_url, captured_at)
               select %s || i, now() - interval '1 day' + i * interval '1 second' from generate_series(0, %s) as i""",
            [hosts.url("/image/"), self.records - 1],
        )
        return sql

    def _cut(self, database: TcpProxy, bucket: TcpProxy) -> None:
        """Reset all connections every few seconds, and let S3 refuse connections for a second now and then."""
        for number in itertools.count(1):
            if self.over.wait(3.0):
                return
            database.reset() if number % 2 else bucket.reset()
            self.cuts["database" if number % 2 else "s3"] += 1
            if number % 6 == 0:
                bucket.refuse()
                self.cuts["s3 refused"] += 1
                self.over.wait(1.0)
                bucket.forward()

    def _round(self, run_id: str, given: dict[str, Any], dsn: str) -> bool:
        """Do one run with several processes. Return false if nothing is left to do."""
        run = build_run(run_id)
        if not self._count("status in ('pending', 'claimed')"):
            return False
        self.sql.execute("update anomaly.records set not_before = null where status = 'pending'")
        with open_database(dsn) as database:
            store = RecordStore(database, SETTINGS)
            chunks = runs.claim(run, store=store, archive=build_archive(given), queue_lease_s=3600, chunks_max=self.workers)
            tasks = [self._start({**given, "run_id": run_id, "map_index": n, "chunk": chunk.to_xcom()}) for n, chunk in enumerate(chunks)]
            while any(task.poll() is None for task in tasks):
                self._watch(run_id, tasks)
                time.sleep(1.0)
            runs.report(run, store=store, archive=build_archive(given))
        if failed := [number for number, task in enumerate(tasks) if task.returncode]:
            self.console.print((self.folder / f"worker-{failed[0]}.log").read_text()[-2000:], markup=False)
        return True

    def _start(self, given: dict[str, Any]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.soak_worker", json.dumps(given)]
        with (self.folder / f"worker-{given['map_index']}.log").open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out)  # noqa: S603  # ourselves

    def _watch(self, run_id: str, tasks: list[subprocess.Popen[bytes]]) -> None:
        done, took_s = self._count("status = 'done'"), time.monotonic() - self.began
        percent = 100 * done // self.records
        used = [_rss_mib(task.pid) for task in tasks if task.poll() is None]
        self.rss_mib[percent] = max(used, default=0.0) or self.rss_mib.get(percent, 0.0)
        self.console.print(f"{took_s:5.0f} s  {run_id}  done {done} of {self.records} ({percent} %)  rss {self.rss_mib[percent]:.0f} MiB")

    def _count(self, condition: LiteralString, table: LiteralString = "records") -> int:
        query = f"select count(*) from anomaly.{table} where {condition}"  # noqa: S608  # our own words
        [row] = self.sql.execute(query).fetchall()
        return int(row[0])

    def _verdict(self, hosts: Hosts) -> bool:
        rows = self.sql.execute("select last_error_code, image_url from anomaly.records where status = 'quarantined'").fetchall()
        quarantined = {int(url.rpartition("/")[2]): code for code, url in rows}
        done, can = self._count("status = 'done'"), self.records - len(NEVER)
        results, committed = self._count("true", "ai_results"), self._count("event = 'committed'", "processing_log")
        flags = self._count("ai_processed", "ai_flags")
        early, late = self._memory()
        self.console.print(f"records {self.records}, done {done}, quarantined {quarantined}, seconds {time.monotonic() - self.began:.0f}")
        self.console.print(f"faults {sum(hosts.faults.values())} {dict(sorted(hosts.faults.items()))}, cuts {dict(self.cuts)}")
        ends = self.sql.execute("select concat_ws(' ', event, error_code), count(*) from anomaly.processing_log group by 1").fetchall()
        self.console.print(f"ends by event {dict(ends)}")
        checks = {
            f"at least 99.99 % of those that can be done are ({100 * done / can:.3f} %)": done >= 0.9999 * can,
            "those that never can are quarantined, each for its reason": NEVER.items() <= quarantined.items(),
            "none is lost": done + len(quarantined) == self.records,
            "no duplicate: one result, one commit in the log and one flag each": done == results == committed == flags,
            f"memory is flat: {early:.0f} MiB at 20 %, {late:.0f} MiB at 100 %": late <= GROWTH_MAX * early,
        }
        for sentence, holds in checks.items():
            self.console.print(f"{'ok    ' if holds else 'FAILED'} {sentence}")
        return all(checks.values())

    def _memory(self) -> tuple[float, float]:
        seen = {percent: mib for percent, mib in sorted(self.rss_mib.items()) if mib}
        return next((mib for percent, mib in seen.items() if percent >= 20), 0.0), list(seen.values() or [0.0])[-1]  # noqa: PLR2004


def _rss_mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    options.add_argument("--records", type=int, default=20_000)
    options.add_argument("--workers", type=int, default=4)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return 0 if Soak(records=arguments.records, workers=arguments.workers, folder=Path(folder)).run() else 1


if __name__ == "__main__":
    sys.exit(main())
