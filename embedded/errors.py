"""Errors of the embedded services. The text of each is the one sentence that `bin/run` prints."""

from __future__ import annotations


class EmbeddedError(Exception):
    """Base class of these errors."""

    exit_code = 1


class StartFailed(EmbeddedError):
    """Raised when a service did not start or has ended; names its log file."""


class PortBusy(EmbeddedError):
    """Raised when another program listens on the requested port."""

    exit_code = 2


class RecordsMixed(EmbeddedError):
    """Raised when records of the user would go to the demo's detector, or those of the demo to the user's."""

    exit_code = 2


class AlreadyRunning(EmbeddedError):
    """Raised when another `bin/run` uses the same state folder."""

    exit_code = 2
