"""The wheel, installed into an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "your-airflow.md"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and sees the requirements of the one that runs the tests."""
    built, home = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("venv")
    run(Path(sys.executable), "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT))
    [wheel] = built.glob("*.whl")
    run(Path(sys.executable), "-m", "virtualenv", "--quiet", str(home))
    run(home / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    [packages] = home.glob("lib/*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    airflow = home / "bin" / "airflow"
    airflow.write_text(f"#!{home}/bin/python\nfrom airflow.__main__ import main\n\nmain()\n")
    airflow.chmod(0o755)
    return home


def run(program: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the output of a program that knows no setting of this process and runs outside the checkout."""
    env = environment() | {"AIRFLOW_HOME": str(program.parents[1] / "home")} | (env or {})
    ended = subprocess.run(  # noqa: S603  # our own commands
        [program, *arguments], cwd=program.parent, env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def environment() -> dict[str, str]:
    """The environment of this process without settings of Airflow, the project and Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW", "ANOMALY", "PYTHON"))}
