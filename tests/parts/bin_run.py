"""`bin/run` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from embedded.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RUN_S = 300


class BinRun:
    """`bin/run` with its own state folder."""

    def __init__(self, state: Path, **variables: str) -> None:
        self.state = state
        self.output = state / "output.txt"
        self.output.touch()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = str(listener.getsockname()[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "AIRFLOW"))}
        self._env = kept | {"PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "config"))}
        self._env |= variables

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "embedded", "--state", str(self.state), "--port", self.port, *options]
        with self.output.open("wb") as output:
            return subprocess.Popen(command, env=self._env, stdout=output, stderr=output)  # noqa: S603  # a constant command

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + RUN_S
        while words not in self.said():
            assert time.monotonic() < deadline, self.said()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                pytest.fail(f"it has ended: {self.said()}")

    def processes(self) -> list[str]:
        """Return the command lines of running processes that name its state folder."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and str(self.state) in words:
                    found.append(words)
            except psutil.Error:
                continue
        return found
