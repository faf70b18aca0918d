"""Where the project's log goes: everything to one file, what matters also to the task's log and the console."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.settings import Settings

FORMAT = "%(asctime)s %(levelname)s %(process)d %(threadName)s %(name)s: %(message)s"
ROOT = "anomaly"


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
    logging.getLogger(f"{ROOT}.database.CheckedPool").setLevel(logging.WARNING)  # SQLAlchemy's own lines: two for every statement
    to_root = _ToRoot(logging.INFO)
    logger.addHandler(to_root)
    try:
        Path(settings.log_file).parent.mkdir(parents=True, exist_ok=True)
        # Processes share the file: each line is one write in append mode.
        to_file = logging.FileHandler(settings.log_file, encoding="utf-8", delay=False)
    except OSError as exc:
        logger.warning("no log file: %s", exc)
        return
    to_file.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(to_file)
