"""The command `airflow dags backfill`: creates a backfill and prints its runs."""

from __future__ import annotations

import difflib
import json
import logging
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, NoReturn

import structlog
from airflow.cli.commands.backfill_command import create_backfill
from airflow.configuration import conf
from airflow.exceptions import DagNotFound
from airflow.models import DagModel
from airflow.models.backfill import AlreadyRunningBackfill, Backfill, BackfillDagRun, InvalidBackfillConf
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk.exceptions import AirflowException
from airflow.utils.session import create_session
from sqlalchemy import select

from anomaly.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session


def run(args: Namespace) -> None:
    """Queue the runs, and print how many, over which intervals, and how to follow them.

    A request that is refused ends the program with one sentence and exit status 1, and queues nothing.
    """
    request = _request(args)
    if not args.verbose:  # Airflow would log two lines for each run
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    _create(request)
    if not args.dry_run:
        with create_session() as session:
            _print_summary(session, args.dag_id)


def _request(args: Namespace) -> Namespace:
    """Return the request as arguments of `airflow backfill create`."""
    start, end = args.start_date or args.end_date, args.end_date or args.start_date
    if start is None:
        _refuse("give the first interval's start with -s and the last one's with -e")
    if end < start:
        _refuse(f"the end {_day(end)} is before the start {_day(start)}")
    return Namespace(
        subcommand="create",
        dag_id=args.dag_id,
        from_date=start,
        to_date=end,
        dag_run_conf=_checked_conf(args.dag_id, args.conf),
        dry_run=args.dry_run,
        run_backwards=args.run_backwards,
        reprocess_behavior="completed" if args.reset_dagruns else "failed" if args.rerun_failed_tasks else None,
        max_active_runs=None,
        run_on_latest_version=None,
        verbose=args.verbose,
    )


def _checked_conf(dag_id: str, text: str | None) -> str | None:
    """Refuse a conf that is not an object, or has a param that the DAG does not have: Airflow would ignore it."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        _refuse("-c is nested too deeply")
    except ValueError as exc:
        _refuse(f"-c is no JSON: {exc}")
    if not isinstance(value, dict):
        _refuse("-c must be a JSON object, such as '{\"chunk_size\": 50}'")
    with create_session() as session:
        found = session.scalar(SerializedDagModel.latest_item_select_object(dag_id))  # type: ignore[no-untyped-call]  # Airflow's
        known = list(found.dag.params) if found else list(value)  # without the DAG, Airflow refuses the request
    if unknown := sorted(set(value) - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        _refuse(f"-c: there is no param {unknown[0]!r}; {hint}")
    return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _create(request: Namespace) -> None:
    try:
        create_backfill(request)
    except AlreadyRunningBackfill:
        with create_session() as session:
            _refuse(_already_running(session, request.dag_id))
    except DagNotFound:
        _refuse(f"there is no DAG {request.dag_id!r} in Airflow's database; `airflow dags list` shows those there are")
    except InvalidBackfillConf as exc:
        _refuse(f"-c does not fit the DAG's params: {str(exc).partition(chr(10))[0]}")
    except AirflowException as exc:  # its message is a sentence already
        _refuse(str(exc))


def _already_running(session: Session, dag_id: str) -> str:
    active = session.scalar(select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None)).limit(1))
    which = f" (number {active.id}, from {_day(active.from_date)} to {_day(active.to_date)})" if active else ""
    return f"a backfill of {dag_id} is already running{which}; wait for its end, or cancel it: {_page(dag_id)}"


def _print_summary(session: Session, dag_id: str) -> None:
    made = session.scalars(select(Backfill).where(Backfill.dag_id == dag_id).order_by(Backfill.id.desc()).limit(1)).one()
    parts = session.scalars(select(BackfillDagRun).where(BackfillDagRun.backfill_id == made.id).order_by(BackfillDagRun.logical_date)).all()
    queued = [part.dag_run for part in parts if part.dag_run]
    kept = [str(part.exception_reason) for part in parts if not part.dag_run]
    _say(f"backfill {made.id} of {dag_id}: {_count(queued)} queued{_span(queued)}")
    if kept:
        _say(f"left as they were: {_count(kept)} ({', '.join(sorted(set(kept)))})")
    if queued:
        _say(f"follow them: airflow dags list-runs {dag_id}, or {_page(dag_id)}")
        dag = session.get(DagModel, dag_id)
        if dag and dag.is_paused:
            _warn(f"{dag_id} is paused, so its runs stay queued until `airflow dags unpause {dag_id}`")


def _span(runs: Sequence[DagRun]) -> str:
    if not runs:
        return ""
    first, last = _interval(runs[0]), _interval(runs[-1])
    return f", for the interval {first}" if first == last else f", from the interval {first} to {last}"


def _interval(run: DagRun) -> str:
    return f"[{_day(run.data_interval_start)}, {_day(run.data_interval_end)})"


def _count(runs: Sequence[object]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def _day(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M%z") if moment else "?"


def _page(dag_id: str) -> str:
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{base}/dags/{dag_id}/backfills" + ("" if base else " in the Airflow UI")


def _say(sentence: str) -> None:
    sys.stdout.write(f"{escaped(sentence)}\n")


def _warn(sentence: str) -> None:
    sys.stderr.write(f"airflow dags backfill: warning: {escaped(sentence)}\n")


def _refuse(sentence: str) -> NoReturn:
    sys.exit(f"airflow dags backfill: {escaped(sentence)}")
