"""The file that the log goes to."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from anomaly import logs
from anomaly.db.pool import CheckedPool
from anomaly.settings import Settings

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


@pytest.mark.parametrize(
    ("quoted", "written"),
    [
        ("a\nERROR forged", "a\\nERROR forged"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("a\r\tb\x00", "a\\r\\tb\\x00"),
        ("\x9b31m\u2028\u202egnp.exe", "\\x9b31m\\u2028\\u202egnp.exe"),
        ("half \ud83d", "half \\ud83d"),
        ("Übermaß ≥ 2 mm 😀", "Übermaß ≥ 2 mm 😀"),
    ],
)
def test_what_could_end_a_line_or_control_a_terminal_is_escaped_in_file_and_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoted: str, written: str
) -> None:
    logger, root = logging.getLogger(logs.ROOT), logging.getLogger()
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    console = logging.Handler()
    shown: list[str] = []
    monkeypatch.setattr(console, "emit", lambda record: shown.append(record.getMessage()))
    monkeypatch.setattr(root, "handlers", [console])
    logs.configure(Settings(log_file=str(tmp_path / "b.log")))
    logging.getLogger("anomaly.test").warning("host answered %s", quoted)
    for handler in logger.handlers:
        handler.close()

    assert shown == [f"host answered {written}"]
    [line] = (tmp_path / "b.log").read_text().split("\n")[:-1]
    assert line.endswith(f" anomaly.test: host answered {written}")


def test_a_traceback_is_escaped_and_indented_so_that_no_line_of_it_looks_like_one_of_the_log(log: logging.Logger, path: Path) -> None:
    try:
        raise ValueError("no\x1b[2J\n2026-01-01 00:00:00,000 INFO 1 MainThread anomaly: all is well\u2028\ud800")  # noqa: TRY301  # it is what the test is about
    except ValueError:
        log.warning("failed on %s", "a\nb", exc_info=True)

    first, *others = path.read_text().split("\n")[:-1]
    assert first.endswith("failed on a\\nb")
    assert others[0] == "    Traceback (most recent call last):"
    assert others[-2:] == ["    ValueError: no\\x1b[2J", "    2026-01-01 00:00:00,000 INFO 1 MainThread anomaly: all is well\\u2028\\ud800"]
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_the_file_is_rotated_by_size_and_no_line_of_several_processes_is_lost(path: Path) -> None:
    processes = 3
    children = []
    for number in range(processes):
        if not (child := os.fork()):
            handler = logs.to_file(str(path), max_bytes=20_000, backups=50)
            for line in range(500):
                handler.handle(logging.makeLogRecord({"msg": f"{number} {line}", "levelno": logging.DEBUG}))
            handler.close()
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * processes
    files = [path, *path.parent.glob("a.log.*")]
    lines = [line.rsplit(": ", 1)[1] for file in files for line in file.read_text().splitlines()]
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 20_000 + logs.BUFFERED_LINES * 100
    assert sorted(lines) == sorted(f"{number} {line}" for number in range(processes) for line in range(500))


def test_no_more_rotated_files_are_kept_than_set(path: Path) -> None:
    handler = logs.to_file(str(path), max_bytes=1000, backups=2)
    for _ in range(50):
        handler.handle(logging.makeLogRecord({"msg": "x" * 300, "levelno": logging.INFO}))
    handler.close()
    assert sorted(file.name for file in path.parent.glob("a.log*")) == ["a.log", "a.log.1", "a.log.2"]


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.log").mkdir()
    with pytest.raises(OSError, match="a directory"):
        logs.to_file(str(tmp_path / "a.log"))


FULL = """
import logging, sys
from anomaly import logs
from anomaly.settings import Settings
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logs.configure(Settings(log_file=sys.argv[1]))
for number in range(3):
    logging.getLogger("anomaly.test").warning("line %d", number)
"""


def test_a_full_disk_is_one_warning_and_no_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "full.log").symlink_to("/dev/full")
    command = [sys.executable, "-c", FULL, str(tmp_path / "full.log")]
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: S603  # our own text
    said = ended.stdout.splitlines()
    assert sorted(line for line in said if "line" in line) == ["line 0", "line 1", "line 2"]
    (warning,) = (line for line in said if "line" not in line)
    assert warning.endswith("cannot be written: [Errno 28] No space left on device")
    assert ended.stderr == ""
