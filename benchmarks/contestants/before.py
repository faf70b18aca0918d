"""A naive script that keeps nothing from one record to the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import requests

from benchmarks.contestants.plain import UPDATES, answer_key, image_key, params, s3_client
from benchmarks.job import TIMEOUT_S
from benchmarks.statements import sql

if TYPE_CHECKING:
    from benchmarks.job import Job


def work(job: Job) -> None:
    """Process the records one by one: a connection for each transaction, requests without a session, a client for each record."""
    with psycopg.connect(job.dsn) as connection:
        due = connection.execute(sql("select_due")).fetchall()
    for record_id, url in due:
        content = requests.get(url, timeout=TIMEOUT_S).content
        began = time.monotonic()
        raw = requests.post(
            f"{job.detector_url}/v1/detect", data=content, headers={"Content-Type": "image/jpeg"}, timeout=TIMEOUT_S
        ).content
        latency_ms = (time.monotonic() - began) * 1000
        _archive(job, record_id, content, raw)
        _commit(job.dsn, params(record_id, content, raw, latency_ms))


def _archive(job: Job, record_id: int, content: bytes, raw: bytes) -> None:
    client = s3_client(job)
    client.put_object(Bucket=job.bucket, Key="runs/before/", Body=b"")
    client.put_object(Bucket=job.bucket, Key=image_key(content), Body=content)
    client.put_object(Bucket=job.bucket, Key=answer_key(record_id), Body=raw)


def _commit(dsn: str, values: dict[str, Any]) -> None:
    for name in UPDATES:
        with psycopg.connect(dsn) as connection:
            connection.execute(sql(name), values)
