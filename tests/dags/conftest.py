"""The real DAG on real Postgres and S3, with scripted image hosts and detectors."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from PIL import Image
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tests.parts.dag_runs import DagRuns, Ended
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedded.s3 import S3
    from tests.parts.http_stub import Script

ANSWER = Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")
SECRET = "Zx9-never-in-a-log"  # noqa: S105  # it is what the tests look for


def a_png(number: int = 0) -> bytes:
    """A small image, another one for each number."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 7)).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class Bucket:
    """A prefix of the session's bucket, so that each test finds only its own objects."""

    client: Any
    name: str
    prefix: str

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.name, Key=f"{self.prefix}/{key}")["Body"].read()
        return body

    def keys(self, folder: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/{folder}")
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@dataclass
class World:
    """Everything that a run needs, and what the tests ask of it."""

    dag_runs: DagRuns
    sql: psycopg.Connection[dict[str, Any]]
    stub: HttpStub
    bucket: Bucket
    env: dict[str, str]
    log_file: Path
    added: int = field(default=0)

    def add(self, count: int) -> list[int]:
        """Records, each with an image of its own that the stub serves."""
        images = [a_png(self.added + n) for n in range(count)]
        return [self.add_one(Reply(body=image, content_type="image/png")) for image in images]

    def add_one(self, *replies: Reply | Script) -> int:
        """A record at whose address the stub answers so."""
        self.added += 1
        url = self.stub.at(f"/image/{self.added}", *replies) + f"?sig={SECRET}"
        row = self.sql.execute(
            "insert into anomaly.records (image_url, captured_at) values (%s, now() - interval '1 hour') returning id", [url]
        ).fetchone()
        assert row
        record_id: int = row["id"]
        return record_id

    def detector(self, *replies: Reply | Script) -> None:
        self.stub.at("/detect", *replies)

    def run(self, *, before: str = "", env: dict[str, str] | None = None, **conf: Any) -> Ended:
        return self.dag_runs.run(conf, env=self.env | (env or {}), before=before)

    def counted(self, table: str, column: str) -> dict[Any, int]:
        rows = self.sql.execute(f"select {column} as value, count(*) as n from anomaly.{table} group by 1")  # noqa: S608  # the tests' own words
        return {row["value"]: row["n"] for row in rows}

    def statuses(self) -> dict[Any, int]:
        return self.counted("records", "status")

    def record(self, record_id: int) -> dict[str, Any]:
        row = self.sql.execute("select * from anomaly.records where id = %s", [record_id]).fetchone()
        assert row
        return row

    def report(self, ended: Ended) -> dict[str, Any]:
        """The report that the run left in the bucket."""
        parsed: dict[str, Any] = json.loads(self.bucket.get(f"runs/{ended.run_id}/report.json"))
        return parsed

    def log(self) -> str:
        return self.log_file.read_text()


@pytest.fixture(scope="session")
def dag_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagRuns]:
    with DagRuns(tmp_path_factory.mktemp("airflow")) as runs:
        yield runs


@pytest.fixture
def world(dag_runs: DagRuns, database: str, s3: S3, tmp_path: Path) -> Iterator[World]:
    with a_world(dag_runs, database, s3, tmp_path) as world:
        yield world


@contextlib.contextmanager
def a_world(dag_runs: DagRuns, database: str, s3: S3, folder: Path) -> Iterator[World]:
    import boto3  # noqa: PLC0415  # heavy, and only for these tests

    prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=s3.region,
    )
    to = conninfo_to_dict(database)
    with HttpStub() as stub, psycopg.connect(database, autocommit=True, row_factory=dict_row) as sql:
        env = {
            "AIRFLOW_CONN_ANOMALY_DB": json.dumps(
                {
                    "conn_type": "postgres",
                    "host": to["host"],
                    "port": int(str(to["port"])),
                    "login": to["user"],
                    "password": to["password"],
                    "schema": to["dbname"],
                }
            ),
            "AIRFLOW_CONN_ANOMALY_S3": json.dumps(
                {
                    "conn_type": "aws",
                    "login": s3.access_key,
                    "password": s3.secret_key,
                    "extra": {"bucket": s3.bucket, "prefix": prefix, "endpoint_url": s3.endpoint_url, "region_name": s3.region},
                }
            ),
            "AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(
                {
                    "conn_type": "http",
                    "host": "127.0.0.1",
                    "port": stub.port,
                    "password": SECRET,
                    "extra": {"dialect": "generic", "path": "/detect"},
                }
            ),
            "AIRFLOW_CONN_ANOMALY_IMAGES": json.dumps(
                {"conn_type": "http", "extra": {"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]}}
            ),
            "ANOMALY_LOG_FILE": str(folder / "logs" / "anomaly_detection.log"),
            "ANOMALY_TASK_BACKOFF_S": "0.1",
            "ANOMALY_DETECTOR_BACKOFF_S": "0.01",
            "ANOMALY_IMAGE_BACKOFF_S": "0.01",
        }
        world = World(dag_runs, sql, stub, Bucket(client, s3.bucket, prefix), env, folder / "logs" / "anomaly_detection.log")
        world.detector(ANSWER)
        yield world
