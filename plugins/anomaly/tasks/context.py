"""Reads runs, windows and holders from the context that Airflow gives to a task."""

from __future__ import annotations

import contextlib
import difflib
import gc
import logging
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from anomaly import logs
from anomaly.errors import AnomalyError, Misconfigured
from anomaly.escaping import escape_chain
from anomaly.models.runs import Holder, Run, Window
from anomaly.pipeline import runs
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

log = logging.getLogger(__name__)


@contextlib.contextmanager
def printable_errors() -> Iterator[None]:
    """Log the error that ends a task, and escape its texts: Airflow writes it to the task's log with all its causes."""
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as exc:
        escape_chain(exc)
        # The text of a foreign error may quote what no log may contain.
        log.error("task failed %s%s", type(exc).__name__, f": {exc}" if isinstance(exc, AnomalyError) else "")  # noqa: TRY400  # as above
        raise


def begin_task() -> tuple[Settings, Context]:
    """Read the settings, set up logging, and return the settings with the context of the task.

    Raises:
        Misconfigured: a setting is wrong, or the run's conf has an unknown param.
    """
    gc.freeze()  # a full collection walks all that Airflow has imported, and stops every thread for a quarter of a second
    settings = Settings.from_environ(os.environ)
    logs.configure(settings)
    return settings, checked_context()


def checked_context() -> Context:
    """Return the context of the task.

    Raises:
        Misconfigured: the run's conf has a param that its DAG does not have. Airflow would ignore it.
    """
    context = get_current_context()
    known = list(context["dag"].params)
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise Misconfigured(f"there is no param {unknown[0]!r}; {hint}")
    return context


def run_of(context: Context) -> Run:
    """Return the run that a task belongs to.

    Raises:
        Misconfigured: a param is wrong.
    """
    dag_run, params = context["dag_run"], context["params"]
    run = Run(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        window=_window(context),
        select=params["select"],
        max_records=params["max_records"],
        fresh=params["fresh"],
        max_failure_rate=params["max_failure_rate"],
        dry_run=params["dry_run"],
        requested_by=actor_of(context),
    )
    runs.check(run.window)
    return run


def _window(context: Context) -> Window:
    dag_run = context["dag_run"]
    match dag_run.run_type:  # an enum that equals its value; its str() depends on where it comes from
        case "scheduled":
            return Window(end=dag_run.data_interval_end)
        case "backfill":
            return Window(start=dag_run.data_interval_start, end=dag_run.data_interval_end)
        case _:
            return requested_window(context["params"])


def requested_window(params: Any) -> Window:
    """Return the window that the params state.

    Raises:
        Misconfigured: a time cannot be read, or has no time zone.
    """
    return Window(start=_time(params, "window_start"), end=_time(params, "window_end"))


def _time(params: Any, name: str) -> datetime | None:
    if not (text := params[name]):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Misconfigured(f"{name} is not a time such as 2026-01-01T00:00:00Z: {text!r}") from exc
    if at.tzinfo is None:
        raise Misconfigured(f"{name} needs a time zone, such as {at.isoformat()}Z")
    return at


def holder_of(context: Context) -> Holder:
    """Return this try of this mapped task."""
    ti = context["ti"]
    return Holder(map_index=ti.map_index or 0, try_number=ti.try_number, last_try=ti.try_number > ti.max_tries)


def actor_of(context: Context) -> str:
    """Return the name of the user who triggered the run, or `airflow`."""
    return getattr(context["dag_run"], "triggering_user_name", None) or "airflow"


def is_dry_run(context: Context) -> bool:
    """Return whether a maintenance run only counts: as its param states, and never if it is scheduled, since nobody fills in its form."""
    dry_run: bool = context["params"]["dry_run"] and context["dag_run"].run_type != "scheduled"
    return dry_run
