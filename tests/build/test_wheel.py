"""The wheel, installed into an environment of its own, away from the checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.build.conftest import PAGE, ROOT, run
from tests.parts.sql_files import checked_files

if TYPE_CHECKING:
    from embedded.postgres import Postgres

SQL = ROOT / "include" / "sql"
PLUGINS = """
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
print([(plugin.name, type(plugin).__module__) for plugin in plugins if plugin.name == "anomaly"], errors)
"""


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
    assert checked == [f"{name}.sql: ok" for name in checked_files(SQL)]


def test_airflow_registers_the_installed_plugin_once_by_its_entry_point(installed: Path) -> None:
    assert run(installed / "bin" / "python", "-c", PLUGINS).splitlines()[-1] == "[('anomaly', 'anomaly.plugin')] {}"


def test_the_tested_airflow_has_what_the_wheel_requires_in_versions_that_it_takes(installed: Path) -> None:
    assert "anomaly" not in run(installed / "bin" / "pip", "check", "--disable-pip-version-check")


def test_the_sentences_of_an_installation_name_its_own_command(installed: Path, postgres: Postgres) -> None:
    postgres.ensure_database("never_migrated")
    code = "import sys; sys.stderr = sys.stdout; from anomaly.commands import main; assert main(sys.argv[1:]) == 1"
    said = run(installed / "bin" / "python", "-c", code, "check-sql", "--dsn", postgres.dsn("never_migrated"))
    assert said.strip().endswith(": run anomaly migrate")


def test_the_old_backfill_command_is_one_import_in_the_local_settings_of_airflow(installed: Path, tmp_path: Path) -> None:
    [line] = re.findall(r"^ +(import anomaly\.config\S+)$", PAGE.read_text(), re.MULTILINE)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "airflow_local_settings.py").write_text(f"{line}\n")
    env = {"AIRFLOW_HOME": str(tmp_path)}
    assert "--rerun-failed-tasks" in run(installed / "bin" / "airflow", "dags", "backfill", "--help", env=env)
    code = "from anomaly.config import dags_backfill; print(dags_backfill.run)"
    assert "<function run" in run(installed / "bin" / "python", "-c", code, env=env)
