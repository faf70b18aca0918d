"""Runs the DAG's tasks in order without a scheduler: tries, retries after a delay or a death, the report."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from tests.chaos.workers import Try
    from tests.chaos.world import World

MAX_TRIES = 3
"""Retries after the first try, as in the DAG."""


class DagRun:
    """A run that `start` starts on a thread. Call its methods from the test's thread only."""

    def __init__(
        self, world: World, run_id: str, *, window: tuple[datetime, datetime] | None = None, batch_size: int = 10, chunk_size: int = 10
    ) -> None:
        self._world = world
        start, end = window or (None, None)
        self._run = {
            "run_id": run_id,
            "run_type": "backfill" if window else "manual",
            "data_interval_start": start and start.isoformat(),
            "data_interval_end": end and end.isoformat(),
            "params": {"batch_size": batch_size, "chunk_size": chunk_size},
        }
        self._states: list[str] = []
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=run_id, daemon=True)
        self.tries: dict[str, list[Try]] = {"claim": [], "process": [], "report": []}
        self.broken: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def wait(self, *, within_s: float) -> None:
        self._thread.join(within_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the run {self._run['run_id']} has not ended within {within_s:g} s")
        if self.broken:
            raise self.broken

    def abandon(self) -> None:
        """Retry nothing more and run no report, as when the scheduler dies, too."""
        self._abandoned.set()

    @property
    def state(self) -> str:
        return "success" if set(self._states) <= {"success"} else "failed"

    def living(self, task: str) -> Try:
        """Return the only try of a task that is alive."""
        (found,) = [each for each in list(self.tries[task]) if each.alive]
        return found

    def _drive(self) -> None:
        try:
            claimed = self._run_task("claim", {})
            chunks = claimed or []
            mapped = [threading.Thread(target=self._process, args=(index, chunk), daemon=True) for index, chunk in enumerate(chunks)]
            for thread in mapped:
                thread.start()
            for thread in mapped:
                thread.join()
            if not self._abandoned.is_set():
                self._run_task("report", {})
        except BaseException as exc:  # noqa: BLE001  # raised again on the test's thread
            self.broken = exc

    def _process(self, index: int, chunk: Any) -> None:
        self._run_task("process", {"chunk": chunk, "map_index": index})

    def _run_task(self, task: str, more: dict[str, Any]) -> Any:
        """Try a task as often as Airflow does; return its value, None if it failed."""
        for number in range(1, MAX_TRIES + 2):
            asked = {"task": task, "run": self._run, "map_index": -1, "try_number": number, "max_tries": MAX_TRIES, **more}
            ended = self._one_try(task, asked)
            if self._abandoned.is_set():
                return None
            if ended and ended["state"] == "success":
                self._states.append("success")
                return ended["returned"]
            if ended and ended["state"] == "failed":
                break
            if number <= MAX_TRIES:
                self._abandoned.wait(ended["delay_s"] if ended else 0)
        self._states.append("failed")
        return None

    def _one_try(self, task: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        started = self._world.start_try(asked)
        self.tries[task].append(started)
        while started.alive:
            time.sleep(0.02)  # a process that may be killed at any moment
        return started.ended()
