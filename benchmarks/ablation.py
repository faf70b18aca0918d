"""Measures single changes over a network with latency: a pooled connection and one statement, and HTTP sessions."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import requests

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.runs import Holder, Run, Window
from anomaly.settings import Settings
from benchmarks.contestants.plain import UPDATES, params
from benchmarks.job import TIMEOUT_S
from benchmarks.services import answer_to
from benchmarks.statements import sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.job import Job

LATENCY_MS = 0.0
"""The detector answers at once, so that only the network counts."""
RUN = Run(dag_id="benchmarks", run_id="ablation", window=Window(), chunk_size=10_000)
HOLDER = Holder(map_index=0, try_number=1)
IMAGE = Image(content=b"", sha256="none", media_type="image/jpeg", width_px=300, height_px=300)
VERDICT = Verdict(score=0.5, is_anomaly=False, threshold=0.9, label="normal", detector="bench@1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Milliseconds and database round trips a record, before and after a change."""

    what: str
    round_trip_ms: float
    before_ms: float
    after_ms: float
    before_round_trips: float
    after_round_trips: float
    load: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"saved": 1 - self.after_ms / self.before_ms}


def compare(on: Bench, *, records: int, round_trips_ms: tuple[float, ...]) -> list[Comparison]:
    """Measure each change at each latency, before and after it."""
    sides = {"database": (four_connections, one_statement), "http": (without_session, with_session)}
    return [
        _compared(on, what, before, after, records=records, round_trip_ms=round_trip_ms)
        for what, (before, after) in sides.items()
        for round_trip_ms in round_trips_ms
    ]


def _compared(
    on: Bench, what: str, before: Callable[[Job], None], after: Callable[[Job], None], *, records: int, round_trip_ms: float
) -> Comparison:
    sides = [_timed(on, what, side, records=records, round_trip_ms=round_trip_ms) for side in (before, after)]
    (before_ms, before_trips), (after_ms, after_trips) = sides
    return Comparison(
        what=what,
        round_trip_ms=round_trip_ms,
        before_ms=before_ms,
        after_ms=after_ms,
        before_round_trips=before_trips,
        after_round_trips=after_trips,
        load=os.getloadavg()[0],
    )


def _timed(on: Bench, what: str, side: Callable[[Job], None], *, records: int, round_trip_ms: float) -> tuple[float, float]:
    job = on.prepare(contestant=what, records=records, slots=1, latency_ms=LATENCY_MS, round_trip_ms=round_trip_ms)
    began = time.monotonic()
    side(job)
    took_ms = (time.monotonic() - began) * 1000
    trips = on.counted()["postgres"]["round_trips"]
    on.drop(job)
    return took_ms / records, trips / records


def four_connections(job: Job) -> None:
    """Use a connection and a transaction for each of the four updates."""
    for number in range(1, job.records + 1):
        for name in UPDATES:
            with psycopg.connect(job.dsn) as connection:
                connection.execute(sql(name), params(number, b"image", answer_to(number), 0.0))


def one_statement(job: Job) -> None:
    """Use the project's store: a checked pool and one statement a commit, with claim and lease."""
    settings = Settings()
    store = RecordStore(Database(open_pool(connector(job.dsn, settings), settings)), settings)
    answer, archived = Answer(raw=b"{}", verdict=VERDICT, latency_ms=0.0), ArchiveKeys(image_key="image", answer_key="answer")
    began_at = store.begin_batch(RUN)
    number = store.claim_chunk(RUN, began_at=began_at, origin="pending", map_index=0, try_number=1, lease_s=60)
    for claim in store.open_chunk(RUN.batch_id, number or 0, HOLDER, lease_s=60):
        store.commit(claim, answer, archived, config="none", image=IMAGE, run=RUN, holder=HOLDER, timings={})
    store.close()


def without_session(job: Job) -> None:
    """Use a new connection for each image and each answer."""
    for number in range(1, job.records + 1):
        _ask(requests.get, requests.post, job, number)


def with_session(job: Job) -> None:
    """Use sessions that keep their connections."""
    with requests.Session() as images, requests.Session() as detector:
        for number in range(1, job.records + 1):
            _ask(images.get, detector.post, job, number)


def _ask(get: Callable[..., requests.Response], post: Callable[..., requests.Response], job: Job, number: int) -> None:
    content = get(f"{job.images_url}/{number}", timeout=TIMEOUT_S).content
    post(f"{job.detector_url}/v1/detect", data=content, timeout=TIMEOUT_S).raise_for_status()
