from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.airflow_rows import airflow_rows
from tests.chaos.celery_rows import celery_rows
from tests.chaos.outages import outage_rows
from tests.chaos.rows import Row, process_rows

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.chaos.matrix import Result

# The long ones first, because a few run at the same time.
ROWS = [*airflow_rows(), *celery_rows(), *outage_rows(), *process_rows()]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_whatever_dies_each_record_is_done_once(row: Row, results: dict[str, Future[Result]]) -> None:
    results[row.name].result().check()
