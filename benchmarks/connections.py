"""Airflow's connections to the servers of a benchmark, as environment variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from benchmarks.job import Job

CHUNK_SIZE = 250


def variables(job: Job) -> dict[str, str]:
    """Return the environment variables for the project's tasks."""
    s3 = {"bucket": job.bucket, "endpoint_url": job.s3_url, "region_name": "us-east-1"}
    detector = urlsplit(job.detector_url)
    extra = {"dialect": "reference", **({"requests_per_minute": job.requests_per_minute} if job.requests_per_minute else {})}
    return {
        "AIRFLOW_CONN_ANOMALY_DB": job.dsn,
        "AIRFLOW_CONN_ANOMALY_S3": json.dumps({"conn_type": "aws", "login": "bench", "password": "bench", "extra": s3}),
        "AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(
            {"conn_type": "http", "schema": "http", "host": detector.hostname, "port": detector.port, "extra": extra}
        ),
        "AIRFLOW_CONN_ANOMALY_IMAGES": json.dumps(
            {"conn_type": "http", "extra": {"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]}}
        ),
        "ANOMALY_DETECTOR_SLOTS": str(job.slots // job.tasks),
        "ANOMALY_LOG_FILE": job.log_file,
    }
