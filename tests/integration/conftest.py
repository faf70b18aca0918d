from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def db(database: str) -> Iterator[RecordsDb]:
    """A records database of the test's own, with the project's tables and no rows."""
    with RecordsDb(database) as opened:
        yield opened
