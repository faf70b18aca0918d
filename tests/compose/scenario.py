"""What tests/compose/run watches: every service healthy, 200 records done, a restart that loses nothing, a worker killed at work."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".state", "logs", ".env", "__pycache__", ".*_cache")
PROJECT = "anomaly-check"
RECORDS = 200
UP_S, RUN_S = 600, 900
COUNTS = """
select json_build_object(
    'records', (select count(*) from anomaly.records),
    'done', (select count(*) from anomaly.records where status = 'done'),
    'results', (select count(*) from anomaly.ai_results),
    'scored_twice', (select count(*) from (select record_id from anomaly.ai_results group by record_id having count(*) > 1) as twice),
    'committed', (select count(*) from anomaly.processing_log where event = 'committed'),
    'flags', (select count(*) from anomaly.ai_flags where ai_processed),
    'tasks', (select count(distinct map_index) from anomaly.ai_results))
"""
OBJECTS = """
import os, boto3
from embedded.given import read
of = read("S3", os.environ["AIRFLOW_CONN_ANOMALY_S3"])
login = {"aws_access_key_id": of.login, "aws_secret_access_key": of.password, "region_name": "us-east-1"}
pages = boto3.client("s3", endpoint_url=of.extra["endpoint_url"], **login).get_paginator("list_objects_v2")
keys = [each["Key"] for page in pages.paginate(Bucket=of.extra["bucket"]) for each in page.get("Contents", [])]
print(sum(not key.startswith("runs/") for key in keys))  # a scheduled run may end meanwhile
"""


class Failed(Exception):
    """What was to be seen was not."""


class Server:
    """The services of docker-compose.yaml in a copy of the tree."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        shutil.rmtree(self.tree, ignore_errors=True)
        shutil.copytree(ROOT, self.tree, ignore=NOT_COPIED, symlinks=True)
        _run([str(self.tree / "bin" / "secrets")])
        self.port = _free_port()
        self.set(SERVER_PORT=self.port, SERVER_S3_PORT=_free_port(), SERVER_GRAFANA_PORT=_free_port())
        # A worker that was killed is missed after this time; Airflow's own 300 s would make the test longer and no better.
        self.set(AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=60, ANOMALY_TASK_BACKOFF_S=5)
        self._compose = ["docker", "compose"] if _run(["docker", "compose", "version"]).returncode == 0 else ["docker-compose"]

    def set(self, **values: object) -> None:
        with (self.tree / ".env").open("a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in values.items())

    def get(self, name: str) -> str:
        lines = (self.tree / ".env").read_text().splitlines()
        return next(line.partition("=")[2].strip("'") for line in reversed(lines) if line.startswith(f"{name}="))

    def compose(self, *words: str, timeout_s: float = UP_S) -> str:
        command = [*self._compose, "--project-name", PROJECT, *words]
        ended = _run(command, cwd=self.tree, timeout_s=timeout_s)
        if ended.returncode:
            raise Failed(f"{' '.join(words)} ended with {ended.returncode}: {(ended.stderr or ended.stdout)[-2000:]}")
        return ended.stdout

    def up(self, *words: str) -> None:
        self.compose("up", "--detach", "--wait", "--no-build", *words)

    def counts(self) -> dict[str, int]:
        return dict(json.loads(self.sql(COUNTS)))

    def sql(self, statement: str) -> str:
        password = f"PGPASSWORD={self.get('SERVER_RECORDS_DB_PASSWORD')}"
        psql = ["psql", "--host=127.0.0.1", "--username=records", "--tuples-only", "--no-align", "--command", statement, "records"]
        return self.compose("exec", "--no-TTY", "--env", password, "postgres", *psql)

    def objects(self) -> int:
        return int(self.compose("exec", "--no-TTY", "scheduler", "python", "-c", OBJECTS).strip().splitlines()[-1])

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def call(self, method: str, path: str, body: object = None) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}"
        headers = {"Content-Type": "application/json"}
        if path != "auth/token":
            headers["Authorization"] = f"Bearer {self._token()}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers, method=method), timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def _token(self) -> str:
        login = {"username": "admin", "password": self.get("SERVER_ADMIN_PASSWORD")}
        return str(self.call("POST", "auth/token", login)["access_token"])

    def trigger(self, **conf: object) -> str:
        self.call("PATCH", "api/v2/dags/anomaly_detection", {"is_paused": False})
        run = self.call("POST", "api/v2/dags/anomaly_detection/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def state(self, run_id: str) -> str:
        return str(self.call("GET", f"api/v2/dags/anomaly_detection/dagRuns/{run_id}")["state"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--without-grafana", action="store_true")
    asked = parser.parse_args()
    server = Server(asked.folder.resolve())
    try:
        local_executor(server)
        restart(server)
        celery(server)
        metrics(server, asked.folder, with_grafana=not asked.without_grafana)
    except Failed as exc:
        say(f"FAILED: {exc}")
        return 1
    finally:
        if not asked.keep:
            server.compose("--profile", "*", "down", "--volumes")
    say("all of it holds")
    return 0


def local_executor(server: Server) -> None:
    server.compose("--profile", "demo", "--profile", "celery", "build", timeout_s=1800)
    say("images built")
    server.up()
    say("every service is healthy")
    demo(server, RECORDS)
    finish(server, server.trigger(), RECORDS)


def restart(server: Server) -> None:
    before, objects = server.counts(), server.objects()
    server.compose("down")
    server.up()
    after = server.counts()
    expect(after == before, f"after down and up: {after}, before: {before}")
    expect(server.objects() == objects, f"after down and up {server.objects()} objects, before {objects}")
    say(f"down and up again: {after['results']} results and {objects} objects as before")


def celery(server: Server) -> None:
    server.set(SERVER_EXECUTOR="CeleryExecutor", COMPOSE_PROFILES="celery")
    server.up("--scale", "worker=2", "--remove-orphans")
    say("every service is healthy, with CeleryExecutor and two workers")
    demo(server, 2 * RECORDS)
    run_id = server.trigger(batch_size=400, chunk_size=20, fresh=True)
    wait_for(lambda: server.counts()["done"] > RECORDS + 40, RUN_S, "the first records of the second run")
    busy = server.containers("worker")[0]
    _run(["docker", "kill", busy])
    say(f"one worker killed at {server.counts()['done']} of {3 * RECORDS} records done")
    finish(server, run_id, 3 * RECORDS)


def metrics(server: Server, folder: Path, *, with_grafana: bool) -> None:
    server.set(SERVER_METRICS="True", COMPOSE_PROFILES="celery,metrics")
    # Named, since Compose would ask the registry for the image of a service that is scaled to nothing.
    services = [name for name in server.compose("config", "--services").split() if with_grafana or name != "grafana"]
    server.up(*services)
    demo(server, RECORDS)
    server.sql(
        "insert into anomaly.records (image_url, captured_at) select 'http://image-host:8000/none', now() from generate_series(1, 5)"
    )
    run_id = server.trigger(batch_size=100, chunk_size=20, fresh=True)
    wait_for(lambda: server.state(run_id) in {"success", "failed"}, RUN_S, f"the run {run_id}")
    time.sleep(30)  # until the last of it is scraped
    seen = panels(server)
    (folder / "panels.json").write_text(json.dumps(seen))
    sent = set(re.findall(r"^\| `(anomaly\.[\w.]+)` ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    for title, panel in seen.items():
        empty = [expression for expression, series in panel["expressions"].items() if not series]
        expected = [each for each in empty if any(name.replace(".", "_") in each for name in sent)]
        expect(not expected, f"the panel {title} has no data for {expected}")
        say(f"panel {title}: {sum(map(len, panel['expressions'].values()))} series" + (f", none for {empty}" if empty else ""))


def panels(server: Server) -> dict[str, Any]:
    """The dashboard's panels, and for each of its expressions what Prometheus answers over the last ten minutes."""
    dashboard = json.loads((server.tree / "metrics" / "grafana" / "dashboards" / "anomaly.json").read_text())
    return {
        panel["title"]: {
            "unit": panel["fieldConfig"]["defaults"]["unit"],
            "expressions": {target["expr"]: _series(server, target["expr"], target["legendFormat"]) for target in panel["targets"]},
        }
        for panel in dashboard["panels"]
    }


def _series(server: Server, expression: str, legend: str) -> dict[str, list[list[float]]]:
    now = time.time()
    query = urllib.parse.urlencode({"query": expression, "start": now - 600, "end": now, "step": 5})
    url = f"http://127.0.0.1:9090/api/v1/query_range?{query}"
    answer = json.loads(server.compose("exec", "--no-TTY", "prometheus", "wget", "--quiet", "--output-document=-", url))
    named = {_named(legend, each["metric"]): each["values"] for each in answer["data"]["result"]}
    return {name: [[float(at), float(value)] for at, value in values if value != "NaN"] for name, values in named.items()}


def _named(legend: str, labels: dict[str, str]) -> str:
    for label, text in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", text)
    return legend


def demo(server: Server, records: int) -> None:
    server.set(SERVER_DEMO_RECORDS=records)
    server.compose("--profile", "demo", "run", "--rm", "--no-TTY", "demo")


def finish(server: Server, run_id: str, records: int) -> None:
    """Wait for the run, and see each record done with exactly one result."""
    began = time.monotonic()
    wait_for(lambda: server.state(run_id) in {"success", "failed"}, RUN_S, f"the run {run_id}")
    wait_for(lambda: server.counts()["done"] == records, RUN_S, f"{records} records done")
    counts = server.counts()
    right = {"records": records, "done": records, "results": records, "scored_twice": 0, "committed": records, "flags": records}
    expect(counts | right == counts, f"counted {counts}")
    say(f"the run is {server.state(run_id)} after {time.monotonic() - began:.0f} s: {counts}")


def wait_for(seen: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not seen():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within_s:.0f} s")
        time.sleep(2)


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise Failed(otherwise)


def say(text: str) -> None:
    sys.stdout.write(f"{time.monotonic() - BEGAN:5.0f} s  {text}\n")
    sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _run(command: list[str], *, cwd: Path | None = None, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603 - our own words


BEGAN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
