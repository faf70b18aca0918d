"""The command `bin/run`: start what is missing, run the DAG, print a summary."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psycopg
import requests
from filelock import FileLock, Timeout

from anomaly import env_names
from anomaly.connection_trial import try_connections
from anomaly.errors import AnomalyError
from anomaly.escaping import escaped
from anomaly.settings import Settings
from embedded import job, state, summary
from embedded.errors import AlreadyRunning, EmbeddedError, StartFailed
from embedded.plan import Plan
from embedded.process import ROOT
from embedded.progress import Progress
from embedded.stack import Stack, stop_on_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = ROOT / ".state"
RECORDS = 200
PORT = 8080
FAILED, REFUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    progress = Progress()
    try:
        return _run_locked(options, progress)
    except EmbeddedError as exc:
        return _fail(exc, exc.exit_code)
    except AnomalyError as exc:
        return _fail(exc, REFUSED)
    except (psycopg.Error, requests.RequestException) as exc:
        return _fail(StartFailed(f"a service of the run no longer answers: {str(exc).strip().splitlines()[0]}"), FAILED)
    finally:
        progress.clear()


def _fail(exc: Exception, code: int) -> int:
    print(escaped(str(exc)), file=sys.stderr)  # noqa: T201  # the output of a command
    return code


def _run_locked(options: argparse.Namespace, progress: Progress) -> int:
    """Check settings and connections, then run with a lock on the state folder."""
    env_names.check(os.environ)
    settings = Settings.from_environ(os.environ)
    plan = Plan.of(os.environ, demo=options.demo)
    tried = list(try_connections(os.environ, settings, image=options.image))
    options.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(options.state / "run.lock")
    try:
        with lock.acquire(timeout=0):
            return _run(options, plan, tried, progress)
    except Timeout:
        raise AlreadyRunning("another bin/run uses this folder; stop it first") from None


def _run(options: argparse.Namespace, plan: Plan, tried: Sequence[str], progress: Progress) -> int:
    stack = Stack(options.state.resolve(), port=options.port, plan=plan, progress=progress)
    stack.stop_leftovers()
    state.require_free(options.port)
    since = datetime.now(UTC)
    for line in [*plan.lines(os.environ), *tried]:
        progress.print(line)
    with stop_on_exit(stack):
        airflow = stack.start(records=options.records)
        with progress.starting("the DAG"):
            job.wait_for_dag(airflow, since)
        run_id = job.trigger(airflow)
        run_state = job.watch(stack, airflow, run_id, progress=progress)
        page = f"{airflow.address}/dags/{job.DAG_ID}"
        for line in summary.summary_lines(summary.outcome(stack.dsn, stack.began), page=page):
            progress.print(line)
        if run_state != "success":
            progress.print(f"the run failed; see {page}/runs/{run_id} and {ROOT / 'logs' / 'anomaly_detection.log'}")
        if not options.once:
            _wait_for_interrupt(stack, progress)
        return 0 if run_state == "success" else FAILED


def _wait_for_interrupt(stack: Stack, progress: Progress) -> NoReturn:
    """Wait until a signal raises Interrupted.

    Raises:
        StartFailed: a service has ended by itself.
    """
    progress.print("Airflow keeps running until Ctrl-C")
    while True:
        stack.check()
        time.sleep(1)  # between two checks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/run", description="Start what is missing, run the DAG on all due records, print a summary.")
    parser.add_argument("--once", action="store_true", help="stop everything after the run instead of waiting for Ctrl-C")
    parser.add_argument(
        "--records", type=_count, default=RECORDS, metavar="N", help="demo records without a verdict when the run starts (200)"
    )
    parser.add_argument("--port", type=_port, default=PORT, metavar="P", help="port of Airflow's pages (8080)")
    parser.add_argument("--state", type=Path, default=STATE, metavar="FOLDER", help="folder for all data (.state)")
    parser.add_argument("--demo", action="store_true", help="add the demo's photos as records, also with connections of yours")
    parser.add_argument("--image", type=Path, metavar="FILE", help="image to try your detector with (a plain grey one)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 65535, not {text!r}")
    return int(text)
