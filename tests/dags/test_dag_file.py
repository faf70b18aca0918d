from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anomaly.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[2]

# Opens nothing: a connection would raise. The file's own time comes after Airflow's imports.
IMPORT = """
import json, socket, sys, time
import airflow.sdk, airflow.models.dag
from airflow.sdk import Asset, CronDataIntervalTimetable, Param, RetryDecision, RetryPolicy, dag, task

def refuse(*_):
    raise AssertionError("the DAG file opens a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.path.insert(0, sys.argv[1])
began = time.perf_counter()
from anomaly_detection import anomaly_detection as found
took_s = time.perf_counter() - began
loaded = [name for name in sys.modules if name == "anomaly" or name.startswith(("anomaly.", "psycopg.", "boto3"))]
print(json.dumps({
    "took_s": took_s,
    "loaded": loaded,
    "dag_id": found.dag_id, "owner": found.owner, "tags": sorted(found.tags), "doc": found.doc_md,
    "timetable": type(found.timetable).__name__,
    "params": {name: {**param.schema, "description": param.description}
               for name, param in ((name, found.params.get_param(name)) for name in found.params)},
    "tasks": {t.task_id: [t.retries, t.retry_delay.total_seconds(), t.retry_exponential_backoff, t.max_retry_delay.total_seconds()]
              for t in found.tasks},
    "teardown": [t.task_id for t in found.tasks if getattr(t, "is_teardown", False)],
}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow-home")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
    env |= {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT / "plugins"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    ended = subprocess.run([sys.executable, "-c", IMPORT, str(ROOT / "dags")], env=env, capture_output=True, text=True, check=False)  # noqa: S603  # our own text
    assert ended.returncode == 0, ended.stderr
    parsed: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return parsed


def test_importing_the_dag_file_opens_no_connection_and_loads_nothing_but_the_dag(imported: dict[str, Any]) -> None:
    assert set(imported["loaded"]) == {
        *(
            "anomaly",
            "anomaly.dags",
            "anomaly.dags.detection",
            "anomaly.dags.links",
            "anomaly.schedules",
            "anomaly.errors",
            "anomaly.escaping",
        )
    }


def test_importing_the_dag_file_takes_little_beside_airflows_own_imports(imported: dict[str, Any]) -> None:
    assert imported["took_s"] < 0.3


def test_the_dag_says_what_it_is(imported: dict[str, Any]) -> None:
    assert imported["dag_id"] == "anomaly_detection"
    assert imported["owner"] == "anomaly"
    assert imported["tags"] == ["anomaly", "images"]
    assert "backfill" in imported["doc"]
    assert imported["timetable"] == "CronDataIntervalTimetable"


def test_every_param_has_a_title_a_description_and_bounds(imported: dict[str, Any]) -> None:
    params = imported["params"]
    assert set(params) == {
        "batch_size",
        "chunk_size",
        "max_records",
        "select",
        "window_start",
        "window_end",
        "detector",
        "fresh",
        "max_failure_rate",
        "dry_run",
    }
    for name, schema in params.items():
        assert schema["title"], name
        assert schema["description"], name
        kinds = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
        if kinds & {"integer", "number"}:
            assert "minimum" in schema, name
            assert "maximum" in schema, name
        elif "string" in kinds:
            assert {"enum", "format", "maxLength"} & set(schema), name


def test_tasks_are_retried_three_times_with_exponential_backoff(imported: dict[str, Any]) -> None:
    assert set(imported["tasks"]) == {"claim", "process", "report"}
    assert all(retried == [3, 30.0, 2.0, 600.0] for retried in imported["tasks"].values())
    assert imported["teardown"] == ["report"]


@pytest.mark.parametrize(
    ("module", "variable", "value", "sentence"),
    [
        (
            "detection",
            "ANOMALY_SCHEDULE",
            "every day",
            "ANOMALY_SCHEDULE is not a cron expression such as '*/15 * * * *': 'every day'",
        ),
        ("detection", "ANOMALY_SCHEDULE", "61 * * * *", "ANOMALY_SCHEDULE is not a cron expression"),
        ("detection", "ANOMALY_SCHEDULE", "", "ANOMALY_SCHEDULE is not a cron expression"),
        ("detection", "ANOMALY_TIMEZONE", "Mars/Base", "ANOMALY_TIMEZONE is not a time zone such as Europe/Berlin: 'Mars/Base'"),
        ("detection", "ANOMALY_TIMEZONE", "", "ANOMALY_TIMEZONE is not a time zone"),
        ("maintenance", "ANOMALY_MAINTENANCE_SCHEDULE", "@dayly", "ANOMALY_MAINTENANCE_SCHEDULE is not a cron expression"),
    ],
)
def test_a_schedule_or_time_zone_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misconfigured, match=re.escape(sentence)):
        runpy.run_path(str(ROOT / "plugins" / "anomaly" / "dags" / f"{module}.py"))


def test_a_schedule_of_none_is_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_SCHEDULE", "none")
    found = runpy.run_path(str(ROOT / "plugins" / "anomaly" / "dags" / "detection.py"))
    assert found["timetable"]() is None
    assert not found["DAG"].timetable.can_be_scheduled
