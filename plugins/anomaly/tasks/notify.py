"""Notifies people of what they want to learn about runs. A notification that fails is one warning, and never changes a task's end."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from anomaly import connections
from anomaly.errors import FailureRateExceeded, RunStopped
from anomaly.escaping import escaped
from anomaly.maintenance.doctor import usable_settings
from anomaly.notifications import notifier
from anomaly.notifications.message import (
    ANOMALIES_FOUND,
    FAILURE_RATE_EXCEEDED,
    RECORDS_OVERDUE,
    RUN_FAILED,
    Notification,
    wanted,
)
from anomaly.pipeline import runs
from anomaly.tasks.context import holder_of
from anomaly.tasks.links import page_link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from anomaly.db.maintenance import DueRecord


def anomalies_found(context: Context, body: dict[str, Any]) -> None:
    """Notify of the anomalies in a run's report, if there are any."""
    if found := body.get("anomalies"):
        committed = body["events"].get("committed", 0)
        text = f"{found} of {committed} records are anomalous"
        _send(context, ANOMALIES_FOUND, text, {"anomalies": found, "records": committed})


@contextlib.contextmanager
def of_failure() -> Iterator[None]:
    """Notify of a failed run if the task, which decides the state of its run, fails for good."""
    try:
        yield
    except Exception as exc:
        context = get_current_context()
        if isinstance(exc, RunStopped) or holder_of(context).last_try:
            kind = FAILURE_RATE_EXCEEDED if isinstance(exc, FailureRateExceeded) else RUN_FAILED
            _send(context, kind, f"the run failed: {exc}", {"error": escaped(str(exc))})
        raise


def records_overdue(context: Context, due: DueRecord, *, limit_s: float) -> None:
    """Notify of a due record that is older than *limit_s*."""
    text = f"record {due.record_id} is due and was captured {due.age_s:.0f} s ago, more than {limit_s:g} s"
    _send(context, RECORDS_OVERDUE, text, {"record_id": due.record_id, "age_s": round(due.age_s), "limit_s": limit_s})


def _send(context: Context, kind: str, text: str, data: dict[str, Any]) -> None:
    runs.optional("no notification", lambda: _sent(context, kind, text, data))


def _sent(context: Context, kind: str, text: str, data: dict[str, Any]) -> None:
    settings, _ = usable_settings(os.environ)  # wrong settings are a reason why runs fail
    if kind not in wanted(settings.notify_of):
        return
    run = {"dag_id": context["dag_run"].dag_id, "run_id": context["dag_run"].run_id}
    said = escaped(f"{run['dag_id']}, run {run['run_id']}: {text}")
    notification = Notification(
        type=kind, text=said, link=page_link() if kind == RECORDS_OVERDUE else page_link("/run", **run), data=run | data
    )
    runs.optional("no notification by the webhook", lambda: _by_webhook(notification))
    for each in notifier.from_setting(settings.notifiers):
        runs.optional("no notification", partial(each.send, notification, context))


def _by_webhook(notification: Notification) -> None:
    if webhook := connections.webhook():
        webhook.send(notification)
