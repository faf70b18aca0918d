"""Notifiers that a setting names by their import path."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from jinja2 import StrictUndefined, Template

from anomaly.errors import Misconfigured
from anomaly.notifications.message import RUN_FAILED, Notification, NotSent
from anomaly.notifications.notifier import Notifier, from_setting

OF_RUN = Notification(type=RUN_FAILED, text="the run failed", link="https://airflow.example/dags/d/runs/r", data={})


def test_a_notifier_gets_its_arguments_and_a_context_with_the_notification() -> None:
    got: list[Any] = []
    Notifier("a.b.C", lambda to: lambda context: got.append((to, context)), {"to": "me"}).send(OF_RUN, {"run_id": "r"})
    assert got == [("me", {"run_id": "r", "anomaly": OF_RUN})]


def test_one_that_fails_or_cannot_be_made_is_named_with_its_error() -> None:
    def failing(_context: Any) -> None:
        raise ConnectionError("no answer from /services/a-secret-path")

    with pytest.raises(NotSent, match=r"^a\.b\.C: ConnectionError$"):
        Notifier("a.b.C", lambda: failing, {}).send(OF_RUN, {})
    with pytest.raises(NotSent, match=r"^a\.b\.C: UndefinedError: 'anomal' is undefined$"):
        Notifier("a.b.C", lambda: Template("{{ anomal.text }}", undefined=StrictUndefined).render, {}).send(OF_RUN, {})
    with pytest.raises(NotSent, match=r"^a\.b\.C: TypeError: .*unexpected keyword argument 'to'"):
        Notifier("a.b.C", lambda: failing, {"to": "me"}).send(OF_RUN, {})


def test_one_that_hangs_is_left_to_itself() -> None:
    released = threading.Event()
    with pytest.raises(NotSent, match=r"^a\.b\.C has not returned within 0\.01 s$"):
        Notifier("a.b.C", lambda: lambda _: released.wait(60), {}).send(OF_RUN, {}, deadline_s=0.01)
    released.set()


def test_a_setting_names_any_number_of_them() -> None:
    assert from_setting("") == []
    [one, two] = from_setting('{"json.dumps": {}, "collections.OrderedDict": {"a": 1}}')
    assert (one.path, two.path, two.arguments) == ("json.dumps", "collections.OrderedDict", {"a": 1})


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("smtp", "must be a JSON object of import paths and their arguments"),
        ('["json.dumps"]', "must be a JSON object of import paths and their arguments"),
        ('{"json.dumps": "me"}', "must be a JSON object of import paths and their arguments"),
        ('{"no.such.module": {}}', "no.such.module cannot be imported: No module named 'no'"),
        ('{"json.scanner.NUMBER_RE": {}}', "json.scanner.NUMBER_RE is not a notifier"),
        ('{"": {}}', " cannot be imported"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(setting: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match="ANOMALY_NOTIFIERS") as refused:
        from_setting(setting)
    assert sentence in str(refused.value)
