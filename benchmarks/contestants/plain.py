"""The common part of the sequential contestants: S3 client, keys and the parameters of the updates."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from benchmarks.job import Job

UPDATES = ("insert_result", "log_timestamp", "update_record", "update_flags")


def s3_client(job: Job) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=job.s3_url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106  # nobody checks it
        config=Config(s3={"addressing_style": "path"}),
    )


def image_key(content: bytes) -> str:
    return f"images/{hashlib.sha256(content).hexdigest()}.jpg"


def answer_key(record_id: int) -> str:
    return f"answers/{record_id}.json"


def params(record_id: int, content: bytes, raw: bytes, latency_ms: float) -> dict[str, Any]:
    """Return the parameters of the four updates."""
    verdict = json.loads(raw)
    return {
        "id": record_id,
        "detector": "{name}@{version}".format(**verdict["model"]),
        "score": verdict["score"],
        "threshold": verdict["threshold"],
        "is_anomaly": verdict["is_anomaly"],
        "label": verdict["label"],
        "regions": Jsonb(verdict["regions"]),
        "image_sha256": hashlib.sha256(content).hexdigest(),
        "image_key": image_key(content),
        "answer_key": answer_key(record_id),
        "latency_ms": latency_ms,
    }
