"""A few rows of the kill matrix, for every run of the tests; the level `chaos` has all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.matrix import playing
from tests.chaos.outages import outage_rows
from tests.chaos.rows import Row, process_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.chaos.matrix import Result

NAMES = {
    "SIGKILL while detecting",
    "SIGKILL inside the commit",
    "SIGKILL inside the commit, own table",
    "SIGKILL after the archive before the commit, next run",
    "SIGKILL claim: before its XCom",
    "SIGTERM while detecting",
    "connection cut after the commit, before its answer",
}
ROWS = [row for row in (*process_rows(), *outage_rows()) if row.name in NAMES]


@pytest.fixture(scope="module")
def results(
    postgres: Postgres, migrated_template: str, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Result]]]:
    with playing(ROWS, postgres=postgres, template=migrated_template, s3=s3, folder=tmp_path_factory.mktemp("rows")) as under_way:
        yield under_way


def test_the_small_part_has_all_its_rows() -> None:
    assert {row.name for row in ROWS} == NAMES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_whatever_dies_each_record_is_done_once(row: Row, results: dict[str, Future[Result]]) -> None:
    results[row.name].result().check()
