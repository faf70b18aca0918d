"""Detectors: one module a dialect, one protocol, one error map."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anomaly.detectors.anthropic_messages import anthropic_messages
from anomaly.detectors.base import Detector, DetectorConnection
from anomaly.detectors.endpoint import session
from anomaly.detectors.generic import Generic
from anomaly.detectors.openai_chat import openai_chat
from anomaly.detectors.options import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.settings import Settings
    from anomaly.transport.session import PooledSession

__all__ = ["DIALECTS", "Detector", "DetectorConnection", "from_connection", "session"]

DIALECTS: dict[str, Callable[[DetectorConnection, PooledSession, Settings], Detector]] = {
    "reference": partial(Generic, dialect="reference"),
    "generic": partial(Generic, dialect="generic"),
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic_messages,
}


def from_connection(connection: DetectorConnection, session: PooledSession, settings: Settings) -> Detector:
    """Make the detector that the connection's extra `dialect` names; without one, it speaks the reference detector's.

    Raises:
        Misconfigured: something of the connection is missing, unknown or wrong; the sentence names it.
    """
    dialect = connection.extra.get("dialect", "reference")
    if dialect not in DIALECTS:
        raise wrong(f"the extra 'dialect' must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    return DIALECTS[dialect](connection, session, settings)
