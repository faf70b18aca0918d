"""Detectors of each dialect at a scripted HTTP server."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from anomaly import detectors
from anomaly.detectors import DetectorConnection
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.detectors import Detector

CONTENT = b"\xff\xd8\xff not really\r\n--boundary\xff\xd9"
IMAGE = Image(content=CONTENT, sha256=hashlib.sha256(CONTENT).hexdigest(), media_type="image/jpeg", width_px=1, height_px=1)


class Made:
    """Makes detectors at the stub."""

    def __init__(self, stub: HttpStub) -> None:
        self.stub = stub
        self.sessions: list[Any] = []

    def __call__(self, *, base: str = "", login: str | None = None, key: str | None = None, settings: Any = None, **extra: Any) -> Detector:
        chosen = Settings(**(settings or {}))
        connection = DetectorConnection(base_url=self.stub.url(base), login=login, password=key, extra=extra)
        self.sessions.append(detectors.session(chosen, connection.base_url))
        return detectors.from_connection(connection, self.sessions[-1], chosen)


@pytest.fixture
def made(stub: HttpStub) -> Iterator[Made]:
    maker = Made(stub)
    yield maker
    for session in maker.sessions:
        session.close()


def a_json(document: Any, **options: Any) -> Reply:
    return Reply(body=json.dumps(document).encode(), content_type="application/json", **options)
