"""Runs the real tasks, each try in a forked process, as Airflow's workers do.

Imports Airflow once, which takes seconds. Each line on stdin starts one try; its process id is printed to stdout. A try writes its
outcome to a file; a killed one leaves none.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.api.datamodels._generated import DagRunType  # the type in a task's context; it has no public name
from airflow.sdk.execution_time.context import set_current_context

from anomaly.dags import detection as dag
from anomaly.errors import RunStopped, TryEnded
from anomaly.tasks import detection

log = logging.getLogger("chaos")


class Ti(SimpleNamespace):
    """The part of a task instance that the tasks use."""

    def get_task_states(self, **_: Any) -> dict[str, dict[str, str]]:
        states: dict[str, dict[str, str]] = self.states
        return states


class Memory:
    """A task state store in a file, kept between tries."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def get(self, key: str, default: Any) -> Any:
        return json.loads(self._path.read_text()).get(key, default) if self._path.exists() else default

    def set(self, key: str, value: Any) -> None:
        self._path.write_text(json.dumps({key: value}))


class Events(dict[Any, Any]):
    def __missing__(self, _asset: object) -> SimpleNamespace:
        return SimpleNamespace()


PARAMS = {name: param.value for name, param in dag.PARAMS.items()}


def context_of(asked: dict[str, Any]) -> Any:
    run = asked["run"]
    interval = {name: run[name] and datetime.fromisoformat(run[name]) for name in ("data_interval_start", "data_interval_end")}
    return {
        "dag": SimpleNamespace(params=PARAMS),
        "dag_run": SimpleNamespace(dag_id="chaos", run_id=run["run_id"], run_type=DagRunType(run["run_type"]), conf={}, **interval),
        "params": PARAMS | run["params"],
        "ti": Ti(
            map_index=asked["map_index"],
            try_number=asked["try_number"],
            max_tries=asked["max_tries"],
            states={},
            task=SimpleNamespace(outlets=[]),
        ),
        "outlet_events": Events(),
        "task_state_store": Memory(asked["memory"]),
    }


def work(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the task; return the outcome as Airflow would see it."""
    actions: dict[str, Any] = {"claim": detection.claim, "process": detection.process, "report": lambda: detection.report(Asset("results"))}
    arguments = [asked["chunk"]] if asked["task"] == "process" else []
    with set_current_context(context_of(asked)):
        try:
            return {"state": "success", "returned": actions[asked["task"]](*arguments)}
        except TryEnded as exc:
            log.exception("try ended")
            return {"state": "retry", "delay_s": exc.delay_s, "error": exc.code}
        except RunStopped as exc:
            log.exception("run stopped")
            return {"state": "failed", "error": f"{exc.code}: {exc}"}
        except Exception as exc:
            log.exception("task failed")
            return {"state": "retry", "delay_s": 0.1, "error": f"{type(exc).__name__}: {exc}"}


def child(asked: dict[str, Any]) -> None:
    out = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Airflow's own handler in a task's process also returns and does not end the process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.environ.update(asked["env"])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(threadName)s %(name)s %(message)s", stream=sys.stderr, force=True
    )
    ended = json.dumps(work(asked))
    logging.shutdown()
    draft = Path(f"{asked['answer']}.draft")
    draft.write_text(ended)
    draft.replace(asked["answer"])


def serve() -> None:
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Airflow prints to stdout, too
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    print("ready", file=said, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if not (pid := os.fork()):
            try:
                child(asked)
            finally:
                os._exit(0)
        print(pid, file=said, flush=True)


if __name__ == "__main__":
    serve()
