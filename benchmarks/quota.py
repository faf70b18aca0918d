"""Measures several tasks under one quota: `python -m benchmarks.quota --help`.

The bound is records divided by the quota. Exits with 1 if a result is wrong.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import dict_row

from benchmarks import bench
from benchmarks.bench import Bench, JobFailed
from benchmarks.run import STATE
from benchmarks.statements import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.job import Job

LATENCY_MS = 200.0
SLOTS = 64


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.quota", description="Ours under a quota of requests a minute.")
    options.add_argument("--records", type=int, default=1000, metavar="N")
    options.add_argument("--tasks", type=int, default=4, metavar="N", help="mapped tasks, each a process (4)")
    options.add_argument("--requests-per-minute", type=float, default=600.0, metavar="N", help="what the detector grants (600)")
    arguments = options.parse_args(argv)
    try:
        with Bench(STATE, image_kb=100) as on:
            _say(measured(on, records=arguments.records, tasks=arguments.tasks, requests_per_minute=arguments.requests_per_minute))
    except JobFailed as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # a command speaks to its terminal
        return 1
    return 0


def measured(on: Bench, *, records: int, tasks: int, requests_per_minute: float) -> dict[str, float]:
    """Run the job once under the quota, and check it."""
    job = on.prepare(
        contestant="ours", records=records, slots=SLOTS, latency_ms=LATENCY_MS, tasks=tasks, requests_per_minute=requests_per_minute
    )
    effort, detector = bench.work(job), on.counted()["detector"]
    on.check(job)
    attempts = attempts_of(on, job)
    on.drop(job)
    bound_s = records / requests_per_minute * 60
    return {
        "bound_s": bound_s,
        "took_s": effort.wall_s,
        "times_the_bound": effort.wall_s / bound_s,
        "requests": detector["requests"]["POST"],
        "answered_429": detector["throttled"],
        "share_of_429": detector["throttled"] / detector["requests"]["POST"],
        **attempts,
    }


def attempts_of(on: Bench, job: Job) -> dict[str, float]:
    """Return the attempts counted beyond one a record, and the number of records arguments back."""
    with psycopg.connect(on.direct(job), row_factory=dict_row) as connection:
        return connection.execute(sql("attempts")).fetchone() or {}


def _say(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:>18}  {value:,.3f}" if isinstance(value, float) else f"{name:>18}  {value:,}")  # noqa: T201  # a command


if __name__ == "__main__":
    sys.exit(main())
