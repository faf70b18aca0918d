"""The file that the log goes to."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING

from anomaly import logs
from anomaly.db.pool import CheckedPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


@pytest.fixture
def log(path: Path) -> Iterator[logging.Logger]:
    logger, handler = logging.getLogger("test_logs"), logs.to_file(str(path))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_what_matters_is_in_the_file_at_once_and_all_before_it(log: logging.Logger, path: Path) -> None:
    log.debug("first")
    log.debug("second")
    assert path.read_text() == ""
    log.info("third")

    assert [line.rsplit(" ", 1)[1] for line in path.read_text().splitlines()] == ["first", "second", "third"]


def test_details_are_written_when_there_are_many_and_at_the_end(log: logging.Logger, path: Path) -> None:
    for number in range(logs.BUFFERED_LINES + 5):
        log.debug("%d", number)
    assert len(path.read_text().splitlines()) == logs.BUFFERED_LINES
    log.handlers[0].close()

    assert len(path.read_text().splitlines()) == logs.BUFFERED_LINES + 5


def test_a_line_says_when_like_the_standard_library(log: logging.Logger, path: Path) -> None:
    record = log.makeRecord("anomaly.test", logging.INFO, "f.py", 1, "said %s", ("so",), None)
    log.handle(record)
    log.handle(record)

    expected = logging.Formatter(logs.FORMAT).format(record)
    assert path.read_text() == f"{expected}\n" * 2
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ", expected)


def test_lines_of_several_threads_and_handlers_stay_whole(path: Path) -> None:
    handlers = [logs.to_file(str(path)) for _ in range(2)]

    def write(handler: logging.Handler) -> None:
        for _ in range(500):
            handler.handle(logging.makeLogRecord({"msg": "x" * 300, "levelno": logging.DEBUG}))

    threads = [threading.Thread(target=write, args=(handler,)) for handler in handlers for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for handler in handlers:
        handler.close()

    lines = path.read_text().splitlines()
    assert len(lines) == 3000
    assert all(line.endswith(" " + "x" * 300) for line in lines)


def test_the_lines_of_the_pool_are_left_out() -> None:
    assert f"{CheckedPool.__module__}.{CheckedPool.__qualname__}" == logs.POOL
