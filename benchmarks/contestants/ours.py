"""Our tasks themselves, called one after another with a stand-in for Airflow's context: neither scheduler nor API are asked."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.context import set_current_context

from anomaly import tasks
from benchmarks.connections import CHUNK_SIZE, variables
from benchmarks.job import peak_rss_mb

if TYPE_CHECKING:
    from benchmarks.job import Job

PARAMS = {
    "select": "pending",
    "window_start": None,
    "window_end": None,
    "max_records": None,
    "chunk_size": CHUNK_SIZE,
    "detector": "anomaly_detector",
    "fresh": False,
    "max_failure_rate": 1.0,
    "dry_run": False,
}


class Memory(dict[str, Any]):
    """What Airflow keeps of a task from one try to the next."""

    set = dict.__setitem__


def work(job: Job) -> dict[str, Any]:
    """Claim, process and report, as a run of the DAG does; returns the seconds that each took, and the tasks' memory."""
    os.environ.update(variables(job))
    began = time.monotonic()
    with set_current_context(_context(job, 0)):
        chunks = tasks.claim()
    claimed = time.monotonic()
    if len(chunks) == 1:
        rss_mb = [_process(job, chunks[0], 0)]
    else:
        with ProcessPoolExecutor(len(chunks), mp_context=get_context("spawn")) as processes:
            rss_mb = list(processes.map(_process, [job] * len(chunks), chunks, range(len(chunks))))
    processed = time.monotonic()
    with set_current_context(_context(job, 0)):
        tasks.report(None)  # type: ignore[arg-type]  # an event that cannot be sent is a warning
    return {"claim_s": claimed - began, "process_s": processed - claimed, "report_s": time.monotonic() - processed, "rss_mb": rss_mb}


def _process(job: Job, description: dict[str, Any], map_index: int) -> float:
    os.environ.update(variables(job))
    with set_current_context(_context(job, map_index)):
        tasks.process(description)
    return peak_rss_mb()


def _context(job: Job, map_index: int) -> Any:
    ti = SimpleNamespace(map_index=map_index, try_number=1, max_tries=3, get_task_states=lambda **_: {})
    dag_run = SimpleNamespace(dag_id="benchmarks", run_id="benchmark", run_type="manual", triggering_user_name=None)
    # One chunk a task: each goes on with the next ones by itself.
    params = PARAMS | {"batch_size": CHUNK_SIZE * job.tasks}
    return {"ti": ti, "dag_run": dag_run, "params": params, "task_state_store": Memory(), "outlet_events": {None: SimpleNamespace()}}
