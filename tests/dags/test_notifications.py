"""Notifications of real runs: by the signed webhook, and by a notifier of an Airflow provider."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook as Receiver

from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ANOMALOUS = Reply(body=b'{"score": 0.9, "is_anomaly": true}', content_type="application/json")
NOTIFIER = "airflow.providers.http.notifications.http.HttpNotifier"
MAINTENANCE = """
import __main__
__main__.dag = __main__.bag.dags["anomaly_maintenance"]
"""


def hook(world: World, *replies: Reply) -> dict[str, str]:
    """A webhook that answers so, as a connection."""
    url = world.stub.at("/hook", *replies)
    return {"AIRFLOW_CONN_ANOMALY_WEBHOOK": json.dumps({"conn_type": "http", "host": url, "password": SECRET})}


def chat(world: World, *replies: Reply, text: str = "{{ anomaly.text }} {{ anomaly.link }}") -> dict[str, str]:
    """A chat that answers so, as a connection of Airflow's HTTP provider, and the setting that names its notifier."""
    world.stub.at("/chat", *replies)
    arguments = {"http_conn_id": "chat", "endpoint": "chat", "json": {"text": text}}
    return {
        "AIRFLOW_CONN_CHAT": json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": world.stub.port}),
        "ANOMALY_NOTIFIERS": json.dumps({NOTIFIER: arguments}),
    }


def received(world: World) -> list[dict[str, Any]]:
    """What the webhook received, verified as a receiver does."""
    return [Receiver(SECRET).verify(seen.body, dict(seen.headers)) for seen in world.stub.asked("/hook")]


def test_the_anomalies_of_a_run_are_one_notification_with_a_link_to_the_run(world: World) -> None:
    world.detector(ANOMALOUS)
    world.add(3)
    ended = world.run(env=hook(world, Reply()) | chat(world, Reply()) | {"AIRFLOW__API__BASE_URL": "https://airflow.example"})
    assert ended.state == "success"
    [sent] = received(world)
    link = sent["data"].pop("link")
    assert link.startswith("https://airflow.example/plugin/anomaly/anomaly/run?dag_id=anomaly_detection&run_id=manual__")
    text = f"anomaly_detection, run {ended.run_id}: 3 of 3 records are anomalous"
    expected = {"dag_id": "anomaly_detection", "run_id": ended.run_id, "text": text, "anomalies": 3, "records": 3}
    assert (sent["type"], sent["data"]) == ("anomalies.found", expected)
    [told] = world.stub.asked("/chat")
    assert json.loads(told.body) == {"text": f"{text} {link}"}


def test_a_run_without_anomalies_and_an_event_that_is_not_wanted_notify_nobody(world: World) -> None:
    world.add(2)
    assert world.run(env=hook(world, Reply())).state == "success"
    world.detector(ANOMALOUS)
    world.add(2)
    assert world.run(env=hook(world, Reply()) | {"ANOMALY_NOTIFY_OF": "run.failed,records.overdue"}).state == "success"
    assert received(world) == []


def test_a_red_run_notifies_with_the_reason_also_where_a_setting_is_wrong(world: World) -> None:
    world.add(1)
    assert world.run(env=hook(world, Reply()) | {"ANOMALY_LEASE_S": "soon"}).state == "failed"
    assert world.run(env=hook(world, Reply()), window_start="2026-01-02T00:00:00Z", window_end="2026-01-01T00:00:00Z").state == "failed"
    assert [(sent["type"], sent["data"]["error"]) for sent in received(world)] == [
        ("run.failed", "ANOMALY_LEASE_S must be a number, not 'soon'"),
        ("run.failed", "the window ends (2026-01-01T00:00:00+00:00) before it starts (2026-01-02T00:00:00+00:00)"),
    ]


def test_a_failure_rate_that_is_exceeded_has_a_notification_of_its_own(world: World) -> None:
    world.add(1)
    world.add_one(Reply(status=404))
    assert world.run(env=hook(world, Reply()), max_failure_rate=0.4).state == "failed"
    [sent] = received(world)
    assert sent["type"] == "run.failure_rate_exceeded"
    assert sent["data"]["error"] == "1 of 2 records failed, more than max_failure_rate=0.4 allows"


def test_a_record_that_is_overdue_is_notified_of_and_not_in_a_dry_run(world: World) -> None:
    record_id = world.add_one(Reply())
    env = hook(world, Reply()) | {"ANOMALY_ALERT_DUE_AGE_S": "1800"}
    assert world.run(before=MAINTENANCE, env=env, tasks=["alert"]).state == "success"
    assert received(world) == []
    assert world.run(before=MAINTENANCE, env=env, tasks=["alert"], dry_run=False).state == "failed"
    [sent] = received(world)
    assert (sent["type"], sent["data"]["record_id"], sent["data"]["limit_s"]) == ("records.overdue", record_id, 1800)


@pytest.mark.parametrize(
    ("wrong", "warning"),
    [
        ({"AIRFLOW_CONN_ANOMALY_WEBHOOK": "https://hooks.example"}, "by the webhook: the secret of the webhook must be whsec_ and"),
        ({"ANOMALY_NOTIFIERS": '{"no.such.Notifier": {}}'}, "no notification: ANOMALY_NOTIFIERS: no.such.Notifier cannot be imported"),
        ({"ANOMALY_NOTIFY_OF": "anomalies"}, "no notification: ANOMALY_NOTIFY_OF: there is no 'anomalies'; there are anomalies.found, "),
    ],
)
def test_a_wrong_setting_of_notifications_is_one_warning_and_the_run_succeeds(world: World, wrong: dict[str, str], warning: str) -> None:
    world.detector(ANOMALOUS)
    world.add(1)
    ended = world.run(env=wrong)
    assert (ended.state, world.statuses()) == ("success", {"done": 1})
    assert [line for line in world.log().splitlines() if "WARNING" in line and warning in line]
    assert sum("WARNING" in line for line in world.log().splitlines()) == 1


def test_a_notifier_that_fails_is_one_warning_and_the_other_is_sent(world: World) -> None:
    world.detector(ANOMALOUS)
    world.add(1)
    ended = world.run(env=hook(world, Reply(status=400)) | chat(world, Reply(), text="{{ anomaly.data.anomalies }}"))
    assert ended.state == "success"
    assert f"no notification by the webhook: 127.0.0.1:{world.stub.port} answers 400, in 1 try" in world.log()
    assert [json.loads(seen.body) for seen in world.stub.asked("/chat")] == [{"text": "1"}]

    world.add(1)
    ended = world.run(env=hook(world, Reply()) | chat(world, Reply(status=500)))
    assert ended.state == "success"
    assert f"no notification: {NOTIFIER}: " in world.log()
    assert len(world.stub.asked("/hook")) == 2
