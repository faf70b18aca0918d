"""A contestant's process: reads its job from stdin, does it, and writes what it took to stdout."""

from __future__ import annotations

import importlib
import resource
import sys
import time

from benchmarks.job import Effort, Job, peak_rss_mb


def main() -> None:
    job = Job.from_json(sys.stdin.read())
    work = importlib.import_module(f"benchmarks.contestants.{job.contestant}").work
    began, processor_s = time.monotonic(), _processor_s()
    more = work(job) or {}
    effort = Effort(
        wall_s=time.monotonic() - began,
        processor_s=_processor_s() - processor_s,
        rss_mb=max(peak_rss_mb(), *more.pop("rss_mb", []), 0.0),
        more=more,
    )
    sys.stdout.write(effort.to_json() + "\n")


def _processor_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
