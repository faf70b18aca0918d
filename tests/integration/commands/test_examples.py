"""Every example in the help of a command runs as it is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anomaly.db.statements import FOLDER
from tests.parts.command_line import examples
from tests.parts.installation import a_photo
from tests.parts.source_table import PHOTOS, create_photos

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.installation import Installation


FILES = {
    "photo.jpg": a_photo("JPEG"),
    "photos.csv": b"image_url\nhttps://images.example/1.png\n",
    "export.csv": b"id,url,taken_at,camera\n1,https://images.example/1.png,2026-01-01,north\n",
    "addresses.txt": b"https://images.example/1.png\n",
    "new_photos.sql": b"select 'https://images.example/1.png' as image_url",
    "answer.json": b'{"score": 0.9, "is_anomaly": true}',
}
"""The files that the examples name."""


@pytest.mark.parametrize("example", [each for each in examples() if not each.startswith("anomaly page")])  # its test takes a free port
def test_an_example_of_the_help_runs(example: str, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "include").symlink_to(FOLDER.parent)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    for key in ("1.png", "2026/1.png"):
        installation.put(key, FILES["photo.jpg"])
    installation.detector("anomaly_detector_v2")
    installation.with_two_detectors()
    create_photos(installation.db)
    installation.set("ANOMALY_SOURCE", json.dumps(PHOTOS))
    line = re.sub(r"postgresql://\S+db\.example\S+", installation.db.dsn, example)
    line = line.replace("/opt/airflow/", f"{tmp_path}/").replace("https://images.example/1.png", installation.stub.url("/photo.png"))
    line = line.replace("s3://images/", f"s3://{installation.s3.bucket}/{installation.prefix}/")
    program, *arguments = shlex.split(line)
    assert program == "anomaly"
    if "--watch" in arguments:
        assert_runs_until_interrupted(arguments)
        return
    said = installation.run(*arguments)
    assert said.status == 0, said
    assert said.out or any((tmp_path / written).exists() for written in ("verdicts.csv", "by-verdict"))
    assert said.err == ""


def assert_runs_until_interrupted(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "anomaly", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as running:  # noqa: S603  # ours
        assert running.stdout
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
