"""The naive script with sessions, one connection, one transaction and one client, but still one record at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import requests

from benchmarks.contestants.plain import UPDATES, answer_key, image_key, params, s3_client
from benchmarks.job import TIMEOUT_S
from benchmarks.statements import sql

if TYPE_CHECKING:
    from benchmarks.job import Job


def work(job: Job) -> None:
    """Process all due records one by one."""
    with psycopg.connect(job.dsn) as connection:
        due = connection.execute(sql("select_due")).fetchall()
    work_on(job, due)


def work_on(job: Job, due: list[tuple[int, str]]) -> None:
    """Process these records, given as pairs of id and image URL."""
    bucket = s3_client(job)
    with psycopg.connect(job.dsn) as connection, requests.Session() as images, requests.Session() as detector:
        for record_id, url in due:
            content = images.get(url, timeout=TIMEOUT_S).content
            began = time.monotonic()
            raw = detector.post(
                f"{job.detector_url}/v1/detect", data=content, headers={"Content-Type": "image/jpeg"}, timeout=TIMEOUT_S
            ).content
            latency_ms = (time.monotonic() - began) * 1000
            bucket.put_object(Bucket=job.bucket, Key=image_key(content), Body=content)
            bucket.put_object(Bucket=job.bucket, Key=answer_key(record_id), Body=raw)
            for name in UPDATES:
                connection.execute(sql(name), params(record_id, content, raw, latency_ms))
            connection.commit()
