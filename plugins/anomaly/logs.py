"""Logging: DEBUG and above to a file, INFO and above to the task's log and the console as well."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.settings import Settings

FORMAT = "%(asctime)s %(levelname)s %(process)d %(threadName)s %(name)s: %(message)s"
ROOT = "anomaly"
POOL = f"{ROOT}.db.pool.CheckedPool"
"""The logger that SQLAlchemy uses for the connection pool."""
BUFFERED_LINES = 100
"""DEBUG lines that are written together. A process that is killed loses at most as many; processing_log has the outcome of each record."""


class _BufferedFile(logging.FileHandler):
    """Buffers lines below INFO, since there is one for each record. A line of INFO or above flushes the buffer."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", delay=False)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{self.format(record)}\n")
        if record.levelno >= logging.INFO or len(self._lines) >= BUFFERED_LINES:
            self.flush()

    def flush(self) -> None:
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines and self.stream:
                # Processes share the file: a single write in append mode keeps lines whole.
                os.write(self.stream.fileno(), "".join(lines).encode("utf-8", "backslashreplace"))


class _Formatter(logging.Formatter):
    """Formats as `logging.Formatter`, with a time that is computed once a second."""

    _second = (-1, "")

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802  # the standard library's name
        second, text = self._second
        if second != int(record.created):
            second, text = int(record.created), time.strftime(self.default_time_format, time.localtime(record.created))
            self._second = second, text
        return f"{text},{record.msecs:03.0f}"


class _ToRoot(logging.Handler):
    """Passes records to the handlers of the root logger: Airflow's task log, or else the console."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().handle(record)


def configure(settings: Settings) -> None:
    """Log at DEBUG to the file in *settings* and at INFO to the root logger's handlers. Later calls in a process change nothing.

    A file that cannot be written is one warning, and never stops the task.
    """
    logger = logging.getLogger(ROOT)
    if logger.handlers:
        return
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logging.getLogger(POOL).setLevel(logging.WARNING)  # SQLAlchemy logs two lines for every statement
    to_root = _ToRoot(logging.INFO)
    logger.addHandler(to_root)
    try:
        Path(settings.log_file).parent.mkdir(parents=True, exist_ok=True)
        logger.addHandler(to_file(settings.log_file))
    except OSError as exc:
        logger.warning("no log file: %s", exc)


def to_file(path: str) -> logging.Handler:
    """Return a handler that appends to a file, to which other processes may append as well.

    Raises:
        OSError: the file cannot be written.
    """
    handler = _BufferedFile(path)
    handler.setFormatter(_Formatter(FORMAT))
    return handler
