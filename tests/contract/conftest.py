"""What the tests of the wire share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.http_stub import HttpStub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stub() -> Iterator[HttpStub]:
    with HttpStub() as running:
        yield running
