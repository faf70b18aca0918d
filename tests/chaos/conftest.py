from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import pytest

from tests.chaos.matrix import Result, playing, table, write_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.chaos.rows import Row

ENDED = pytest.StashKey[list[Result]]()
TOOK_S = pytest.StashKey[float]()


def chosen(request: pytest.FixtureRequest) -> list[Row]:
    """Return the rows that this call of pytest runs."""
    calls = [item.callspec for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    return [cast("Row", call.params["row"]) for call in calls if "row" in call.params]


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, postgres: Postgres, migrated_template: str, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Result]]]:
    folder, began = tmp_path_factory.mktemp("rows"), time.monotonic()
    with playing(chosen(request), postgres=postgres, template=migrated_template, s3=s3, folder=folder) as under_way:
        yield under_way
        rows = [row for row in under_way.values() if row.done() and not row.cancelled() and not row.exception()]
        request.config.stash[ENDED] = [row.result() for row in rows]
        request.config.stash[TOOK_S] = time.monotonic() - began


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the table; write it to the page if all rows passed."""
    from tests.chaos.test_matrix import ROWS  # noqa: PLC0415  # pytest imports it as a test

    if not (ended := config.stash.get(ENDED, [])):
        return
    terminalreporter.section("kill matrix")
    terminalreporter.write_line(table(ended))
    if exitstatus == 0:
        write_page(ended, [row.name for row in ROWS], took_s=config.stash[TOOK_S])
