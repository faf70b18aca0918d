"""The window of a run, by its type and params."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType  # what a task is given; it has no public name

from anomaly.errors import Misconfigured
from anomaly.models.runs import Window
from anomaly.tasks.context import requested_window, run_of

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
PARAMS = {
    "select": "pending",
    "batch_size": 10,
    "chunk_size": 10,
    "max_records": None,
    "fresh": False,
    "max_failure_rate": 1.0,
    "dry_run": False,
    "window_start": None,
    "window_end": "2026-06-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("run_type", "window"),
    [
        ("scheduled", Window(end=END)),
        ("backfill", Window(start=START, end=END)),
        ("manual", Window(end=datetime(2026, 6, 1, tzinfo=UTC))),
    ],
)
def test_a_run_takes_the_window_of_its_type(run_type: str, window: Window) -> None:
    dag_run = SimpleNamespace(
        dag_id="d", run_id="r", run_type=DagRunType(run_type), data_interval_start=START, data_interval_end=END, triggering_user_name=None
    )
    context: Any = {"dag_run": dag_run, "params": PARAMS}
    assert run_of(context).window == window


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2026-01-01", "window_start needs a time zone, such as 2026-01-01T00:00:00Z"),
        ("20260101", "window_start needs a time zone, such as 2026-01-01T00:00:00Z"),
        ("2026-01-01 12:30", "window_start needs a time zone, such as 2026-01-01T12:30:00Z"),
        ("2026-W01-1", "window_start needs a time zone, such as 2025-12-29T00:00:00Z"),
        ("yesterday", "window_start is not a time such as 2026-01-01T00:00:00Z: 'yesterday'"),
        ("infinity", "window_start is not a time such as 2026-01-01T00:00:00Z: 'infinity'"),
        ("2026-02-30", "window_start is not a time such as 2026-01-01T00:00:00Z: '2026-02-30'"),
    ],
)
def test_a_time_that_is_refused_is_answered_with_one_that_works(text: str, sentence: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        requested_window({"window_start": text, "window_end": None})
    assert str(raised.value) == sentence
    advised = sentence.removeprefix("window_start needs a time zone, such as ").partition(" such as ")[2] or sentence.rsplit(" ", 1)[1]
    assert requested_window({"window_start": advised.partition("Z")[0] + "Z", "window_end": None}).start
