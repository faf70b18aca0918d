"""Connections that are kept in Airflow's database or in a secrets backend, and not in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.parts.installation import Installation

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "AIRFLOW_CONN_"


def in_database(connections: dict[str, Any], home: Path, env: dict[str, str]) -> dict[str, str]:
    (home / "connections.json").write_text(json.dumps(connections))
    for command in (["db", "migrate"], ["connections", "import", str(home / "connections.json")]):
        subprocess.run([sys.executable, "-m", "airflow", *command], env=env, check=True, capture_output=True, timeout=100)  # noqa: S603  # ours
    (home / "connections.json").unlink()
    return {}


def in_secrets_backend(connections: dict[str, Any], home: Path, env: dict[str, str]) -> dict[str, str]:  # noqa: ARG001  # as the other
    (home / "secrets.json").write_text(json.dumps(connections))
    backend = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    return {
        "AIRFLOW__SECRETS__BACKEND": backend,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(home / "secrets.json")}),
    }


@pytest.mark.parametrize("kept", [in_database, in_secrets_backend])
def test_the_doctor_checks_connections_wherever_airflow_keeps_them(kept: Any, installation: Installation, tmp_path: Path) -> None:
    assert installation.stub.port
    connections = {name.removeprefix(PREFIX).lower(): json.loads(text) for name, text in os.environ.items() if name.startswith(PREFIX)}
    assert len(connections) == 4
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW", "ANOMALY"))}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__PARALLELISM": "4", "PYTHONPATH": str(ROOT / "plugins")}
    env |= kept(connections, tmp_path, env)
    command = [sys.executable, "-m", "anomaly", "doctor"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603  # our own command
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "ok  anomaly_s3: objects can be deleted" in ended.stdout
    assert "ok  anomaly_detector: " in ended.stdout
