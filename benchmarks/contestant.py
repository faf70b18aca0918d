"""The process of a contestant. It reads the job from stdin and writes its effort to stdout."""

from __future__ import annotations

import importlib
import sys
import time

from benchmarks.job import Effort, Job, peak_rss_mb


def main() -> None:
    job = Job.from_json(sys.stdin.read())
    contestant = importlib.import_module(f"benchmarks.contestants.{job.contestant}")
    if ready := getattr(contestant, "ready", None):
        ready(job)
    began, processor_s = time.monotonic(), time.process_time()
    more = contestant.work(job) or {}
    effort = Effort(
        wall_s=time.monotonic() - began,
        processor_s=time.process_time() - processor_s + sum(more.pop("processor_s", [])),
        rss_mb=max(peak_rss_mb(), *more.pop("rss_mb", []), 0.0),
        more=more,
    )
    sys.stdout.write(effort.to_json() + "\n")


if __name__ == "__main__":
    main()
