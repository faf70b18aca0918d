"""Runs a contestant once and returns its figures."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import bench
from benchmarks.checkout import HERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.checkout import Checkout
    from benchmarks.job import Effort, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of a run. Fields that end in `_per_record` are means."""

    contestant: str
    records: int
    slots: int
    tasks: int
    wall_s: float
    records_per_s: float
    of_bound: float
    """Records a second, divided by the detector's bound, slots / latency."""
    utilisation: float
    """Share of the detector's slots in use, from its first request to its last answer."""
    in_flight_max: int
    processor_ms_per_record: float
    server_processor_ms_per_record: float
    rss_mb: float
    db_connections: int
    db_round_trips_per_record: float
    """Includes connecting."""
    db_transactions_per_record: float
    tcp_images: int
    tcp_detector: int
    tcp_s3: int
    s3_requests_per_record: float
    load: float
    """The machine's load in the minute before the run. Other processes distort the figures."""
    more: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def measure(
    on: Bench,
    module: str,
    *,
    name: str,
    records: int,
    slots: int,
    latency_ms: float,
    tasks: int = 1,
    work: Callable[[Job, Checkout], Effort] = bench.work,
    checkout: Checkout = HERE,
) -> Row:
    """Run a contestant once, check its results, and return the row for *name*.

    Raises:
        JobFailed: the contestant failed, or a result is wrong.
    """
    load = os.getloadavg()[0]
    job = on.prepare(contestant=module, records=records, slots=slots, latency_ms=latency_ms, tasks=tasks, checkout=checkout)
    before, server_s = on.activity(job), on.counted()["processor_s"]
    effort = work(job, checkout)
    counted, after = on.counted(), on.activity(job)
    on.check(job)
    on.drop(job)
    detector, s3 = counted["detector"], counted["s3"]
    return Row(
        contestant=name,
        records=records,
        slots=slots,
        tasks=tasks,
        wall_s=effort.wall_s,
        records_per_s=records / effort.wall_s,
        of_bound=records / effort.wall_s / (slots / latency_ms * 1000),
        utilisation=detector["utilisation"],
        in_flight_max=detector["in_flight_max"],
        processor_ms_per_record=effort.processor_s * 1000 / records,
        server_processor_ms_per_record=(counted["processor_s"] - server_s) * 1000 / records,
        rss_mb=effort.rss_mb,
        db_connections=counted["postgres"]["connections"],
        db_round_trips_per_record=counted["postgres"]["round_trips"] / records,
        db_transactions_per_record=(after["transactions"] - before["transactions"]) / records,
        tcp_images=counted["images"]["connections"],
        tcp_detector=detector["connections"],
        tcp_s3=s3["connections"],
        s3_requests_per_record=sum(s3["requests"].values()) / records,
        load=load,
        more=effort.more,
    )
