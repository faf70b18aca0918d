"""The page in a real api-server, with the rights of Airflow's auth manager."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from anomaly.tasks.links import PREFIX
from tests.integration.page.conftest import environment
from tests.integration.page.test_app import paths
from tests.parts.api_server import ApiServer
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres
    from embedded.s3 import S3

DATABASE = "in_airflow"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, migrated_template: str, s3: S3) -> Iterator[ApiServer]:
    postgres.ensure_database(DATABASE, template=migrated_template)
    with ApiServer(tmp_path_factory.mktemp("airflow"), environment(postgres.dsn(DATABASE), s3, "in-airflow")) as server:
        yield server


def concrete(path: str) -> str:
    """Return a path with a value for each of its parameters."""
    while "{" in path:
        head, _, rest = path.partition("{")
        path = f"{head}1{rest.partition('}')[2]}"
    return PREFIX + path


@pytest.mark.timeout(300)
def test_each_route_wants_a_login_and_the_right_to_read_the_dag(airflow: ApiServer) -> None:
    assert len(paths()) > 3
    for method, path in paths():
        for user, status in ((None, HTTPStatus.UNAUTHORIZED), ("nobody", HTTPStatus.FORBIDDEN)):
            with airflow.client(user) as client:
                answer = client.request(method, concrete(path))
                assert answer.status_code == status, (method, path, user)
                assert "<h1>" in answer.text


def test_each_change_wants_the_right_to_edit_the_dag(airflow: ApiServer) -> None:
    for method, path in paths():
        if method == "POST":
            with airflow.client("viewer") as viewer, airflow.client("inspector") as inspector:
                assert viewer.request(method, concrete(path)).status_code == HTTPStatus.FORBIDDEN, path
                assert inspector.request(method, concrete(path)).status_code != HTTPStatus.FORBIDDEN, path
                other = {"Origin": "http://evil.example"}
                assert inspector.request(method, concrete(path), headers=other).status_code == HTTPStatus.FORBIDDEN, path


def test_the_page_is_shown_with_addresses_below_its_prefix_and_no_button_that_the_user_may_not_press(
    airflow: ApiServer, postgres: Postgres
) -> None:
    with RecordsDb(postgres.dsn(DATABASE)) as db:
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
    with RecordsDb(postgres.dsn(DATABASE)) as db:
        assert [row["actor"] for row in db.rows("select actor from anomaly.processing_log")] == ["inspector"]


def test_airflow_lists_one_entry_of_its_navigation(airflow: ApiServer) -> None:
    with airflow.client("viewer") as client:
        [ours] = [plugin for plugin in client.get("/api/v2/plugins").json()["plugins"] if plugin["name"] == "anomaly"]
    [entry] = ours["external_views"]
    assert (entry["destination"], entry["href"]) == ("nav", f"{PREFIX}/")
    assert ours["fastapi_apps"][0]["url_prefix"] == PREFIX
