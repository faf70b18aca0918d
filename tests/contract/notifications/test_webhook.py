"""The webhook: signed requests, retries within a deadline, and failures that show no secret."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook as Receiver

from anomaly.errors import Misconfigured
from anomaly.notifications.message import ANOMALIES_FOUND, Notification, NotSent
from anomaly.notifications.webhook import Webhook
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
PATH = "/services/a-secret-path"
OF_RUN = Notification(
    type=ANOMALIES_FOUND, text="3 of 9 records are anomalous", link="https://airflow.example/dags/d/runs/r", data={"anomalies": 3}
)


@pytest.fixture
def stub() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        yield stub


class Clock:
    """A clock that only waits move on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def sent_to(stub: HttpStub, *replies: Reply, **options: Any) -> Clock:
    clock = Clock()
    Webhook(stub.at(PATH, *replies), SECRET, clock=clock, sleep=clock.sleep, **options).send(OF_RUN)
    return clock


def test_a_receiver_can_verify_the_signature_with_the_library_of_the_standard(stub: HttpStub) -> None:
    assert sent_to(stub, Reply(status=204)).waits == []
    [seen] = stub.asked(PATH)
    body = Receiver(SECRET).verify(seen.body, dict(seen.headers))
    assert body["type"] == "anomalies.found"
    assert body["data"] == {"text": OF_RUN.text, "link": OF_RUN.link, "anomalies": 3}
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=429), Reply(reset=True), Reply(raw=b"no http\r\n\r\n")])
def test_a_temporary_failure_is_tried_again_with_the_same_id_and_doubling_waits(stub: HttpStub, reply: Reply) -> None:
    clock = sent_to(stub, reply, reply, Reply())
    assert [round(wait, 1) for wait in clock.waits] == [pytest.approx(1, abs=0.11), pytest.approx(2, abs=0.21)]
    assert len({seen.headers["webhook-id"] for seen in stub.asked(PATH)}) == 1
    for seen in stub.asked(PATH):
        Receiver(SECRET).verify(seen.body, dict(seen.headers))


def test_the_wait_that_a_receiver_asks_for_is_kept(stub: HttpStub) -> None:
    [wait] = sent_to(stub, Reply(status=503, headers={"Retry-After": "7"}), Reply()).waits
    assert 7 <= wait <= 7.7


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 410])
def test_what_no_repetition_mends_is_sent_once_and_no_redirect_is_followed(stub: HttpStub, status: int) -> None:
    elsewhere = stub.at("/elsewhere", Reply())
    with pytest.raises(NotSent, match=f"^127.0.0.1:{stub.port} answers {status}.*, in 1 try$"):
        sent_to(stub, Reply(status=status, headers={"Location": elsewhere}))
    assert [len(stub.asked(path)) for path in (PATH, "/elsewhere")] == [1, 0]


def test_tries_end_with_the_deadline(stub: HttpStub) -> None:
    with pytest.raises(NotSent, match=r"answers 500, in 6 tries$"):
        sent_to(stub, Reply(status=500))  # after 0, 1, 3, 7, 15 and 23 s


def test_a_longer_wait_than_the_deadline_is_not_begun(stub: HttpStub) -> None:
    with pytest.raises(NotSent, match=r"answers 503, in 1 try$"):
        sent_to(stub, Reply(status=503, headers={"Retry-After": "60"}))


@pytest.mark.parametrize("reply", [Reply(headers_after_s=60), Reply(trickle_s=0.05, trickled="headers", headers={"X": "y" * 5000})])
def test_a_receiver_that_hangs_or_trickles_is_left_in_time(stub: HttpStub, reply: Reply) -> None:
    began = time.monotonic()
    with pytest.raises(NotSent, match="does not answer"):
        Webhook(stub.at(PATH, reply), SECRET, timeout_s=0.2, deadline_s=0.0).send(OF_RUN)
    assert time.monotonic() - began < 20


def test_a_receiver_that_is_down_is_named_without_its_path(stub: HttpStub) -> None:
    url = stub.url(PATH)
    stub.__exit__()
    with pytest.raises(NotSent) as failed:
        Webhook(url, SECRET, deadline_s=0.0).send(OF_RUN)
    assert str(failed.value) == f"127.0.0.1:{stub.port} does not answer (NewConnectionError), in 1 try"
    stub.__enter__()


def test_equal_facts_have_one_id_and_others_another() -> None:
    other = Notification(type=OF_RUN.type, text=OF_RUN.text, link=OF_RUN.link, data={"anomalies": 4})
    assert OF_RUN.id == Notification(type=OF_RUN.type, text="reworded", link=OF_RUN.link, data={"anomalies": 3}).id
    assert OF_RUN.id != other.id


@pytest.mark.parametrize("secret", ["", "whsec_", "a password", "whsec_" + base64.b64encode(b"short").decode(), json.dumps({})])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(Misconfigured, match=r"^the secret of the webhook must be whsec_ and at least 24 random bytes in base64$"):
        Webhook("https://hooks.example/in", secret)


@pytest.mark.parametrize("url", ["", "hooks.example", "https://", "ftp:///x", "https://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^the address of the webhook is not a valid http or https address$"):
        Webhook(url, SECRET)
