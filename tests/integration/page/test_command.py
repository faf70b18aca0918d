"""`anomaly page`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from anomaly.commands import main

if TYPE_CHECKING:
    import pytest


def test_the_command_serves_the_page_until_it_is_interrupted() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN")}
    command = [sys.executable, "-m", "anomaly", "page", "--port", "0", "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own command
        assert process.stdout
        address = json.loads("".join(process.stdout.readline() for _ in range(3)))["address"]
        answer = httpx.get(address, timeout=60)
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "there is no connection anomaly_db" in answer.text
        assert httpx.get(address, headers={"Host": "rebound.example"}).status_code == HTTPStatus.BAD_REQUEST
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["page", "--port", str(other.getsockname()[1])]) == 1
    assert "cannot listen on port" in capsys.readouterr().err
