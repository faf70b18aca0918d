"""`bin/anomaly` uses the connections of the last `bin/run` only as long as the next one would use them as well."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from embedded import kept_env
from embedded.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

AIRFLOW = {"AIRFLOW_HOME": "/x", "AIRFLOW__CORE__PARALLELISM": "4"}
KEPT = {DB: "postgresql://app:p@127.0.0.1:1/demo", S3: "s3", DETECTOR: "it's embedded"} | AIRFLOW


def test_without_connections_in_the_environment_all_are_used() -> None:
    assert kept_env.usable(KEPT, {"HOME": "/", DB: ""}) == KEPT


@pytest.mark.parametrize("name", [DB, S3, DETECTOR])
def test_a_connection_that_is_set_as_it_was_then_leaves_the_others(name: str) -> None:
    assert kept_env.usable(KEPT, {name: KEPT[name]}) == KEPT


@pytest.mark.parametrize("name", [DB, S3, DETECTOR, IMAGES])
def test_a_connection_that_is_set_since_then_hides_those_of_the_demo(name: str) -> None:
    assert kept_env.usable(KEPT, {name: "another"}) == AIRFLOW


def test_the_file_is_read_as_it_was_written_and_a_change_is_said(tmp_path: Path) -> None:
    kept_env.write(tmp_path / "env", KEPT)
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-m", "embedded.kept_env", str(tmp_path / "env")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    same = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: S603  # our own command
    assert "export AIRFLOW_CONN_ANOMALY_DETECTOR='it'\"'\"'s embedded'\n" in same.stdout
    assert same.stderr == ""
    changed = subprocess.run(command, env=env | {DETECTOR: "another"}, capture_output=True, text=True, check=True)  # noqa: S603  # as above
    assert changed.stdout == "export AIRFLOW_HOME=/x\nexport AIRFLOW__CORE__PARALLELISM=4\n"
    assert changed.stderr == "the connections have changed since the last bin/run, so those of its own services are not used\n"
