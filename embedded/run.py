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

from anomaly import env_names, schedules
from anomaly.connection_trial import try_connections
from anomaly.errors import AnomalyError
from anomaly.escaping import escaped
from anomaly.settings import Settings
from embedded import disk, job, state, summary
from embedded.errors import AlreadyRunning, EmbeddedError
from embedded.plan import Plan
from embedded.process import ROOT
from embedded.progress import Progress
from embedded.stack import FIRST_RECORDS, Stack, stop_on_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedded.airflow import Airflow

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
        return _fail(str(exc), exc.exit_code, options)
    except AnomalyError as exc:
        return _fail(str(exc), REFUSED, options)
    except (psycopg.Error, requests.RequestException) as exc:
        return _fail(f"a service of the run no longer answers: {str(exc).strip().splitlines()[0]}", FAILED, options)
    except OSError as exc:
        return _fail(f"{exc.filename or options.state}: {exc.strerror or exc}", FAILED, options)
    finally:
        progress.clear()


def _fail(sentence: str, code: int, options: argparse.Namespace) -> int:
    full = disk.shortage(options.state)
    print(escaped(f"{sentence}; {full}" if full else sentence), file=sys.stderr)  # noqa: T201  # the output of a command
    return code


def _run_locked(options: argparse.Namespace, progress: Progress) -> int:
    """Check settings and connections, then run with a lock on the state folder."""
    env_names.check(os.environ)
    schedules.check(os.environ)
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
        airflow = stack.start(records=options.records, limited=options.max_records is not None or options.no_run)
        with progress.starting("the DAG"):
            job.wait_for_dag(airflow, since)
        succeeded = options.no_run or _run_dag(stack, airflow, options, progress)
        if not options.once:
            _wait_for_interrupt(stack, airflow, progress)
        return 0 if succeeded else FAILED


def _run_dag(stack: Stack, airflow: Airflow, options: argparse.Namespace, progress: Progress) -> bool:
    """Run the DAG and print what came of it; return whether it succeeded."""
    limit = options.max_records or FIRST_RECORDS if stack.limited.exists() else None
    run_id = job.trigger(airflow, max_records=limit)
    run_state = job.watch(stack, airflow, run_id, max_records=limit, progress=progress)
    if limit:
        job.set_paused(airflow, paused=True)
    page = f"{airflow.address}/dags/{job.DAG_ID}"
    for line in summary.summary_lines(summary.outcome(stack.dsn, stack.began), page=page):
        progress.print(line)
    if limit:
        progress.print(f"this start takes at most {limit} records; unpause the DAG on its page to process all that are due, as scheduled")
    if run_state != "success":
        reasons = [job.failure(airflow, run_id), summary.last_error(stack.dsn, stack.began), disk.shortage(stack.state)]
        progress.print(f"the run failed: {'; '.join(reason for reason in reasons if reason) or 'no task has logged an error'}")
        log_file = Path(Settings.from_environ(os.environ).log_file)
        progress.print(f"its tasks: {page}/runs/{run_id}; its log: {ROOT / log_file}")
    return run_state == "success"


def _wait_for_interrupt(stack: Stack, airflow: Airflow, progress: Progress) -> NoReturn:
    """Wait until a signal raises Interrupted. If the user unpauses the DAG meanwhile, give it its schedule.

    Raises:
        StartFailed: a service has ended by itself.
    """
    progress.print(f"Airflow keeps running until Ctrl-C: {airflow.address}/dags/{job.DAG_ID}")
    while True:
        stack.check()
        if stack.limited.exists() and not job.is_paused(airflow):
            stack.limited.unlink()
            airflow.schedule()
            progress.print("the DAG is unpaused and runs as scheduled")
        time.sleep(1)  # neither a service that dies nor an unpaused DAG sends an event


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/run", description="Start what is missing, run the DAG on all due records, print a summary.")
    parser.add_argument("--once", action="store_true", help="stop everything after the run instead of waiting for Ctrl-C")
    parser.add_argument(
        "--records", type=_count, default=RECORDS, metavar="N", help="demo records without a verdict when the run starts (200)"
    )
    parser.add_argument(
        "--max-records",
        type=_limit,
        metavar="N",
        help=f"most records of the run, after which the DAG is paused (on your own records {FIRST_RECORDS} until you unpause the DAG)",
    )
    parser.add_argument("--no-run", action="store_true", help="start everything but no run, with the DAG paused")
    parser.add_argument("--port", type=_port, default=PORT, metavar="P", help="port of Airflow's pages (8080)")
    parser.add_argument("--state", type=Path, default=STATE, metavar="FOLDER", help="folder for all data (.state)")
    parser.add_argument("--demo", action="store_true", help="add the demo's photos as records, also with connections of yours")
    parser.add_argument("--image", type=Path, metavar="FILE", help="image to try your detector with (a plain grey one)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
    return int(text)


def _limit(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be at least 1; use --no-run for none")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 65535, not {text!r}")
    return int(text)
