"""Links from tasks to the page."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from tests.dags.conftest import World


def test_process_and_report_link_to_the_page_about_their_run(world: World) -> None:
    world.add(3)
    ended = world.run(env={"AIRFLOW__API__BASE_URL": "https://airflow.example/below"}, chunk_size=2, batch_size=4)
    with contextlib.closing(sqlite3.connect(world.dag_runs.metadata)) as metadata:
        found = metadata.execute(
            "select task_id, map_index, value from xcom where key = '_link_RunLink' and run_id = ? order by 1, 2", [ended.run_id]
        ).fetchall()
    assert {(task, index) for task, index, _ in found} >= {("process", 0), ("process", 1), ("report", -1)}
    address = f"/below/plugin/anomaly/below/anomaly/run?dag_id=anomaly_detection&run_id={quote_plus(ended.run_id)}"
    assert {json.loads(value) for _, _, value in found} == {address}
