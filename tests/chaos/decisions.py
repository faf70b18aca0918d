"""Decisions of a browser whose server is killed at random moments: each is written once, in the order in which they were made."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

import httpx
from psycopg.conninfo import conninfo_to_dict

from tests.parts.record_builders import RecordsDb, an_answer

if TYPE_CHECKING:
    from types import TracebackType

RECORDS = 100
PART_MAX = 20
"""Most decisions in one request."""
KILL_WITHIN_S = 0.05
TIMEOUT_S = 120.0


class Server:
    """The page in a process of its own, on one port for its whole life and those of its successors."""

    def __init__(self, dsn: str) -> None:
        to = conninfo_to_dict(dsn)
        login = {"host": to["host"], "port": int(str(to["port"])), "login": to["user"], "password": to["password"]}
        connection = {"conn_type": "postgres", "schema": to["dbname"], **login}
        self._env = {**os.environ, "AIRFLOW_CONN_ANOMALY_DB": json.dumps(connection)}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kills = 0
        self._process = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.close()

    def kill_within(self, seconds: float) -> threading.Timer:
        """Kill the process after a while, and start the next one."""
        timer = threading.Timer(seconds, self._replace)
        timer.start()
        return timer

    def _replace(self) -> None:
        self._process.kill()
        self._process.wait()
        self.kills += 1
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        fd = self._listener.fileno()
        return subprocess.Popen([sys.executable, "-m", "tests.chaos.page_process", str(fd)], env=self._env, pass_fds=[fd])  # noqa: S603  # ours


@dataclass(frozen=True)
class Played:
    """What came of it."""

    decisions: int
    kills: int
    repeated: int
    """Requests that were sent again, since their answer was lost."""
    lost: int
    twice: int


def play(dsn: str, *, decisions: int, seed: int, kill_share: float) -> Played:
    """Send decisions as the page's script does: from an outbox, in order, until the server has answered.

    Around a share of the requests the server is killed.
    """
    rng = Random(seed)
    with RecordsDb(dsn) as db:
        claims = db.claims(RECORDS)
        for claim in claims:
            db.commit(claim, an_answer())
        made = _made(rng, [(claim.record_id, claim.token) for claim in claims], decisions)
        with Server(dsn) as server, httpx.Client(base_url=server.url, timeout=TIMEOUT_S, headers={"Origin": server.url}) as client:
            repeated = _send(server, client, rng, list(made), kill_share)
            kills = server.kills
        return _checked(db, made, kills=kills, repeated=repeated)


def _made(rng: Random, records: list[tuple[int, int]], count: int) -> list[dict[str, Any]]:
    """Return decisions about random records; one in ten takes back an earlier one."""
    made: list[dict[str, Any]] = []
    standing: list[dict[str, Any]] = []
    for _ in range(count):
        decision: dict[str, Any] = {"id": str(uuid.UUID(int=rng.getrandbits(128), version=4))}
        if standing and rng.random() < 0.1:
            back = standing.pop(rng.randrange(len(standing)))
            decision |= {"record_id": back["record_id"], "token": back["token"], "takes_back": back["id"]}
        else:
            record_id, token = rng.choice(records)
            decision |= {"record_id": record_id, "token": token, "verdict": rng.choice(("anomaly", "normal", "unsure"))}
            standing.append(decision)
        made.append(decision)
    return made


def _send(server: Server, client: httpx.Client, rng: Random, outbox: list[dict[str, Any]], kill_share: float) -> int:
    repeated = 0
    while outbox:
        part = outbox[: rng.randint(1, PART_MAX)]
        timer = server.kill_within(rng.uniform(0, KILL_WITHIN_S)) if rng.random() < kill_share else None
        with contextlib.suppress(httpx.TransportError):
            answer = client.post("/decisions", json={"decisions": part})
            assert answer.status_code == httpx.codes.OK, answer.text
            assert all(each["written"] for each in answer.json()["decisions"])
            del outbox[: len(part)]
            part = []
        repeated += bool(part)
        if timer:
            timer.join()
    return repeated


def _checked(db: RecordsDb, made: list[dict[str, Any]], *, kills: int, repeated: int) -> Played:
    """Compare the tables with what was decided, and the flags with what then counts."""
    written = [str(row["id"]) for row in db.rows("select id from anomaly.reviews order by number")]
    logged = db.rows("select count(*) as n from anomaly.processing_log where event in ('reviewed', 'review_undone')")[0]["n"]
    assert written == [each["id"] for each in made]
    assert logged == len(made)
    taken_back = {each.get("takes_back") for each in made}
    counts = {each["record_id"]: each["verdict"] for each in made if "verdict" in each and each["id"] not in taken_back}
    flags = db.rows("select record_id, review, needs_review from anomaly.ai_flags")
    assert {row["record_id"]: row["review"] for row in flags} == {row["record_id"]: counts.get(row["record_id"]) for row in flags}
    assert all(row["needs_review"] == (row["review"] is None) for row in flags)
    lost, twice = len({each["id"] for each in made} - set(written)), len(written) - len(set(written))
    return Played(decisions=len(made), kills=kills, repeated=repeated, lost=lost, twice=twice)
