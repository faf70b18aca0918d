"""The wheel, installed into an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embedded.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
SQL = ROOT / "include" / "sql"
PLUGINS = """
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
print([(plugin.name, type(plugin).__module__) for plugin in plugins if plugin.name == "anomaly"], errors)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and sees the requirements of the one that runs the tests."""
    built, home = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("venv")
    run(Path(sys.executable), "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT))
    [wheel] = built.glob("*.whl")
    run(Path(sys.executable), "-m", "virtualenv", "--quiet", str(home))
    run(home / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    [packages] = home.glob("lib/*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return home


def run(program: Path, *arguments: str) -> str:
    """Return the output of a program that knows no setting of this process and runs outside the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTHON"))}
    env["AIRFLOW_HOME"] = str(program.parent / "airflow")
    ended = subprocess.run(  # noqa: S603  # our own commands
        [program, *arguments], cwd=program.parent, env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_wheel_holds_the_package_and_each_sql_file(installed: Path) -> None:
    code = "import anomaly; from anomaly.db import schema, statements; print(anomaly.__file__); print(statements.FOLDER)"
    *_, package, folder = run(installed / "bin" / "python", "-c", code).splitlines()
    assert installed in Path(package).parents
    assert Path(folder) == Path(package).parent / "sql"
    assert {path.relative_to(folder): path.read_text() for path in Path(folder).rglob("*.sql")} == {
        path.relative_to(SQL): path.read_text() for path in SQL.rglob("*.sql")
    }


def test_the_installed_command_migrates_a_database_and_finds_its_statements_fit_for_it(installed: Path, postgres: Postgres) -> None:
    postgres.ensure_database("by_wheel")
    dsn = postgres.dsn("by_wheel")
    applied = run(installed / "bin" / "anomaly", "migrate", "--dsn", dsn).splitlines()
    assert applied == [f"applied {path.stem}" for path in sorted(SQL.glob("migrations/*.sql"))]
    checked = run(installed / "bin" / "python", "-m", "anomaly", "check-sql", "--dsn", dsn).splitlines()
    assert checked == [f"{path.name}: ok" for path in sorted(SQL.glob("*.sql"))]


def test_airflow_registers_the_installed_plugin_once_by_its_entry_point(installed: Path) -> None:
    assert run(installed / "bin" / "python", "-c", PLUGINS).splitlines()[-1] == "[('anomaly', 'anomaly.plugin')] {}"
