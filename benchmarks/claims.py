"""Measures claim and commit alone, and pgbench with the same statement: `python -m benchmarks.claims --help`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from anomaly.db.client import Database
from anomaly.db.mapping import claim_params, holder_params, run_params, verdict_params
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.db.statements import PARAMETER, default_statements
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.runs import Holder, Run, Window
from anomaly.settings import Settings
from anomaly.tasks.cores import on_one_core
from benchmarks.bench import Bench, binary
from benchmarks.run import STATE, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anomaly.models.records import Claim
    from benchmarks.job import Job

CONNECTIONS = 10
CHUNK_SIZE = 250
ANSWER = Answer(
    raw=b"{}", verdict=Verdict(score=0.5, is_anomaly=False, threshold=0.9, label="normal", detector="bench@1"), latency_ms=200.0
)
ARCHIVED = ArchiveKeys(image_key="images/ab.jpg", answer_key="answers/ab.json")
IMAGE = Image(content=b"", sha256="ab" * 32, media_type="image/jpeg", width_px=300, height_px=300)
TIMINGS = {"fetch": 1.0, "detect": 200.0, "archive": 3.0}
HOLDER = Holder(map_index=0, try_number=1)
_RATE = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Share:
    """The claims that one process commits, on one core as a task does."""

    number: int
    dsn: str
    claims: list[Claim]
    threads: int


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    options.add_argument("--records", type=int, default=10_000, metavar="N")
    options.add_argument("--repeat", type=int, default=3, metavar="N", help="pairs of ours and pgbench (3)")
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--folder", type=Path, default=STATE, metavar="FOLDER")
    arguments = options.parse_args(argv)
    with Bench(arguments.folder.resolve(), image_kb=1) as on:
        rounds = [_round(on, arguments.records) for _ in range(arguments.repeat)]
    found: dict[str, Any] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    found |= {f"{name}_of_pgbench": median(each[name] / each["pgbench_commits"] for each in rounds) for name in ("commits_1", "commits_2")}
    for name, value in found.items():
        sys.stdout.write(f"{name} {value:,.2f}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "medians": found, "rounds": rounds}, indent=1) + "\n")
    return 0


def _round(on: Bench, records: int) -> dict[str, float]:
    """Return records a second: claimed and opened, committed by one process, by two, and by pgbench."""
    ways: dict[str, Callable[[str, list[Claim]], float]] = {
        "commits_1": partial(_commits, processes=1),
        "commits_2": partial(_commits, processes=2),
        "pgbench_commits": _pgbench,
    }
    found: dict[str, float] = {}
    for name, commit in ways.items():
        job = on.prepare(contestant=name, records=records, slots=1, latency_ms=0)
        claims, claims_per_s = _claimed(on.direct(job))
        found[name] = commit(on.direct(job), claims)
        found.setdefault("claims", claims_per_s)
        _check(on, job)
        on.drop(job)
    return found


def _store(dsn: str, connections: int) -> RecordStore:
    settings = Settings(db_pool_max=connections, db_pool_min=connections, commit_workers=connections)
    return RecordStore(Database(open_pool(connector(dsn, settings), settings)), settings)


def _claimed(dsn: str) -> tuple[list[Claim], float]:
    """Claim and open all records and return their claims and the rate. Each connection has a batch, as a run of the DAG has."""
    store = _store(dsn, CONNECTIONS)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        began = time.monotonic()
        claims = [claim for chunk in threads.map(partial(_claim_all, store), range(CONNECTIONS)) for claim in chunk]
        took_s = time.monotonic() - began
    store.close()
    return claims, len(claims) / took_s


def _claim_all(store: RecordStore, number: int) -> list[Claim]:
    run = _run(number)
    claims: list[Claim] = []
    began_at = store.begin_batch(run)
    while (chunk := store.claim_chunk(run, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=3600)) is not None:
        claims += store.open_chunk(run.batch_id, chunk, HOLDER, lease_s=3600)
    return claims


def _run(number: int) -> Run:
    return Run(dag_id="benchmarks", run_id=f"claims-{number}", window=Window(), chunk_size=CHUNK_SIZE)


def _commits(dsn: str, claims: list[Claim], *, processes: int) -> float:
    """Commit with open connections and return commits a second, from the first start to the last end of a process."""
    shares = [_Share(first, dsn, claims[first::processes], CONNECTIONS // processes) for first in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        spans = list(pool.map(_commit_share, shares))
    return len(claims) / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def _commit_share(share: _Share) -> tuple[float, float]:
    store = _store(share.dsn, share.threads)
    with on_one_core(share.number), ThreadPoolExecutor(share.threads) as threads:
        began = time.monotonic()
        list(threads.map(partial(_commit_all, store), [share.claims[first :: share.threads] for first in range(share.threads)]))
        ended = time.monotonic()
    store.close()
    return began, ended


def _commit_all(store: RecordStore, claims: list[Claim]) -> None:
    run = _run(0)
    for claim in claims:
        store.commit(claim, ANSWER, ARCHIVED, config="none", image=IMAGE, run=run, holder=HOLDER, timings=TIMINGS)


def _pgbench(dsn: str, claims: list[Claim]) -> float:
    """Return commits a second by pgbench, with the same prepared statement, parameters and number of connections."""
    run = _run(0)
    values = {
        **claim_params(claims[0]),
        **run_params(run),
        **holder_params(run.batch_id, HOLDER),
        **verdict_params(ANSWER, ARCHIVED, IMAGE),
    }
    values |= {"config": "none", "sampled": False, "sample_share": None, "timings": json.dumps(TIMINGS)}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_script(values))
        script.flush()
        defines = [f"--define={name}={_text(value)}" for name, value in values.items() if value is not None and name != "record_id"]
        clients = [f"--client={CONNECTIONS}", "--jobs=2", f"--transactions={len(claims) // CONNECTIONS}"]
        command = [
            binary("pgbench"),
            "--no-vacuum",
            "--protocol=prepared",
            *clients,
            "--define=i=-1",
            *defines,
            f"--file={script.name}",
            dsn,
        ]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  # our own words
    found = _RATE.search(output)
    if found is None:
        raise AssertionError(f"pgbench output no rate: {output}")
    return float(found[1])


def _script(values: dict[str, Any]) -> str:
    """Return the script. Each client takes other ids. pgbench has no null, so nulls are written into the statement."""
    text = PARAMETER.sub(lambda found: "null" if values[found[1]] is None else f":{found[1]}", default_statements()["commit_verdict"])
    return f"\\set i :i + 1\n\\set record_id 1 + :client_id + {CONNECTIONS} * :i\n{text};\n"


def _text(value: object) -> str:
    obj = getattr(value, "obj", value)  # of a Jsonb
    return obj if isinstance(obj, str) else json.dumps(obj, default=str).strip('"')


def _check(on: Bench, job: Job) -> None:
    with psycopg.connect(on.direct(job)) as connection:
        (done,) = connection.execute("select count(*) from anomaly.ai_results").fetchone() or (0,)
    if done < job.records // CONNECTIONS * CONNECTIONS:
        raise AssertionError(f"{job.contestant}: {done} of {job.records} committed")


if __name__ == "__main__":
    sys.exit(main())
