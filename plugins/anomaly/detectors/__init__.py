"""Detectors behind HTTP.

All dialects implement the protocol `Detector` and translate errors by `detectors.errors`. The package may import `transport`, `models` and
what is below them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anomaly.detectors.base import Detector, DetectorConnection, ExplainingDetector
from anomaly.detectors.chat import ANTHROPIC_MESSAGES, OPENAI_CHAT, ChatModel
from anomaly.detectors.endpoint import health, session
from anomaly.detectors.generic import GenericDetector
from anomaly.detectors.options import misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

__all__ = ["DIALECTS", "Detector", "DetectorConnection", "ExplainingDetector", "from_connection", "health", "session"]

DIALECTS: dict[str, Callable[[DetectorConnection, PooledSession, Settings], ExplainingDetector]] = {
    "reference": partial(GenericDetector, dialect="reference"),
    "generic": partial(GenericDetector, dialect="generic"),
    "openai_chat": partial(ChatModel, dialect=OPENAI_CHAT),
    "anthropic_messages": partial(ChatModel, dialect=ANTHROPIC_MESSAGES),
}


def from_connection(connection: DetectorConnection, session: PooledSession, settings: Settings) -> ExplainingDetector:
    """Return a detector of the dialect that the connection's extra `dialect` names, or else of the dialect `reference`.

    Raises:
        Misconfigured: an extra is missing, unknown or invalid; the sentence names it.
    """
    dialect = connection.extra.get("dialect", "reference")
    if not isinstance(dialect, str) or dialect not in DIALECTS:
        raise misconfigured(f"the extra 'dialect' must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    return DIALECTS[dialect](connection, session, settings)
