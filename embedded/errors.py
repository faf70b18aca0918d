"""What can go wrong with the embedded parts, each as one sentence for the person at the terminal."""

from __future__ import annotations


class EmbeddedError(Exception):
    """Base; its text is the sentence that `bin/run` prints."""

    exit_code = 1


class StartFailed(EmbeddedError):
    """A part did not come up, or did not stay; the sentence names its log file."""


class PortBusy(EmbeddedError):
    """The port that was asked for belongs to another program."""

    exit_code = 2


class AlreadyRunning(EmbeddedError):
    """Another `bin/run` works on the same folder."""

    exit_code = 2
