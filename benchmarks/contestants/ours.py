"""The project's tasks, called with a stand-in for Airflow's context, without scheduler and API."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.context import set_current_context

from anomaly.tasks import detection
from benchmarks.connections import CHUNK_SIZE, variables
from benchmarks.job import peak_rss_mb

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from benchmarks.job import Job

READY_S = 120
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


class TaskState(dict[str, Any]):
    """A stand-in for the state store of a task, which Airflow keeps between its tries."""

    set = dict.__setitem__


_processes: list[ProcessPoolExecutor] = []


def ready(job: Job) -> None:
    """Start a process for each task and wait until everything is imported."""
    if job.tasks > 1:
        imported = get_context("spawn").Barrier(job.tasks + 1)
        processes = ProcessPoolExecutor(job.tasks, mp_context=get_context("spawn"), initializer=_wait, initargs=(imported,))
        for _ in range(job.tasks):
            processes.submit(int)  # each starts one
        _processes.append(processes)
        imported.wait(READY_S)


def _wait(imported: Barrier) -> None:
    imported.wait(READY_S)


def work(job: Job) -> dict[str, Any]:
    """Claim, process and report, as a run of the DAG does. Return the seconds of each, and memory and processor time of the tasks."""
    os.environ.update(variables(job))
    began = time.monotonic()
    with set_current_context(_context(job, 0)):
        chunks = detection.claim()
    claimed = time.monotonic()
    efforts: list[tuple[float, float]] = []
    for processes in _processes:
        efforts = list(processes.map(_process, [job] * len(chunks), chunks, range(len(chunks))))
    if not _processes:
        _process(job, chunks[0], 0)
    processed = time.monotonic()
    with set_current_context(_context(job, 0)):
        detection.report(None)  # type: ignore[arg-type]  # an event that cannot be sent is a warning
    took_s = {"claim_s": claimed - began, "process_s": processed - claimed, "report_s": time.monotonic() - processed}
    return took_s | {"rss_mb": [rss_mb for rss_mb, _ in efforts], "processor_s": [processor_s for _, processor_s in efforts]}


def _process(job: Job, description: dict[str, Any], map_index: int) -> tuple[float, float]:
    """Run one mapped task and return its peak memory in MB and its processor time in seconds."""
    began_s = time.process_time()
    os.environ.update(variables(job))
    with set_current_context(_context(job, map_index)):
        detection.process(description)
    return peak_rss_mb(), time.process_time() - began_s


def _context(job: Job, map_index: int) -> Any:
    ti = SimpleNamespace(map_index=map_index, try_number=1, max_tries=3, get_task_states=lambda **_: {})
    dag_run = SimpleNamespace(dag_id="benchmarks", run_id="benchmark", run_type="manual", conf={}, triggering_user_name=None)
    # One chunk a task; each task claims the next ones itself.
    params = PARAMS | {"batch_size": CHUNK_SIZE * job.tasks}
    context = {"ti": ti, "dag": SimpleNamespace(params=PARAMS), "dag_run": dag_run, "params": params}
    return context | {"task_state_store": TaskState(), "outlet_events": {None: SimpleNamespace()}}
