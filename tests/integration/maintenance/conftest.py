from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.doctor_patient import Patient
from tests.parts.http_stub import HttpStub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.s3 import S3


@pytest.fixture
def patient(database: str, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    with HttpStub() as stub:
        yield Patient(database, s3, stub, monkeypatch)
