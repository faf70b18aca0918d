"""Runs with a real scheduler: windows of scheduled and triggered runs and of backfills, and a quota that four tasks share."""

from __future__ import annotations

import bisect
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from anomaly import connection_env
from anomaly.db.schema import migrate
from embedded import airflow, connections, job
from embedded.errors import StartFailed
from embedded.process import ROOT, wait_until_ready
from tests.dags.conftest import ANSWER, a_png
from tests.parts.http_stub import HttpStub, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedded.postgres import Postgres
    from embedded.s3 import S3

WITHIN_S = 300
HOUR = (datetime.now(UTC).hour + 12) % 24
"""Start of the daily intervals: half a day from now, so that no scheduled run starts during the test."""
FIRST = datetime(2026, 1, 1, HOUR, tzinfo=UTC)
QUOTA = 300
DAY, LEAST = timedelta(days=1), timedelta(microseconds=1)

pytestmark = pytest.mark.timeout(3 * WITHIN_S)


class Scheduled:
    """An Airflow and a records database; a stub serves images and detector."""

    def __init__(self, folder: Path, sql: psycopg.Connection[dict[str, Any]], stub: HttpStub, env: dict[str, str]) -> None:
        self._sql, self._stub, self._env = sql, stub, env
        self._images = 0
        self.airflow = airflow.Airflow(folder, env=env)

    def start(self) -> None:
        since = datetime.now(UTC)
        self.airflow.start_migration()
        until(self.airflow.migration_finished)
        self.airflow.start()
        wait_until_ready(self.airflow, within_s=WITHIN_S)
        job.wait_for_dag(self.airflow, since)

    def add(self, captured_at: datetime) -> int:
        self._images += 1
        url = self._stub.at(f"/image/{self._images}", Reply(body=a_png(self._images), content_type="image/png"))
        [row] = self.rows("insert into anomaly.records (image_url, captured_at) values (%s, %s) returning id", url, captured_at)
        record_id: int = row["id"]
        return record_id

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self._sql.execute(query, values).fetchall()

    def statuses(self, ids: list[int]) -> list[str]:
        return [row["status"] for row in self.rows("select status from anomaly.records where id = any(%s) order by id", ids)]

    def run_of(self, record_id: int) -> str:
        [row] = self.rows("select run_id from anomaly.ai_results where record_id = %s", record_id)
        return str(row["run_id"])

    def asked(self) -> int:
        return len(self._stub.asked("/detect"))

    def seen(self, path: str) -> list[Seen]:
        return sorted(self._stub.asked(path), key=lambda seen: seen.at)

    # ── Airflow

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.airflow.call(method, f"dags/{job.DAG_ID}{path}", body)[1]

    def runs(self, run_type: str) -> dict[str, dict[str, Any]]:
        found = self.call("GET", f"/dagRuns?run_type={run_type}&limit=200")["dag_runs"]
        return {run["dag_run_id"]: run for run in found}

    def await_runs(self, run_type: str, count: int) -> dict[str, dict[str, Any]]:
        until(lambda: sum(run["state"] in {"success", "failed"} for run in self.runs(run_type).values()) >= count)
        ended = self.runs(run_type)
        assert {run["state"] for run in ended.values()} == {"success"}
        return ended

    def trigger(self, **conf: Any) -> str:
        return str(self.call("POST", "/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def backfill(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command once Airflow has noticed the end of the previous backfill."""
        until(lambda: all(found["completed_at"] for found in self.airflow.call("GET", f"backfills?dag_id={job.DAG_ID}")[1]["backfills"]))
        command = [str(Path(sys.executable).parent / "airflow"), "dags", "backfill", job.DAG_ID, *words]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False, timeout=WITHIN_S)  # noqa: S603  # our own words


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def environment(folder: Path, postgres: Postgres, s3: S3, stub: HttpStub) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "AIRFLOW", "PYTEST"))}
    metadata = postgres.dsn("windows_airflow", "postgresql+psycopg2")
    extra = {"dialect": "generic", "path": "/detect"}
    own = {
        connection_env.DB: postgres.dsn("windows"),
        connection_env.S3: connections.to_s3(s3),
        connection_env.DETECTOR: json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": stub.port, "extra": extra}),
        "AIRFLOW_CONN_ANOMALY_LIMITED": json.dumps(
            {
                "conn_type": "http",
                "host": "127.0.0.1",
                "port": stub.port,
                "extra": {"dialect": "generic", "path": "/limited", "requests_per_minute": QUOTA},
            }
        ),
        connection_env.IMAGES: connections.to_images(stub.url("").rstrip("/")),
        "ANOMALY_LOG_FILE": str(folder / "anomaly_detection.log"),
        "ANOMALY_SCHEDULE": f"0 {HOUR} * * *",
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "config")),
    }
    return kept | airflow.settings(folder, database=metadata, port=port) | own


@pytest.fixture(scope="module")
def scheduled(postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    folder = tmp_path_factory.mktemp("airflow")
    for name in ("windows", "windows_airflow"):
        postgres.ensure_database(name)
    migrate(postgres.dsn("windows"))
    with HttpStub() as stub, psycopg.connect(postgres.dsn("windows"), autocommit=True, row_factory=dict_row) as sql:
        stub.at("/detect", ANSWER)
        stub.at("/limited", ANSWER)
        made = Scheduled(folder, sql, stub, environment(folder, postgres, s3, stub))
        try:
            made.start()
            yield made
        finally:
            made.airflow.stop()


def test_a_scheduled_run_takes_all_records_captured_before_the_end_of_its_interval(scheduled: Scheduled) -> None:
    now = datetime.now(UTC)
    end = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    end -= DAY if end > now else timedelta()
    ids = [scheduled.add(at) for at in (FIRST - 400 * DAY, end - DAY, end - LEAST, end)]
    scheduled.call("PATCH", "", {"is_paused": False})
    [run] = scheduled.await_runs("scheduled", 1).values()
    assert datetime.fromisoformat(run["data_interval_end"]) == end
    assert scheduled.statuses(ids) == ["done", "done", "done", "pending"]
    assert {scheduled.run_of(record_id) for record_id in ids[:3]} == {run["dag_run_id"]}


def test_a_triggered_run_takes_its_window_or_all_due_records_with_and_without_a_logical_date(scheduled: Scheduled) -> None:
    due = [row["id"] for row in scheduled.rows("select id from anomaly.records where status = 'pending'")]
    before, inside = scheduled.add(FIRST - 2 * DAY), scheduled.add(FIRST - DAY)
    window = {"window_start": (FIRST - DAY).isoformat(), "window_end": FIRST.isoformat()}
    body = {"logical_date": (FIRST + 90 * DAY).isoformat(), "conf": window}
    with_date = scheduled.call("POST", "/dagRuns", body)["dag_run_id"]
    scheduled.await_runs("manual", 1)
    assert scheduled.run_of(inside) == with_date
    assert set(scheduled.statuses([before, *due])) == {"pending"}
    without_date = scheduled.trigger()
    runs = scheduled.await_runs("manual", 2)
    assert runs[without_date]["logical_date"] is None
    assert {scheduled.run_of(record_id) for record_id in [before, *due]} == {without_date}


def test_a_backfill_of_seven_days_does_each_record_once_in_the_run_of_its_interval(scheduled: Scheduled) -> None:
    starts = [FIRST + n * DAY for n in range(7)]
    inside = {scheduled.add(at): start for start in starts for at in (start, start + DAY / 2, start + DAY - LEAST)}
    outside = [scheduled.add(FIRST - LEAST), scheduled.add(FIRST + 7 * DAY)]
    ended = scheduled.backfill("-s", starts[0].isoformat(), "-e", starts[-1].isoformat())
    assert ended.returncode == 0, ended.stderr
    assert "7 runs queued, from the interval" in ended.stdout
    runs = scheduled.await_runs("backfill", 7)
    begins = {run_id: datetime.fromisoformat(run["data_interval_start"]) for run_id, run in runs.items()}
    assert {record_id: begins[scheduled.run_of(record_id)] for record_id in inside} == inside
    assert scheduled.statuses(outside) == ["pending", "pending"]


def test_a_repeated_backfill_scores_again_only_on_request(scheduled: Scheduled) -> None:
    window = ("-s", FIRST.isoformat(), "-e", (FIRST + 6 * DAY).isoformat())
    done, asked = scheduled.rows("select count(*) as n from anomaly.ai_results")[0]["n"], scheduled.asked()
    for words, new in ((), 0), (("-c", '{"select": "all"}'), 21):
        ended = scheduled.backfill(*window, "--reset-dagruns", *words)
        assert "7 runs queued" in ended.stdout, ended
        scheduled.await_runs("backfill", 7)
        [row] = scheduled.rows("select count(*) as n from anomaly.ai_results")
        assert row["n"] == done + new
    again = "select count(*) as n from anomaly.ai_results group by record_id having count(*) > 1"
    assert [row["n"] for row in scheduled.rows(again)] == [2] * 21
    assert scheduled.asked() == asked, "the same detector has said what it says about these images"


@pytest.mark.parametrize("conf", [{"chunk_size": 0}, {"batch_size": 100_001}, {"select": "some"}, {"window_start": 5}])
def test_a_trigger_with_a_param_out_of_its_bounds_is_refused_and_nothing_is_queued(scheduled: Scheduled, conf: dict[str, Any]) -> None:
    before = scheduled.runs("manual")
    with pytest.raises(StartFailed, match=r"refused POST .* with 4\d\d"):
        scheduled.trigger(**conf)
    assert scheduled.runs("manual") == before


def test_a_backfill_with_a_param_out_of_its_bounds_is_refused_and_nothing_is_queued(scheduled: Scheduled) -> None:
    before = scheduled.runs("backfill")
    ended = scheduled.backfill("-s", "2026-02-01", "-e", "2026-02-03", "-c", '{"chunk_size": 0}')
    assert ended.returncode == 1
    assert "-c does not fit the DAG's params: Invalid input for param chunk_size: 0 is less than the minimum of 1" in ended.stderr
    assert scheduled.runs("backfill") == before


def test_four_tasks_of_a_run_use_a_quota_to_95_percent_and_exceed_it_in_no_minute(scheduled: Scheduled) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)  # after the last interval of the schedule
    for _ in range(QUOTA + 20):
        scheduled.add(start)
    scheduled.call("PATCH", "", {"is_paused": False})
    runs = len(scheduled.runs("manual"))
    window = {"window_start": start.isoformat(), "window_end": (start + DAY).isoformat()}
    run_id = scheduled.trigger(detector="anomaly_limited", chunk_size=20, batch_size=80, **window)
    scheduled.await_runs("manual", runs + 1)
    at = [seen.at for seen in scheduled.seen("/limited")]
    busiest = max(bisect.bisect_left(at, begin + 60) - index for index, begin in enumerate(at))
    assert len(at) == QUOTA + 20
    assert 0.95 * QUOTA <= busiest <= QUOTA
    [row] = scheduled.rows(
        """select count(distinct map_index) as tasks from anomaly.chunks
            where batch_id in (select batch_id from anomaly.ai_results where run_id = %s)""",
        run_id,
    )
    assert row["tasks"] == 4
