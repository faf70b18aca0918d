"""The tables and the bucket, as Airflow knows what the tasks read and write."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.connections import DB
from anomaly.connections import S3 as BUCKET

if TYPE_CHECKING:
    from tests.dags.conftest import World
    from tests.parts.dag_runs import Ended

ROOT = Path(__file__).resolve().parents[2]
RECORDS = f"{DB}/anomaly.records"
WRITTEN = {"anomaly_results", RECORDS, f"{DB}/anomaly.ai_results", f"{DB}/anomaly.ai_flags", f"{DB}/anomaly.processing_log", BUCKET}
BAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
tasks = bag.dags["anomaly_detection"].tasks
named = lambda assets: sorted(asset.name for asset in assets)
print(json.dumps({"errors": bag.import_errors, "tasks": {task.task_id: [named(task.inlets), named(task.outlets)] for task in tasks}}))
"""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAGs as Airflow's DagBag has them."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
    env |= {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow-home")), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["PYTHONPATH"] = str(ROOT / "plugins")
    command = [sys.executable, "-c", BAG, str(ROOT / "dags")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  # our own text
    assert ended.returncode == 0, ended.stderr
    parsed: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return parsed


def test_the_tasks_tell_airflow_the_tables_and_the_bucket_that_they_read_and_write(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert bag["tasks"] == {
        "claim": [[RECORDS], []],
        "process": [[RECORDS, BUCKET], []],
        "report": [[], sorted(WRITTEN)],
    }


def test_the_tables_that_are_told_are_tables_of_the_schema(world: World) -> None:
    found = world.sql.execute("select schemaname || '.' || tablename as name from pg_tables where schemaname = 'anomaly'").fetchall()
    assert {name.removeprefix(f"{DB}/") for name in WRITTEN if name.startswith(f"{DB}/")} <= {row["name"] for row in found}


def test_a_run_is_one_event_on_each_however_many_tasks_it_had(world: World) -> None:
    world.add(6)
    ended = world.run(batch_size=6, chunk_size=2)
    assert sum(name.startswith("process") for name in ended.tasks) == 3
    assert events(world, ended) == dict.fromkeys(WRITTEN, 1)


def test_a_run_that_wrote_nothing_is_no_event(world: World) -> None:
    empty = world.run()
    world.add(2)
    dry = world.run(dry_run=True)
    nothing_in_it = world.run(window_end="2000-01-01T00:00:00Z")
    for ended in (empty, dry, nothing_in_it):
        assert (ended.state, ended.tasks["report"], events(world, ended)) == ("success", ("success", 1), {})
    assert events(world, world.run()) == dict.fromkeys(WRITTEN, 1)


def events(world: World, ended: Ended) -> dict[str, int]:
    """The number of events of a run by asset."""
    query = """
        select name, count(*) from asset join asset_event on asset_event.asset_id = asset.id where source_run_id = ? group by name"""
    with closing(sqlite3.connect(world.dag_runs.metadata)) as metadata:
        return dict(metadata.execute(query, [ended.run_id]).fetchall())
