"""The main job, from a clone to verdicts: what `bin/run` does."""

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

from anomaly import connection_env
from anomaly.errors import AnomalyError
from anomaly.settings import Settings
from embedded import job, state, summary
from embedded.errors import AlreadyRunning, EmbeddedError, StartFailed
from embedded.process import ROOT
from embedded.progress import Screen
from embedded.stack import Stack, stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = ROOT / ".state"
RECORDS = 200
PORT = 8080
FAILED, REFUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    given = _options().parse_args(argv)
    screen = Screen()
    try:
        return _alone(given, screen)
    except EmbeddedError as exc:
        return _refuse(exc, exc.exit_code)
    except AnomalyError as exc:
        return _refuse(exc, REFUSED)
    except (psycopg.Error, requests.RequestException) as exc:
        return _refuse(StartFailed(f"a service that the run needs has gone: {str(exc).strip().splitlines()[0]}"), FAILED)
    finally:
        screen.clear()


def _refuse(exc: Exception, code: int) -> int:
    print(exc, file=sys.stderr)  # noqa: T201  # a command speaks to its terminal
    return code


def _alone(given: argparse.Namespace, screen: Screen) -> int:
    """Check what was given, then make sure that only one at a time works on the folder of state."""
    Settings.from_environ(os.environ)
    connection_env.check(os.environ)
    given.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(given.state / "run.lock")
    try:
        with lock.acquire(timeout=0):
            return _run(given, screen)
    except Timeout:
        raise AlreadyRunning("bin/run is at work in this folder already; end that one first") from None


def _run(given: argparse.Namespace, screen: Screen) -> int:
    stack = Stack(given.state.resolve(), port=given.port, with_demo=given.demo, screen=screen)
    stack.end_leftovers()
    state.asked_port(given.port)
    since = datetime.now(UTC)
    with stopping(stack):
        airflow = stack.start(records=given.records)
        with screen.step("the DAG"):
            job.await_dag(airflow, since)
        run_id = job.trigger(airflow)
        run_state = job.watch(stack, airflow, run_id, screen=screen)
        page = f"{airflow.address}/dags/{job.DAG_ID}"
        for line in summary.lines(summary.outcome(stack.dsn, stack.began), page=page):
            screen.say(line)
        if run_state != "success":
            screen.say(f"the run failed: see {page}/runs/{run_id} and {ROOT / 'logs' / 'anomaly_detection.log'}")
        if not given.once:
            _stay(stack, screen)
        return 0 if run_state == "success" else FAILED


def _stay(stack: Stack, screen: Screen) -> NoReturn:
    """Until somebody interrupts us.

    Raises:
        StartFailed: a part has ended by itself.
    """
    screen.say("Airflow stays up until Ctrl-C")
    while True:
        stack.check()
        time.sleep(1)  # there is nothing to do but to see that all parts live


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="bin/run", description="Start what is missing, run the DAG over what is due, and say what came of it."
    )
    options.add_argument("--once", action="store_true", help="stop everything after the run, instead of staying up until Ctrl-C")
    options.add_argument("--records", type=_count, default=RECORDS, metavar="N", help="demo records that wait when the run starts (200)")
    options.add_argument("--port", type=_port, default=PORT, metavar="P", help="of Airflow's pages (8080)")
    options.add_argument("--state", type=Path, default=STATE, metavar="FOLDER", help="where everything is kept (.state)")
    options.add_argument("--demo", action="store_true", help="enqueue demo records even into a database of yours")
    return options


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number is needed, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)
