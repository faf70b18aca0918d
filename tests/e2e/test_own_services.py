"""`bin/run` on a database and a detector of the user: it takes a few records at first, says why a run failed, and stops as announced."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.db.schema import migrate
from embedded import connections
from embedded.stack import FIRST_RECORDS
from tests.dags.conftest import ANSWER, a_png
from tests.parts.bin_run import RUN_S, BinRun
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres

RECORDS = FIRST_RECORDS + 60
SLOW = Reply(body=ANSWER.body, content_type=ANSWER.content_type, headers_after_s=3)
DENIED = Reply(status=401, body=b'{"detail": "the key was revoked"}', content_type="application/json")

pytestmark = pytest.mark.timeout(4 * RUN_S)


class Own:
    """The user's services, and a `bin/run` that uses them."""

    def __init__(self, run: BinRun, stub: HttpStub, dsn: str) -> None:
        self.run, self.stub = run, stub
        self._dsn = dsn

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def statuses(self) -> dict[str, int]:
        return dict(self.rows("select status, count(*)::int from anomaly.records group by status"))

    def unpause(self) -> None:
        address = f"http://127.0.0.1:{self.run.port}"
        token = requests.get(f"{address}/auth/token", timeout=60).json()["access_token"]
        body, headers = {"is_paused": False}, {"Authorization": f"Bearer {token}"}
        requests.patch(f"{address}/api/v2/dags/anomaly_detection", json=body, headers=headers, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def own(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    postgres.ensure_database("theirs")
    dsn = postgres.dsn("theirs")
    migrate(dsn)
    folder = tmp_path_factory.mktemp("own")
    with HttpStub() as stub, psycopg.connect(dsn, autocommit=True) as sql:
        for number in range(RECORDS):
            url = stub.at(f"/image/{number}", Reply(body=a_png(number), content_type="image/png"))
            sql.execute("insert into anomaly.records (image_url, captured_at) values (%s, now() - interval '1 h')", [url])
        stub.at("/detect", ANSWER)
        extra = {"dialect": "generic", "path": "/detect"}
        variables = {
            DB: dsn,
            DETECTOR: json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": stub.port, "extra": extra}),
            IMAGES: connections.to_images(stub.url("").rstrip("/")),
            "ANOMALY_LOG_FILE": str(folder / "anomaly_detection.log"),
        }
        yield Own(BinRun(folder, **variables), stub, dsn)


def test_a_user_gets_a_few_verdicts_first_then_all_that_is_due_and_a_reason_for_what_fails(own: Own) -> None:
    # The first start takes a stated number of records.
    assert own.run.start("--once").wait(RUN_S) == 0, own.run.said()
    said = own.run.said()
    assert f"embedded: s3, because {S3} is not set" in said
    assert f"{DETECTOR}: the detector was asked and answered with a score of 0.25" in said
    assert f"records: {FIRST_RECORDS} done, {RECORDS - FIRST_RECORDS} pending" in said
    assert f"this start takes at most {FIRST_RECORDS} records; unpause the DAG" in said
    assert own.statuses() == {"done": FIRST_RECORDS, "pending": RECORDS - FIRST_RECORDS}

    # Once the DAG is unpaused, its schedule takes the others; a stop announces what it waits for.
    second = own.run.start("--no-run")
    own.run.wait_for("keeps running until Ctrl-C", second)
    assert own.statuses()["done"] == FIRST_RECORDS
    own.stub.at("/detect", SLOW)
    own.unpause()
    own.run.wait_for("the DAG is unpaused and runs as scheduled", second)
    deadline = time.monotonic() + RUN_S
    while "claimed" not in own.statuses():
        assert time.monotonic() < deadline, own.run.said()
        time.sleep(0.3)  # the scheduler sends no event
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 130, own.run.said()
    assert re.search(r"stopping: \d+ records in work have \d+ s to get their answers committed; the rest stays due", own.run.said())

    # A failed run names the detector's own words, in the terminal and in the log.
    own.stub.at("/detect", ANSWER, DENIED)
    assert own.run.start("--once").wait(RUN_S) == 1, own.run.said()
    assert re.search(r"the run failed: .*the key was revoked", own.run.said())
    log = (own.run.state / "anomaly_detection.log").read_text()
    assert re.search(r"ERROR .*task failed DetectorDenied: .*the key was revoked", log)

    # The next start works as if nothing had happened.
    own.stub.at("/detect", ANSWER)
    assert own.run.start("--once").wait(RUN_S) == 0, own.run.said()
    assert own.statuses() == {"done": RECORDS}
    assert own.rows("select count(*)::int, count(distinct record_id)::int from anomaly.ai_results") == [(RECORDS, RECORDS)]
    assert own.run.processes() == []
