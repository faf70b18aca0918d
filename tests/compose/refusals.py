"""Wrong configurations: each is reported in one sentence, the command fails, and nothing restarts for ever."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

from tests.compose.stack import DAG, Failed, Server, expect

if TYPE_CHECKING:
    import subprocess

QUIET_S = 10
"""Time in which Docker would restart a failed container."""


def no_env(server: Server) -> str:
    aside = server.env.rename(server.env.with_suffix(".aside"))
    try:
        said = _refused(server.ended("up", "--detach", "--wait", "--no-build"), "run bin/secrets, which writes .env")
    finally:
        aside.rename(server.env)
    expect(server.inspect("{{.Name}}") == [], "without .env, containers were made")
    return said


def wrong_password(server: Server) -> str:
    return _not_prepared(server, "Postgres refuses SERVER_POSTGRES_PASSWORD", SERVER_POSTGRES_PASSWORD="wrong")  # noqa: S106  # deliberately wrong


def no_bucket(server: Server) -> str:
    of = server.values()
    keys = f"{of['SERVER_S3_ACCESS_KEY']}:{of['SERVER_S3_SECRET_KEY']}"
    # With the slash at its end it counts as an external service, on which no bucket is created.
    value = f"aws://{keys}@/?bucket=nothing-here&region_name=us-east-1&endpoint_url=http%3A%2F%2Fs3%3A8333%2F"
    return _not_prepared(server, "the bucket nothing-here of AIRFLOW_CONN_ANOMALY_S3 does not exist", AIRFLOW_CONN_ANOMALY_S3=value)


def taken_port(server: Server) -> str:
    with socket.create_server(("127.0.0.1", server.port)):
        said = _refused(server.ended("up", "--detach", "--wait", "--no-build"), str(server.port))
        _still(server, {"postgres", "s3", "detector"})
    return said


OLD = """
drop table anomaly.asks;
delete from anomaly._yoyo_migrations where migration_id = '0006_asks';
insert into anomaly.records (image_url, captured_at) select image_url, captured_at from anomaly.records order by id limit 1
"""


def old_schema(server: Server) -> str:
    """Undo a migration and its entry in yoyo's table while a record is pending."""
    server.demo(0)  # starts the image host; first, because it also migrates the schema
    server.sql(OLD)
    said = _refused(server.ended("exec", "--no-TTY", "scheduler", "python", "-m", "anomaly", "check-sql"), "run python -m anomaly migrate")
    run_id = server.trigger()
    expect(server.finished(run_id) == "failed", "the run on an old schema did not fail")
    failed = [task for task in server.tasks(run_id) if task["state"] == "failed"]
    expect({task["try_number"] for task in failed} == {1}, f"on an old schema tasks were tried again: {failed}")
    told = [task["task_id"] for task in failed if "anomaly migrate" in _log(server, run_id, task["task_id"], task["map_index"])]
    expect(told != [], "no log of a task on an old schema says what to do")
    left = server.sql("select status, count(*) from anomaly.records where status <> 'done' group by status").strip()
    expect(left == "pending|1", f"the run on an old schema left {left}")
    return f"{said}; the run fails after one try, the log of {' and '.join(told)} has the same sentence, and the record stays pending"


def _log(server: Server, run_id: str, task_id: str, map_index: int) -> str:
    return json.dumps(server.call("GET", f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1?map_index={map_index}"))


def _not_prepared(server: Server, sentence: str, **values: str) -> str:
    """Expect `init` to print only this sentence with these values in .env, and no service that depends on it to start."""
    with server.wrong(**values):
        ended = server.ended("up", "--detach", "--wait", "--no-build")
        expect(ended.returncode != 0, f"up did not fail: {sentence}")
        said = server.compose("logs", "--no-log-prefix", "--no-color", "init").splitlines()
        expect(len(said) == 1 and said[0].startswith(sentence), f"init said {said}")
        expect("exited 2" in [is_ for name, is_ in server.states().items() if "-init-" in name], f"init: {server.states()}")
        _still(server, {"postgres", "s3", "detector"})
    return f"{said[0]} (exit {ended.returncode})"


def _refused(ended: subprocess.CompletedProcess[str], sentence: str) -> str:
    """Return the only output line with the sentence."""
    lines = [line for line in f"{ended.stdout}\n{ended.stderr}".splitlines() if sentence in line]
    if ended.returncode == 0 or len(lines) != 1:
        raise Failed(f"{sentence}: exit {ended.returncode}, {ended.stdout[-1000:]}{ended.stderr[-1000:]}")
    return f"{lines[0].strip()} (exit {ended.returncode})"


def _still(server: Server, running: set[str]) -> None:
    """Expect only these services to run, and no restarts."""
    time.sleep(QUIET_S)  # long enough for a container that loops to be restarted
    found = [
        line.split() for line in server.inspect('{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.RestartCount}}')
    ]
    expect({name for name, status, _ in found if status in {"running", "restarting"}} == running, f"after a failed up: {found}")
    expect({restarts for *_, restarts in found} == {"0"}, f"containers were restarted: {found}")
