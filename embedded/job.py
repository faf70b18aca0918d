"""A run of the DAG: triggered by Airflow's API, followed in the records database."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg

from embedded.errors import StartFailed
from embedded.queries import row

if TYPE_CHECKING:
    from datetime import datetime

    from embedded.airflow import Airflow
    from embedded.progress import Progress
    from embedded.stack import Stack

DAG_ID = "anomaly_detection"
PARSE_TIMEOUT_S = 120
POLL_S = 0.5
RATE_SAMPLES = 20
"""Polls from which the rate is computed."""
HTTP_OK = 200


def wait_for_dag(airflow: Airflow, since: datetime) -> None:
    """Wait until Airflow has parsed the DAG after *since*.

    Raises:
        StartFailed: Airflow cannot parse it, or has not within the time limit.
    """
    deadline = time.monotonic() + PARSE_TIMEOUT_S
    while time.monotonic() < deadline:
        status, found = airflow.call("GET", f"dags/{DAG_ID}")
        if status == HTTP_OK and (found["last_parsed_time"] or "") >= since.isoformat():
            return
        _, errors = airflow.call("GET", "importErrors")
        for error in errors.get("import_errors", []):
            raise StartFailed(f"{error['filename']} cannot be parsed by Airflow: {error['stack_trace'].strip().splitlines()[-1]}")
        time.sleep(POLL_S)  # Airflow sends no event when it has parsed a DAG
    raise StartFailed(f"Airflow has not parsed the DAG {DAG_ID} within {PARSE_TIMEOUT_S} s; its log is {airflow.log / 'dag-processor.log'}")


def trigger(airflow: Airflow) -> str:
    """Unpause the DAG and start a run; return its id."""
    airflow.call("PATCH", f"dags/{DAG_ID}", {"is_paused": False})
    _, run = airflow.call("POST", f"dags/{DAG_ID}/dagRuns", {"logical_date": None})
    return str(run["dag_run_id"])


def watch(stack: Stack, airflow: Airflow, run_id: str, *, progress: Progress) -> str:
    """Show progress until this run and all others have ended; return the state of this one."""
    seen: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        while (state := _state(airflow, run_id)) not in {"success", "failed"} or _unfinished_runs(airflow):
            stack.check()
            asked = time.monotonic()
            now = row(connection, "progress", {"since": stack.began})
            seen.append((time.monotonic(), now["ended"]))
            progress.records(now["ended"], now["waiting"], rate=_rate(seen))
            # Counting a large table takes long: spend at most a tenth of the time on it.
            time.sleep(max(POLL_S, 9 * (time.monotonic() - asked)))
    progress.clear()
    return state


def _rate(seen: deque[tuple[float, int]]) -> float:
    (first_at, first), (last_at, last) = seen[0], seen[-1]
    return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def _state(airflow: Airflow, run_id: str) -> str:
    _, run = airflow.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")
    return str(run["state"])


def _unfinished_runs(airflow: Airflow) -> Any:
    _, found = airflow.call("GET", f"dags/{DAG_ID}/dagRuns?state=running&state=queued&limit=1")
    return found["total_entries"]
