"""Logging: DEBUG and above to a file, INFO and above to the task's log and the console as well."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import nullcontext
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

from concurrent_log_handler import ConcurrentRotatingFileHandler

from anomaly.escaping import escaped, escaped_lines

if TYPE_CHECKING:
    from anomaly.settings import Settings

FORMAT = "%(asctime)s %(levelname)s %(process)d %(threadName)s %(name)s: %(message)s"
ROOT = "anomaly"
POOL = f"{ROOT}.db.pool.CheckedPool"
"""The logger that SQLAlchemy uses for the connection pool."""
_TRACEBACKS = logging.Formatter()
BUFFERED_LINES = 100
"""DEBUG lines that are written together. A process that is killed loses at most as many; processing_log has the outcome of each record."""


class _BufferedFile(MemoryHandler):
    """Buffers lines below INFO, since there is one for each record, and writes those of a buffer together. INFO or above flushes it."""

    def flush(self) -> None:
        with self.lock or nullcontext():
            if self.target and self.buffer:
                self.target.handle(logging.makeLogRecord({"msg": "\n".join(map(self.format, self.buffer))}))
                self.buffer.clear()

    def close(self) -> None:
        file = self.target
        super().close()
        if file:
            file.close()


class _RotatedFile(ConcurrentRotatingFileHandler):
    """Reports a file that cannot be written, on a full disk for instance, once to the root logger instead of for each line on stderr."""

    _reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  # the standard library's signature
        if not self._reported:
            self._reported = True
            logging.getLogger().warning("the log file %s cannot be written: %s", self.baseFilename, sys.exc_info()[1])


class _Formatter(logging.Formatter):
    """Formats as `logging.Formatter`, with a time that is computed once a second."""

    _second = (-1, "")

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802  # the standard library's name
        second, text = self._second
        if second != int(record.created):
            second, text = int(record.created), time.strftime(self.default_time_format, time.localtime(record.created))
            self._second = second, text
        return f"{text},{record.msecs:03.0f}"


def _escape(record: logging.LogRecord) -> bool:
    """Escape the message of a record and its traceback, which may quote what comes from outside."""
    record.msg, record.args = escaped(record.getMessage()), None
    if record.exc_info:
        record.msg = f"{record.msg}\n{escaped_lines(_TRACEBACKS.formatException(record.exc_info))}"
        record.exc_info = record.exc_text = None
    return True


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
    to_root.addFilter(_escape)
    logger.addHandler(to_root)
    try:
        Path(settings.log_file).parent.mkdir(parents=True, exist_ok=True)
        logger.addHandler(to_file(settings.log_file, max_bytes=settings.log_max_bytes, backups=settings.log_backups))
    except OSError as exc:
        logger.warning("no log file: %s", exc)


def to_file(path: str, *, max_bytes: int = 0, backups: int = 0) -> logging.Handler:
    """Return a handler that appends to a file, to which other processes may append as well.

    Before the file would exceed *max_bytes*, it becomes `path.1`, and that `path.2`, up to *backups* of them. 0 bytes: never.

    Raises:
        OSError: the file cannot be written.
    """
    file = _RotatedFile(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", unicode_error_policy="replace")
    for written in (path, file.lockFilename):  # it opens them with the first line, and only prints that it cannot
        Path(written).open("a").close()
    handler = _BufferedFile(BUFFERED_LINES, flushLevel=logging.INFO, target=file)
    handler.setFormatter(_Formatter(FORMAT))
    handler.addFilter(_escape)
    return handler
