"""The project in the layout of the Astro CLI, checked as `astro dev parse` does inside of its container."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.build.conftest import ROOT, run

# What that command's test does: AIRFLOW_HOME is the project, unset variables have made-up values, and connections are empty.
PARSE = """
import json, os
os.getenv = lambda key, default=None: os.environ.get(key) or default or f"MOCKED_{key.upper()}_VALUE"
from airflow.sdk import BaseHook, Connection
BaseHook.get_connection = lambda key, *_, **__: Connection(key)
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
import anomaly
from anomaly.db.statements import FOLDER
print(json.dumps([sorted(bag.dags), bag.import_errors, anomaly.__file__, str(FOLDER)]))
"""
DAGS = ["anomaly_detection", "anomaly_maintenance"]
FILES = {"Dockerfile": "FROM runtime\n", "packages.txt": "", "requirements.txt": "", "airflow_settings.yaml": "airflow: {}\n"}


def parsed(python: Path, project: Path) -> tuple[list[str], dict[str, str], Path, Path]:
    env = {"AIRFLOW_HOME": str(project), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    dags, errors, package, sql = json.loads(run(python, "-c", PARSE, env=env).splitlines()[-1])
    return dags, errors, Path(package), Path(sql)


def test_a_new_project_has_the_dags_once_the_wheel_is_installed_and_init_was_run(installed: Path, tmp_path: Path) -> None:
    for folder in ("dags", "include", "plugins", "tests"):
        (tmp_path / folder).mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    run(installed / "bin" / "anomaly", "init", str(tmp_path / "dags"))
    dags, errors, package, sql = parsed(installed / "bin" / "python", tmp_path)
    assert (dags, errors, sql) == (DAGS, {}, package.parent / "sql")
    assert installed in package.parents


def test_the_repository_is_such_a_project_itself(tmp_path: Path) -> None:
    for folder in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "packages.txt").touch()
    dags, errors, package, sql = parsed(Path(sys.executable), tmp_path)
    assert (dags, errors, sql) == (DAGS, {}, tmp_path / "include" / "sql")
    assert package == tmp_path / "plugins" / "anomaly" / "__init__.py"
