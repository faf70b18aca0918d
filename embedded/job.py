"""The DAG's run as `bin/run` sees it: triggered by Airflow's API, watched in the records database."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg

from embedded.demo import row
from embedded.errors import StartFailed

if TYPE_CHECKING:
    from datetime import datetime

    from embedded.airflow import Airflow
    from embedded.progress import Screen
    from embedded.stack import Stack

DAG_ID = "anomaly_detection"
PARSE_S = 120
POLL_S = 0.5
RATE_OVER = 20
"""Polls over which the rate is taken."""
HTTP_OK = 200


def await_dag(airflow: Airflow, since: datetime) -> None:
    """Wait until Airflow has read the DAG after *since*.

    Raises:
        StartFailed: it cannot be read; the sentence says why.
    """
    deadline = time.monotonic() + PARSE_S
    while time.monotonic() < deadline:
        status, found = airflow.call("GET", f"dags/{DAG_ID}")
        if status == HTTP_OK and (found["last_parsed_time"] or "") >= since.isoformat():
            return
        _, errors = airflow.call("GET", "importErrors")
        for error in errors.get("import_errors", []):
            raise StartFailed(f"{error['filename']} cannot be read by Airflow: {error['stack_trace'].strip().splitlines()[-1]}")
        time.sleep(POLL_S)  # Airflow tells nobody when it has read a DAG
    raise StartFailed(f"Airflow has not read the DAG {DAG_ID} within {PARSE_S} s; its log is {airflow.log / 'dag-processor.log'}")


def trigger(airflow: Airflow) -> str:
    """Unpause the DAG and start a run; return its id."""
    airflow.call("PATCH", f"dags/{DAG_ID}", {"is_paused": False})
    _, run = airflow.call("POST", f"dags/{DAG_ID}/dagRuns", {"logical_date": None})
    return str(run["dag_run_id"])


def watch(stack: Stack, airflow: Airflow, run_id: str, *, screen: Screen) -> str:
    """Show progress until the run has ended, and every other run that began meanwhile; return its state."""
    seen: deque[tuple[float, int]] = deque(maxlen=RATE_OVER)
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        while (state := _state(airflow, run_id)) not in {"success", "failed"} or _others(airflow):
            stack.check()
            asked = time.monotonic()
            now = row(connection, "progress", {"since": stack.began})
            seen.append((time.monotonic(), now["ended"]))
            screen.progress(now["ended"], now["waiting"], rate=_rate(seen))
            # A large table takes long to count: a tenth of the time is enough for it.
            time.sleep(max(POLL_S, 9 * (time.monotonic() - asked)))
    screen.clear()
    return state


def _rate(seen: deque[tuple[float, int]]) -> float:
    (first_at, first), (last_at, last) = seen[0], seen[-1]
    return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def _state(airflow: Airflow, run_id: str) -> str:
    _, run = airflow.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")
    return str(run["state"])


def _others(airflow: Airflow) -> Any:
    _, found = airflow.call("GET", f"dags/{DAG_ID}/dagRuns?state=running&state=queued&limit=1")
    return found["total_entries"]
