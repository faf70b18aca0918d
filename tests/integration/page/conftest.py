"""The page without Airflow, on a records database and a bucket of the test's own."""

from __future__ import annotations

import json
import re
import uuid
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.parts.page_server import PageServer
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.s3 import S3


class Site:
    """The page, and its records database."""

    def __init__(self, client: httpx.Client, db: RecordsDb, prefix: str) -> None:
        self.client, self.db, self.prefix = client, db, prefix
        self.origin = str(client.base_url).rstrip("/")

    def get(self, path: str, *, status: int = 200, **params: Any) -> httpx.Response:
        found: httpx.Response = self.client.get(path, params=params or None)
        assert found.status_code == status, (found.status_code, found.text[:2000])
        return found

    def post(self, path: str, *, status: int = 200, **form: Any) -> httpx.Response:
        found: httpx.Response = self.client.post(path, data=form, headers={"Origin": self.origin})
        assert found.status_code == status, (found.status_code, found.text[:2000])
        return found

    def one(self, query: str, **params: Any) -> Any:
        """Return the only value of a query."""
        [row] = self.db.rows(query, **params)
        [value] = row.values()
        return value


def figures(page: httpx.Response) -> dict[str, str]:
    """Return the text of the elements that have the attribute `data-figure`, by its value."""
    return dict(re.findall(r'data-figure="([^"]+)"[^>]*>\s*([^<]*?)\s*<', page.text))


class _Structure(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def structure(page: httpx.Response) -> list[tuple[str, tuple[str, ...]]]:
    """Return the elements of a page with the names of their attributes. Text that is escaped adds none."""
    parser = _Structure()
    parser.feed(page.text)
    return parser.tags


def environment(dsn: str, s3: S3, prefix: str) -> dict[str, str]:
    """Return Airflow's connections as environment variables."""
    to = conninfo_to_dict(dsn)
    login = {"login": to["user"], "password": to["password"]}
    database = {"conn_type": "postgres", "host": to["host"], "port": int(str(to["port"])), "schema": to["dbname"], **login}
    extra = {"bucket": s3.bucket, "prefix": prefix, "endpoint_url": s3.endpoint_url, "region_name": s3.region}
    bucket = {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": extra}
    return {"AIRFLOW_CONN_ANOMALY_DB": json.dumps(database), "AIRFLOW_CONN_ANOMALY_S3": json.dumps(bucket)}


@pytest.fixture
def site(database: str, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    prefix = uuid.uuid4().hex
    for name, value in environment(database, s3, prefix).items():
        monkeypatch.setenv(name, value)
    with RecordsDb(database) as db, PageServer() as server, httpx.Client(base_url=server.url, follow_redirects=True, timeout=60) as client:
        yield Site(client, db, prefix)
