"""`bin/run` from start to end with a real scheduler and embedded services: interrupted, started again, and checked."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from embedded.connections import DEMO_DATABASE
from embedded.postgres import Postgres
from embedded.s3 import S3
from tests.parts.bin_run import RUN_S, BinRun

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = 40

pytestmark = pytest.mark.timeout(2 * RUN_S)


@pytest.fixture(scope="module")
def bin_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BinRun]:
    """A run that was interrupted once while Airflow started, and then completed."""
    started = BinRun(tmp_path_factory.mktemp("state of a run"))
    first = started.start("--once", "--records", str(RECORDS))
    started.wait_for("tables ready", first)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130, started.said()
    assert "continues from here" in started.said()
    assert started.processes() == []
    second = started.start("--once", "--records", str(RECORDS))
    assert second.wait(RUN_S) == 0, started.said()
    yield started
    assert started.processes() == []


@pytest.fixture(scope="module")
def rows(bin_run: BinRun) -> Iterator[Any]:
    """Queries the records database after the run."""
    with Postgres(bin_run.state / "postgres") as server, psycopg.connect(server.dsn(DEMO_DATABASE)) as connection:
        yield lambda query: connection.execute(query.encode()).fetchall()


def test_every_record_is_done_once_and_the_interrupted_start_duplicated_none(rows: Any) -> None:
    assert rows("select status, count(*) from anomaly.records group by status") == [("done", RECORDS)]
    assert rows("select count(*), count(distinct record_id) from anomaly.ai_results") == [(RECORDS, RECORDS)]
    assert rows("select event, count(*) from anomaly.processing_log group by event") == [("committed", RECORDS)]
    assert rows("select count(*) from anomaly.ai_flags where ai_processed") == [(RECORDS,)]


def test_every_key_names_an_object_in_the_bucket(bin_run: BinRun, rows: Any) -> None:
    keys = {key for row in rows("select image_key, answer_key, heatmap_key from anomaly.ai_results") for key in row}
    with S3(bin_run.state / "s3") as server:
        pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=server.bucket)
        stored = {found["Key"] for page in pages for found in page.get("Contents", [])}
    assert None not in keys
    assert keys <= stored


def test_the_summary_agrees_with_the_database(bin_run: BinRun, rows: Any) -> None:
    said = bin_run.said()
    ((anomalies,),) = rows("select count(*) from anomaly.ai_results where is_anomaly")
    assert f"records: {RECORDS} done\n" in said
    assert f"anomalies: {anomalies} of {RECORDS} records\n" in said
    assert "AUROC: 0.9" in said
    assert f"page: http://127.0.0.1:{bin_run.port}/dags/anomaly_detection\n" in said


def test_the_environment_for_bin_airflow_is_kept_readable_by_its_owner_only(bin_run: BinRun) -> None:
    kept = bin_run.state / "env"
    assert kept.stat().st_mode & 0o777 == 0o600
    names = {line.partition("=")[0] for line in kept.read_text().splitlines()}
    assert {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW_CONN_ANOMALY_DB", "AIRFLOW_CONN_ANOMALY_S3"} <= names


def test_no_password_is_in_a_log_or_on_the_terminal(bin_run: BinRun) -> None:
    secrets = [bin_run.state / "postgres" / "password", bin_run.state / "s3" / "secret_key", bin_run.state / "airflow" / "jwt_secret"]
    texts = [path.read_text(errors="replace") for path in (*Path(bin_run.state).glob("*/logs/**/*.log"), bin_run.output)]
    for secret in secrets:
        assert not [text for text in texts if secret.read_text() in text]
