from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.http_stub import HttpStub
from tests.parts.installation import Installation
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.s3 import S3


@pytest.fixture
def db(database: str) -> Iterator[RecordsDb]:
    """A records database of the test's own, with the project's tables and no rows."""
    with RecordsDb(database) as opened:
        yield opened


@pytest.fixture
def installation(db: RecordsDb, s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Installation]:
    with HttpStub() as stub:
        yield Installation(db, s3, stub, monkeypatch, capsys)
