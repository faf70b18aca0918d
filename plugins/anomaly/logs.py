"""Where the project's log goes: everything to one file, what matters also to the task's log and the console."""

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
LINES = 100
"""Of DEBUG, that are written together. A process that is killed takes so many with it; processing_log has what they told of records."""


class _ToFile(logging.FileHandler):
    """Writes what is below INFO a few lines at a time, since each record has one; what matters is written at once, after all before it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", delay=False)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{self.format(record)}\n")
        if record.levelno >= logging.INFO or len(self._lines) >= LINES:
            self.flush()

    def flush(self) -> None:
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines and self.stream:
                # Processes share the file, which is open for appending: so many whole lines are one write.
                os.write(self.stream.fileno(), "".join(lines).encode("utf-8", "backslashreplace"))


class _Formatter(logging.Formatter):
    """The standard one, that asks for the time of day once a second."""

    _second = (-1, "")

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802  # the standard library's name
        second, text = self._second
        if second != int(record.created):
            second, text = int(record.created), time.strftime(self.default_time_format, time.localtime(record.created))
            self._second = second, text
        return f"{text},{record.msecs:03.0f}"


class _ToRoot(logging.Handler):
    """Hands INFO and above to whatever the root logger has: under Airflow the task's log, else the console."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().handle(record)


def configure(settings: Settings) -> None:
    """Log at DEBUG to the settings' file, at INFO to the root logger's handlers. Once a process; later calls change nothing.

    A file that cannot be written is one warning: no log stops the job.
    """
    logger = logging.getLogger(ROOT)
    if logger.handlers:
        return
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logging.getLogger(f"{ROOT}.db.pool.CheckedPool").setLevel(logging.WARNING)  # SQLAlchemy's own lines: two for every statement
    to_root = _ToRoot(logging.INFO)
    logger.addHandler(to_root)
    try:
        Path(settings.log_file).parent.mkdir(parents=True, exist_ok=True)
        logger.addHandler(to_file(settings.log_file))
    except OSError as exc:
        logger.warning("no log file: %s", exc)


def to_file(path: str) -> logging.Handler:
    """Appends to a file that other processes may append to as well.

    Raises:
        OSError: it cannot be written.
    """
    made = _ToFile(path)
    made.setFormatter(_Formatter(FORMAT))
    return made
