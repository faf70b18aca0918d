"""The page in a real api-server, with the rights of Airflow's auth manager."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from anomaly.tasks.links import PREFIX
from tests.integration.page.conftest import environment
from tests.integration.page.test_app import paths
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres
    from embedded.s3 import S3

ROOT = Path(__file__).resolve().parents[3]
START_S = 100
PASSWORD = "only-on-this-machine"  # noqa: S105  # of users that exist for a test
USERS = {"nobody": "", "viewer": "viewer", "inspector": "user"}
"""Roles of Airflow's simple auth manager by name."""


class Airflow:
    """An api-server with the plugin."""

    def __init__(self, url: str, database: str) -> None:
        self.url, self.database = url, database
        self._tokens: dict[str, str] = {}

    def client(self, user: str | None) -> httpx.Client:
        """Return a client that has logged in as a browser has: with a cookie."""
        cookies = {"_token": self._token(user)} if user else {}
        return httpx.Client(base_url=self.url, cookies=cookies, headers={"Origin": self.url}, timeout=60)

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            answer = httpx.post(f"{self.url}/auth/token", json={"username": user, "password": PASSWORD}, timeout=60)
            assert answer.status_code == HTTPStatus.CREATED, answer.text
            self._tokens[user] = answer.json()["access_token"]
        return self._tokens[user]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, migrated_template: str, s3: S3) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    postgres.ensure_database("in_airflow", template=migrated_template)
    (home / "passwords.json").write_text(json.dumps(dict.fromkeys(USERS, PASSWORD)))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
    env |= environment(postgres.dsn("in_airflow"), s3, "in-airflow") | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
    }
    command = [sys.executable, "-m", "airflow"]
    subprocess.run([*command, "db", "migrate"], env=env, check=True, capture_output=True)  # noqa: S603  # our own command
    log = home / "api-server.log"
    with log.open("w") as out:
        server = subprocess.Popen(  # noqa: S603  # as above
            [*command, "api-server", "--host", "127.0.0.1", "--port", str(port)], env=env, stdout=out, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(f"{url}/api/v2/version", log)
        yield Airflow(url, postgres.dsn("in_airflow"))
    finally:
        server.terminate()
        server.wait(60)


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(url, timeout=10).status_code == HTTPStatus.OK:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.2)


def concrete(path: str) -> str:
    """Return a path with a value for each of its parameters."""
    while "{" in path:
        head, _, rest = path.partition("{")
        path = f"{head}1{rest.partition('}')[2]}"
    return PREFIX + path


@pytest.mark.timeout(300)
def test_each_route_wants_a_login_and_the_right_to_read_the_dag(airflow: Airflow) -> None:
    assert len(paths()) > 3
    for method, path in paths():
        for user, status in ((None, HTTPStatus.UNAUTHORIZED), ("nobody", HTTPStatus.FORBIDDEN)):
            with airflow.client(user) as client:
                answer = client.request(method, concrete(path))
                assert answer.status_code == status, (method, path, user)
                assert "<h1>" in answer.text


def test_each_change_wants_the_right_to_edit_the_dag(airflow: Airflow) -> None:
    for method, path in paths():
        if method == "POST":
            with airflow.client("viewer") as viewer, airflow.client("inspector") as inspector:
                assert viewer.request(method, concrete(path)).status_code == HTTPStatus.FORBIDDEN, path
                assert inspector.request(method, concrete(path)).status_code != HTTPStatus.FORBIDDEN, path
                other = {"Origin": "http://evil.example"}
                assert inspector.request(method, concrete(path), headers=other).status_code == HTTPStatus.FORBIDDEN, path


def test_the_page_is_shown_with_addresses_below_its_prefix_and_no_button_that_the_user_may_not_press(airflow: Airflow) -> None:
    with RecordsDb(airflow.database) as db:
        db.do(
            "insert into anomaly.records (image_url, captured_at, status, last_error_code) values ('u', now(), 'quarantined', 'some_code')"
        )
    with airflow.client("viewer") as viewer, airflow.client("inspector") as inspector:
        seen, offered = viewer.get(f"{PREFIX}/"), inspector.get(f"{PREFIX}/")
        assert (seen.status_code, offered.status_code) == (HTTPStatus.OK, HTTPStatus.OK), seen.text
        assert "some_code" in seen.text
        assert "Requeue" not in seen.text
        assert f'action="{PREFIX}/requeue"' in offered.text
        requeued = inspector.post(f"{PREFIX}/requeue", data={"code": "some_code"})
        assert (requeued.status_code, requeued.headers["location"]) == (HTTPStatus.SEE_OTHER, f"{PREFIX}/?requeued=1")
    with RecordsDb(airflow.database) as db:
        assert [row["actor"] for row in db.rows("select actor from anomaly.processing_log")] == ["inspector"]


def test_airflow_lists_one_entry_of_its_navigation(airflow: Airflow) -> None:
    with airflow.client("viewer") as client:
        [ours] = [plugin for plugin in client.get("/api/v2/plugins").json()["plugins"] if plugin["name"] == "anomaly"]
    [entry] = ours["external_views"]
    assert (entry["destination"], entry["href"]) == ("nav", f"{PREFIX}/")
    assert ours["fastapi_apps"][0]["url_prefix"] == PREFIX
