"""A run of the DAG: triggered by Airflow's API, followed in the records database."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg

from anomaly.db.statements import default_statements
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
RATE_SAMPLES, RATE_MIN_S = 20, 2.0
"""Polls from which the rate is computed, and the time that they must span."""
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


def trigger(airflow: Airflow, *, max_records: int | None) -> str:
    """Unpause the DAG and start a run; return its id."""
    set_paused(airflow, paused=False)
    conf = {} if max_records is None else {"max_records": max_records}
    _, run = airflow.call("POST", f"dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf})
    return str(run["dag_run_id"])


def set_paused(airflow: Airflow, *, paused: bool) -> None:
    airflow.call("PATCH", f"dags/{DAG_ID}", {"is_paused": paused})


def is_paused(airflow: Airflow) -> bool:
    _, found = airflow.call("GET", f"dags/{DAG_ID}")
    return bool(found["is_paused"])


class Rate:
    """Records a second. The time before the first record ended is not part of it: tasks start then, and open their connections."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)

    def add(self, at: float, ended: int) -> float | None:
        """Note how many records have ended; return the rate, None if the time is too short to tell."""
        if ended:
            self._seen.append((at, ended))
        if not self._seen or (took_s := at - self._seen[0][0]) < RATE_MIN_S:
            return None
        return (ended - self._seen[0][1]) / took_s


def watch(stack: Stack, airflow: Airflow, run_id: str, *, max_records: int | None, progress: Progress) -> str:
    """Show progress until this run and all others have ended; return the state of this one."""
    rate, statement = Rate(), default_statements()["run_progress"]
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        while (state := _state(airflow, run_id)) not in {"success", "failed"} or _unfinished_runs(airflow):
            stack.check()
            asked = time.monotonic()
            now = row(connection, statement, {"since": stack.began})
            waiting = now["claimed"] + now["due"]
            if max_records is not None:
                waiting = min(waiting, max(0, max_records - now["ended"]))
            progress.records(now["ended"], waiting, rate=rate.add(time.monotonic(), now["ended"]))
            # Counting a large table takes long: spend at most a tenth of the time on it.
            time.sleep(max(POLL_S, 9 * (time.monotonic() - asked)))  # Airflow sends no event when a run has ended
    progress.clear()
    return state


def failure(airflow: Airflow, run_id: str) -> str | None:
    """Return the sentence of the error that failed a run; None if no task of it has logged one."""
    _, found = airflow.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?state=failed&limit=100")
    # `report` fails because others did, and is the last one.
    failed = sorted(found["task_instances"], key=lambda task: (task["task_id"] != "report", task["end_date"] or ""))
    for task in reversed(failed):
        path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        _, log = airflow.call("GET", f"{path}?map_index={task['map_index']}&full_content=true")
        for line in reversed(log["content"]):
            if isinstance(line, dict) and line.get("error_detail"):
                error = line["error_detail"][0]
                return str(error["exc_value"] or error["exc_type"])
    return None


def _state(airflow: Airflow, run_id: str) -> str:
    _, run = airflow.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")
    return str(run["state"])


def _unfinished_runs(airflow: Airflow) -> Any:
    _, found = airflow.call("GET", f"dags/{DAG_ID}/dagRuns?state=running&state=queued&limit=1")
    return found["total_entries"]
