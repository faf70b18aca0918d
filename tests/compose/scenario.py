"""The stages of tests/compose/run: all services healthy, 200 records done, a restart without loss, a worker killed at work.

Each stage builds on the one before, so the first failure ends the run; the summary lists all stages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.compose import dashboard, hidden, refusals
from tests.compose.stack import PROJECT, RUN_S, Failed, Server, expect, say, succeeded, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 200
COUNTS = """
select json_build_object(
    'records', (select count(*) from anomaly.records),
    'done', (select count(*) from anomaly.records where status = 'done'),
    'results', (select count(*) from anomaly.ai_results),
    'scored_twice', (select count(*) from (select record_id from anomaly.ai_results group by record_id having count(*) > 1) as twice),
    'committed', (select count(*) from anomaly.processing_log where event = 'committed'),
    'flags', (select count(*) from anomaly.ai_flags where ai_processed),
    'held', (select count(*) from anomaly.records where status = 'claimed') + (select count(*) from anomaly.chunks where ended_at is null))
"""
OBJECTS = """
import hashlib, json, os, boto3, psycopg
from anomaly.connection_env import read, records_dsn
of = read("S3", os.environ["AIRFLOW_CONN_ANOMALY_S3"])
login = {"aws_access_key_id": of.login, "aws_secret_access_key": of.password, "region_name": "us-east-1"}
pages = boto3.client("s3", endpoint_url=of.extra["endpoint_url"], **login).get_paginator("list_objects_v2")
objects = [each for page in pages.paginate(Bucket=of.extra["bucket"]) for each in page.get("Contents", [])]
there = {each["Key"]: (each["ETag"], each["Size"]) for each in objects}
# Without the objects that a scheduled run may write meanwhile: its report, and the probe for write access.
kept = sorted(each for each in there.items() if each[0].startswith(("images/", "answers/", "heatmaps/")))
rows = psycopg.connect(records_dsn(os.environ)).execute("select image_key, answer_key, heatmap_key from anomaly.ai_results").fetchall()
named = {key for row in rows for key in row if key}
digest = hashlib.sha256(repr(kept).encode()).hexdigest()[:12]
print(json.dumps({"objects": len(kept), "digest": digest, "named": len(named), "missing": len(named - there.keys())}))
"""


NOWHERE = """
insert into anomaly.records (image_url, captured_at) select 'http://image-host:8000/none', now() from generate_series(1, 5)
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--without-grafana", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    server = Server(folder)
    if left := server.inspect("{{.Name}}"):
        sys.stderr.write(f"{', '.join(left)} of an earlier run are left; remove them first\n")
        return 2
    say(f"Docker {succeeded(['docker', 'version', '--format', '{{.Server.Version}}']).strip()}, Compose {server.version()}")
    stages = stages_of(server, folder, with_grafana=not options.without_grafana)
    outcomes: dict[str, tuple[bool, str]] = {}
    try:
        for what, stage in stages.items():
            outcomes[what] = run_stage(what, stage)
            if not outcomes[what][0]:
                break
    finally:
        if not options.keep:
            outcomes["down --volumes"] = run_stage("down --volumes", partial(gone, server))
    return summary(outcomes, not_run=[what for what in stages if what not in outcomes])


def stages_of(server: Server, folder: Path, *, with_grafana: bool) -> dict[str, Callable[[], str]]:
    kept: dict[str, object] = {}
    return {
        "two images are built": partial(built, server),
        "no password or key in an image": partial(hidden.in_images, server),
        "up without .env": partial(refusals.no_env, server),
        "up": partial(up, server),
        "Airflow's pages want a password": partial(login, server),
        "the doctor in the scheduler": partial(doctor, server, "scheduler"),
        "a run by the API": partial(first_run, server),
        "down": partial(down, server, kept),
        "up with a wrong password": partial(refusals.wrong_password, server),
        "up with a bucket that is not there": partial(refusals.no_bucket, server),
        "up with a port that is taken": partial(refusals.taken_port, server),
        "up again": partial(up_again, server, kept),
        "a run on an old schema": partial(refusals.old_schema, server),
        "up on an old schema": partial(mended, server),
        "up with two Celery workers": partial(up_with_celery, server),
        "the doctor in a worker": partial(doctor, server, "worker"),
        "a worker is killed": partial(worker_killed, server),
        "up with metrics": partial(up_with_metrics, server, with_grafana=with_grafana),
        "the dashboard's panels": partial(metrics, server, folder / "panels.json"),
        "no password or key in the logs": partial(hidden.in_logs, server),
    }


def run_stage(what: str, stage: Callable[[], str]) -> tuple[bool, str]:
    """Run a stage; return whether it passed, and its result in words."""
    say(f"{what} …")
    try:
        seen = stage()
    except (Failed, OSError, subprocess.SubprocessError, ValueError, LookupError) as exc:
        say(f"FAILED {what}: {type(exc).__name__}: {exc}")
        return False, f"{exc}".partition("\n")[0]
    say(f"ok     {what}: {seen}")
    return True, seen


def summary(outcomes: dict[str, tuple[bool, str]], *, not_run: list[str]) -> int:
    lines = [f"{'ok' if holds else 'FAILED':7} {what}: {seen}" for what, (holds, seen) in outcomes.items()]
    lines += [f"not run {what}" for what in not_run]
    failed = sum(not holds for holds, _ in outcomes.values())
    sys.stdout.write("\n" + "\n".join([*lines, f"{len(outcomes) - failed} passed, {failed} failed, {len(not_run)} skipped"]) + "\n")
    return 1 if failed or not_run else 0


# ── LocalExecutor


def built(server: Server) -> str:
    server.compose("--profile", "demo", "--profile", "celery", "build", timeout_s=1800)
    sizes = [succeeded(["docker", "image", "inspect", "--format", "{{.Size}}", image]) for image in hidden.IMAGES]
    return ", ".join(f"{image} {int(size) / 1e6:.0f} MB" for image, size in zip(hidden.IMAGES, sizes, strict=True))


def up(server: Server) -> str:
    took_s = server.up()
    published = [line for line in server.inspect("{{json .NetworkSettings.Ports}}") if "HostIp" in line]
    hosts = {each["HostIp"] for line in published for ports in json.loads(line).values() for each in ports or []}
    expect(hosts == {"127.0.0.1"}, f"ports are published on {hosts}")
    running = {
        "Airflow": server.call("GET", "api/v2/version")["version"],
        "Postgres": server.sql("show server_version").split()[0],
        "SeaweedFS": server.execute("s3", "weed", "version").split()[2],
    }
    versions = ", ".join(f"{name} {version}" for name, version in running.items())
    return f"{len(server.states())} containers healthy or through after {took_s:.0f} s, published on 127.0.0.1 alone; {versions}"


def login(server: Server) -> str:
    expect(server.refuses("POST", "auth/token", {"username": "admin", "password": "wrong"}), "a wrong password is not refused")
    expect(server.refuses("GET", "api/v2/dags", token=""), "the API answers without a token")
    expect(server.log_in(server.values()["SERVER_ADMIN_PASSWORD"]) != "", "the password of .env gives no token")
    return "a wrong one and none are refused, that of .env is taken"


def doctor(server: Server, service: str) -> str:
    ended = server.ended("exec", "--no-TTY", service, "python", "-m", "anomaly", "doctor")
    lines = ended.stdout.splitlines()
    for line in lines:
        say(f"    {line}")
    expect(
        ended.returncode == 0 and all(line.startswith("ok  ") for line in lines), f"exit {ended.returncode}: {ended.stdout}{ended.stderr}"
    )
    looked_at = {line[4:].partition(":")[0] for line in lines}
    missing = {
        "settings",
        "anomaly_db",
        "schema",
        "SQL files",
        "pool",
        "clocks",
        "anomaly_s3",
        "anomaly_detector",
        "anomaly_images",
    } - looked_at
    expect(not missing, f"the doctor did not look at {missing}")
    return f"{len(lines)} lines, each ok; {next(line[4:] for line in lines if line.startswith('ok  pool'))}"


def first_run(server: Server) -> str:
    server.demo(RECORDS)
    began = time.monotonic()
    state = server.finished(server.trigger())
    took_s = time.monotonic() - began
    expect(state == "success", f"the run is {state}")
    return f"success after {took_s:.0f} s; {done_once(server, RECORDS)}; {in_bucket(server)}"


def down(server: Server, kept: dict[str, object]) -> str:
    kept.update(counts=counts(server), bucket=in_bucket(server))
    server.compose("down")
    expect(server.inspect("{{.Name}}") == [], "down left containers")
    return "no container is left"


def up_again(server: Server, kept: dict[str, object]) -> str:
    took_s = server.up()
    found = {"counts": counts(server), "bucket": in_bucket(server)}
    expect(found == kept, f"after down and up {found}, before {kept}")
    return f"healthy after {took_s:.0f} s, with the same records, results and objects: {found['bucket']}"


def mended(server: Server) -> str:
    took_s = server.up()
    state = server.finished(server.trigger())
    expect(state == "success", f"the run is {state}")
    return f"healthy after {took_s:.0f} s, and the next run takes what the red one left; {done_once(server, counts(server)['records'])}"


# ── the profiles


def up_with_celery(server: Server) -> str:
    server.set(SERVER_EXECUTOR="CeleryExecutor", COMPOSE_PROFILES="celery")
    took_s = server.up("--scale", "worker=2", "--remove-orphans")
    expect(len(server.containers("worker")) == 2, "there are not two workers")
    return f"{len(server.states())} containers healthy or through after {took_s:.0f} s"


def worker_killed(server: Server) -> str:
    before = counts(server)["done"]
    server.demo(2 * RECORDS)
    total = counts(server)["records"]
    began = time.monotonic()
    run_id = server.trigger(batch_size=2 * RECORDS, chunk_size=20, fresh=True)
    wait_for(lambda: counts(server)["done"] > before + 40, RUN_S, "the first records of the run")
    working = [task for task in server.tasks(run_id) if task["task_id"] == "process" and task["state"] == "running"]
    hosts = {task["hostname"]: [each["map_index"] for each in working if each["hostname"] == task["hostname"]] for task in working}
    killed = next(each for each in server.containers("worker") for host in hosts if each.startswith(host))
    cut_off = next(indexes for host, indexes in hosts.items() if killed.startswith(host))
    succeeded(["docker", "kill", killed])
    at = counts(server)["done"]
    expect(before < at < total, f"the worker was killed at {at} of {total}, which is not in the middle")
    say(f"    one of {len(hosts)} working workers was killed at {at} of {total} records, with {len(cut_off)} tasks")
    state = server.finished(run_id)
    wait_for(lambda: counts(server)["done"] == total, RUN_S, f"{total} records done")
    again = [
        task for task in server.tasks(run_id) if task["map_index"] in cut_off and task["task_id"] == "process" and task["try_number"] > 1
    ]
    expect(bool(again), "no task of the killed worker was tried again")
    expect(killed not in server.containers("worker"), "the killed worker runs")
    took_s = time.monotonic() - began
    tried = f"at {at} of {total} records with {len(cut_off)} tasks, of which {len(again)} were tried again"
    return f"{tried}; the run is {state} after {took_s:.0f} s; {done_once(server, total)}"


def up_with_metrics(server: Server, *, with_grafana: bool) -> str:
    server.set(SERVER_METRICS="True", COMPOSE_PROFILES="celery,metrics")
    # By name, because Compose contacts the registry even for the image of a service that is scaled to 0.
    services = [name for name in server.compose("config", "--services").split() if with_grafana or name != "grafana"]
    took_s = server.up(*services)
    version = dashboard.query(server, "status/buildinfo")["version"]
    grafana = "with" if with_grafana else "without"
    return f"{len(server.states())} containers healthy or through after {took_s:.0f} s, {grafana} Grafana; Prometheus {version}"


def metrics(server: Server, answers: Path) -> str:
    """Run twice: Prometheus counts the first value of a series as its start, not as an increase."""
    for _ in range(2):
        server.demo(RECORDS)
        server.sql(NOWHERE)
        state = server.finished(server.trigger(batch_size=100, chunk_size=20, fresh=True))
        expect(state == "success", f"the run is {state}")
        time.sleep(30)  # until Prometheus has scraped the last values
    left = server.sql("select count(*) from anomaly.records where status = 'quarantined' and last_error_code = 'image_not_found'").strip()
    expect(left == "10", f"{left} of 10 records without an image are quarantined")
    return f"{dashboard.filled(server, answers)}; {done_once(server, counts(server)['records'] - 10, quarantined=10)}"


def gone(server: Server) -> str:
    server.compose("--profile", "*", "down", "--volumes")
    label = f"label=com.docker.compose.project={PROJECT}"
    left = [
        *server.inspect("{{.Name}}"),
        *(line for kind in ("volume", "network") for line in succeeded(["docker", kind, "ls", "--quiet", "--filter", label]).split()),
    ]
    expect(not left, f"left: {left}")
    return "no container, volume or network is left"


# ── state


def counts(server: Server) -> dict[str, int]:
    return dict(json.loads(server.sql(COUNTS)))


def done_once(server: Server, records: int, *, quarantined: int = 0) -> str:
    """Expect this number of records done, each with one result, and none claimed."""
    right = dict.fromkeys(("done", "results", "committed", "flags"), records) | {
        "scored_twice": 0,
        "held": 0,
        "records": records + quarantined,
    }
    found = counts(server)
    expect(found == right, f"counted {found}, and not {right}")
    return f"{records} records done, {records} results, 0 lost, 0 scored twice"


def in_bucket(server: Server) -> dict[str, object]:
    found = dict(json.loads(server.execute("scheduler", "python", "-c", OBJECTS).splitlines()[-1]))
    expect(found["missing"] == 0 and int(found["named"]) > 0, f"results name objects that the bucket lacks: {found}")
    return found


if __name__ == "__main__":
    sys.exit(main())
