"""What holds for every route: headers, and errors as sentences."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.routing import Route

from anomaly.page import static
from anomaly.page.access import local_access
from anomaly.page.app import create_app
from anomaly.page.services import Services
from tests.parts.page_server import PageServer

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site


def paths() -> list[tuple[str, str]]:
    """Return method and path of each route."""
    routes = [route for route in create_app(local_access(), Services()).routes if isinstance(route, Route)]
    return sorted((method, route.path) for route in routes for method in (route.methods or ()) if method != "HEAD")


def test_an_answer_allows_scripts_of_this_page_only(site: Site) -> None:
    for path in ("/", "/no-such-page", f"/static/{static.version()}/page.css"):
        headers = site.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_a_page_names_no_other_host_and_has_no_inline_script_or_style(site: Site) -> None:
    text = site.get("/").text
    assert "//" not in text.replace("http://www.w3.org", "")
    assert "<script>" not in text
    assert " style=" not in text
    assert " on" not in {part[:3] for part in text.split("<") if " on" in part[:3]}


@pytest.mark.parametrize(("method", "path"), [item for item in paths() if item[0] == "POST"])
@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}]
)
def test_a_change_that_another_site_sends_is_refused(site: Site, method: str, path: str, headers: dict[str, str]) -> None:
    assert site.client.request(method, path, headers=headers).status_code == HTTPStatus.FORBIDDEN


def test_without_a_database_the_page_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ANOMALY_DB", raising=False)
    with PageServer() as server, httpx.Client(base_url=server.url, timeout=60) as client:
        page = client.get("/")
        assert page.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "there is no connection anomaly_db" in page.text
        monkeypatch.setenv("AIRFLOW_CONN_ANOMALY_DB", "postgresql://nobody:secret@127.0.0.1:1/none")
        page = client.get("/")
        assert page.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "the records database is not available" in page.text
        assert "secret" not in page.text


def test_after_an_outage_the_page_is_back_without_a_restart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given = os.environ["AIRFLOW_CONN_ANOMALY_DB"]
    monkeypatch.setenv("AIRFLOW_CONN_ANOMALY_DB", "postgresql://nobody:secret@127.0.0.1:1/none")
    site.get("/", status=503)
    monkeypatch.setenv("AIRFLOW_CONN_ANOMALY_DB", given)
    site.get("/")
