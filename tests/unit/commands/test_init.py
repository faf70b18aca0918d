"""The command that writes the DAG files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anomaly.commands import main

DAGS = Path(__file__).resolve().parents[3] / "dags"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.py"))}


def test_it_writes_the_files_that_the_repository_has_and_a_second_time_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dags"
    assert main(["init", str(folder)]) == 0
    assert contents(folder) == contents(DAGS)
    assert main(["init", str(folder), "--json"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"wrote {folder}/anomaly_detection.py\nwrote {folder}/anomaly_maintenance.py\n")
    assert json.loads(said.partition("maintenance.py\n")[2]) == {"written": []}


def test_a_file_with_other_contents_stays_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "anomaly_maintenance.py").write_text("# mine\n")
    assert main(["init", str(tmp_path)]) == 1
    assert contents(tmp_path) == {"anomaly_maintenance.py": "# mine\n"}
    assert f"{tmp_path}/anomaly_maintenance.py has other contents, and nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing/dags", "file"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / name)]) != 0
    assert name in capsys.readouterr().err
