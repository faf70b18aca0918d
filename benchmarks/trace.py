"""Counts the modules that one record passes, from `open_chunk` to its commit: `python -m benchmarks.trace --help`.

One task processes one record, with a real Postgres and the benchmarks' own servers. Two such runs precede it, so that nothing is imported
or set up for the first time. A profile function on all threads records each call of a function of the project, in the order of the calls.

* calls: functions called, the calls of properties, lambdas and comprehensions included.
* modules: the modules that these calls are in.
* changes: calls whose module differs from that of the call before, so consecutive calls in one module count once. A return is no call, nor
  is a coroutine or generator that resumes: it brings a reader back to a function that they have read.
* orchestration: the modules that decide what happens next, which are those of the package `anomaly.pipeline`, its event loop included. In a
  checkout without that package they are the modules named in `FLAT`. A change into orchestration is a change to one of these modules.
* with asyncio: the changes if asyncio counts as one more module. Its modules are not the project's, so the other figures leave them out.

Threads overlap, so a few changes differ from one trace to the next. Each figure is the median of several traces.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.bench import Bench, JobFailed
from benchmarks.checkout import HERE, Checkout, folder_of
from benchmarks.traced_task import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.job import Job

CHILD = Path(__file__).with_name("traced_task.py")
LOOP = "asyncio"
FLAT = {
    f"anomaly.{name}"
    for name in (
        *("asking", "chunks", "endings", "feed", "lease", "parts", "pipeline", "reuse", "runs"),
        *("sharing", "stages", "steps", "tally", "throttle", "turns"),
    )
}
Call = tuple[str, str]
"""The names of a module and of a function in it."""


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--checkout", type=folder_of, default=HERE.root, metavar="FOLDER", help="the checkout to trace (this one)")
    options.add_argument("--repeat", type=int, default=5, metavar="N", help="traces (5)")
    options.add_argument("--calls", action="store_true", help="also print the calls of the last trace")
    arguments = options.parse_args(argv)
    checkout = Checkout(root=arguments.checkout)
    try:
        with tempfile.TemporaryDirectory() as folder, Bench(Path(folder), image_kb=100) as on:
            traces = [trace(on, checkout) for _ in range(arguments.repeat)]
    except JobFailed as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # a command speaks to its terminal
        return 1
    if arguments.calls:
        _say("\n".join(f"{module} {function}" for module, function in traces[-1]))
    for name, count in Counter(module for module, _ in traces[-1] if not module.startswith(LOOP)).most_common():
        _say(f"{count:6}  {'orchestration  ' if is_orchestration(name) else ''}{name}")
    figures = [summary(calls) for calls in traces]
    for name in figures[0]:
        values = [each[name] for each in figures]
        _say(f"{name}: {median(values):g}, from {min(values)} to {max(values)} in {len(values)} traces")
    return 0


def trace(on: Bench, checkout: Checkout) -> list[Call]:
    """Return the calls of one record, in their order.

    Raises:
        JobFailed: the task failed, or made no call.
    """
    job = on.prepare(contestant="ours", records=RUNS, slots=32, latency_ms=20.0, checkout=checkout)
    calls = _traced(job, checkout)
    on.check(job)
    on.drop(job)
    if not calls:
        raise JobFailed("no record was opened")
    return calls


def _traced(job: Job, checkout: Checkout) -> list[Call]:
    command = [sys.executable, "-P", str(CHILD)]
    done = subprocess.run(  # noqa: S603  # ours
        command, cwd=checkout.root, env=checkout.environment(), input=job.to_json(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise JobFailed(f"the traced task ended with code {done.returncode}")
    return [(module, function) for module, function in json.loads(done.stdout.splitlines()[-1])]


def summary(calls: Sequence[Call]) -> dict[str, int]:
    """Return the figures of a trace."""
    everything = [LOOP if module.startswith(f"{LOOP}.") else module for module, _ in calls]
    ours = [module for module in everything if module != LOOP]
    return {
        "calls": len(ours),
        "modules": len(set(ours)),
        "changes": _changes(ours),
        "modules of orchestration": len(set(filter(is_orchestration, ours))),
        "changes into orchestration": sum(old != new and is_orchestration(new) for old, new in pairwise(ours)),
        "changes with asyncio": _changes(everything),
    }


def is_orchestration(module: str) -> bool:
    """Return whether a module decides what happens to a record."""
    return module.startswith("anomaly.pipeline.") or module in FLAT


def _changes(modules: Sequence[str]) -> int:
    return sum(old != new for old, new in pairwise(modules))


def _say(text: str) -> None:
    print(text)  # noqa: T201  # a command speaks to its terminal


if __name__ == "__main__":
    sys.exit(main())
