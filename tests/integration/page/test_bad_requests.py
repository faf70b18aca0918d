"""Random requests that make no sense: none is an error of the server, and none changes anything."""

from __future__ import annotations

from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.integration.page.test_app import paths
from tests.parts.fuzzing import FUZZ_S

if TYPE_CHECKING:
    from tests.integration.page.conftest import Site

REQUESTS = 10_000 if FUZZ_S else 1000
JUNK = [
    *("", "0", "-1", "1", "999999999999999999999", "1e309", "nan", "null", "true", "\x00", "\u202e", "%", "..", "a/b", "<b>"),
    *("'; drop table", "é" * 300, "csv", "json", "parquet", "coco", "images", "2026-02-31", "0.5~1", "anomaly", "x" * 3000),
]
NAMES = [
    *("days", "requeued", "code", "state", "verdict", "review", "label", "order", "after", "low", "high", "since", "until", "detector"),
    *("attribute", "value", "id", "decision", "format", "run_id", "dag_id", "address", "token", "threshold", "exactly", "reason", "stored"),
]
FURTHER = ("saved_views", "reviews", "thresholds")
"""Tables that only the page writes."""


def everything(site: Site) -> dict[str, Any]:
    further = {table: site.db.rows(f"select * from anomaly.{table} as t order by t::text") for table in FURTHER}  # noqa: S608  # ours
    return {**site.db.everything(), **further}


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_random_requests_are_no_error_of_the_server_and_change_nothing(site: Site) -> None:
    rng = Random(None if FUZZ_S else 14)
    site.db.claims(2)
    before = everything(site)
    answers: dict[int, int] = {}
    routes = paths()
    for _ in range(REQUESTS):
        method, path = rng.choice(routes)
        while "{" in path:
            head, _, rest = path.partition("{")
            path = head + quote(rng.choice(JUNK) or "-", safe="") + rest.partition("}")[2]
        query = {rng.choice(NAMES): rng.choice(JUNK) for _ in range(rng.randrange(4))}
        form = {rng.choice(NAMES): rng.choice(JUNK) for _ in range(rng.randrange(4))}
        if method == "POST":
            answer = site.client.request(method, path, params=query, data=form, headers={"Origin": site.origin})
        else:
            answer = site.client.request(rng.choice([method, method, "PUT", "DELETE", "HEAD"]), path, params=query)
        assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (method, path, query, form, answer.text.partition("<h1>")[2])
        answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
    print(f"{REQUESTS} requests: {dict(sorted(answers.items()))}")  # noqa: T201
    assert everything(site) == before
