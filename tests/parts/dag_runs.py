"""Runs the real DAG without a scheduler, each run in its own process and with the connections of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]

# Each run is a fork of a process that has imported Airflow, which takes seconds.
SERVER = """
import json, os, sys, traceback
said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow prints to stdout, too
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.observability import stats

from airflow.sdk.execution_time.supervisor import in_process_api_server

bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
dag = bag.dags["anomaly_detection"]

# A first run compiles Airflow's API, which takes seconds. This one ends at once, over a bad setting.
os.environ["ANOMALY_LEASE_S"] = "warm-up"
dag.test()
del os.environ["ANOMALY_LEASE_S"]

def run(request):
    app = in_process_api_server().app
    in_process_api_server.cache_clear()  # its thread has stayed in the parent
    in_process_api_server()._app = app
    os.environ.update(request["env"])
    if before := request["before"]:
        exec(before, {"dag": dag, "stats": stats})
    from sqlalchemy import select
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    ended = dag.test(run_conf=request["conf"])
    with create_session() as session:
        xcoms = session.scalars(select(XComModel.value).where(XComModel.run_id == ended.run_id)).all()
        tasks = {f"{ti.task_id}_{ti.map_index}" if ti.map_index >= 0 else ti.task_id: [str(ti.state), ti.try_number]
                 for ti in ended.get_task_instances(session=session)}
    return {"run_id": ended.run_id, "state": str(ended.state), "tasks": tasks, "xcom_bytes": sum(len(str(x)) for x in xcoms)}

for line in sys.stdin:
    request = json.loads(line)
    if not (child := os.fork()):
        try:
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            answer = run(request)
        except BaseException:
            traceback.print_exc()
            answer = {"run_id": "", "state": "broken", "tasks": {}, "xcom_bytes": 0}
        with open(request["answer"], "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", file=said, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The outcome of a run."""

    run_id: str
    state: str
    tasks: dict[str, tuple[str, int]]
    """State and number of tries by task, `process_0` and so on for the mapped ones."""
    xcom_bytes: int
    output: str
    """Logs of the tasks, and all other output."""


class DagRuns:
    """A process that has loaded Airflow, its metadata database and the project's DAG."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.metadata = home / "airflow.db"
        """Airflow's own database, of SQLite."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
        self._env = env | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.metadata}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        }

    def __enter__(self) -> Self:
        subprocess.run(  # a constant command
            [sys.executable, "-m", "airflow", "db", "migrate"], env=self._env, check=True, capture_output=True
        )
        self._process = subprocess.Popen(  # noqa: S603  # a constant script
            [sys.executable, "-c", SERVER],
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout
        self._process.stdout.close()

    def run(self, conf: Mapping[str, Any], *, env: Mapping[str, str], before: str = "") -> Ended:
        """Run the DAG to its end, retries included. *before* is Python that runs first, with `dag` and `stats` at hand."""
        log, answer = self._home / "run.log", self._home / "answer.json"
        request = {"conf": conf, "env": dict(env), "before": before, "log": str(log), "answer": str(answer)}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ended\n"
        ended = json.loads(answer.read_text())
        return Ended(**ended | {"output": log.read_text(), "tasks": {name: tuple(of) for name, of in ended["tasks"].items()}})
