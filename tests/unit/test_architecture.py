"""Rules that the whole repository keeps and that no import linter can say; who may import whom is in pyproject.toml."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HIDDEN_AND_OURS = {".ci", ".github"}
NOT_OURS = {"__pycache__", "logs", "node_modules", "venv"}
LONGER_WITH_A_REASON = {
    "plugins/anomaly/pipeline/worker.py": "one loop decides for every record; in two modules neither half could be read alone"
}
"""Modules of more than 250 lines, and why."""

INVERTED = re.compile(r"(What|Who|Whose|Whoever|Where|How|Of|As)\b")
"""Words that open a docstring whose subject comes late or never."""

REWORDED_LATER = ("benchmarks/", "reference_detector/", "tests/")

# Written so that they do not find themselves.
FORBIDDEN = {
    "the folder of one checkout": re.escape(f"{ROOT}/"),
    "one person's home": re.escape(f"{Path.home()}/"),
    "a package registry": r"pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org|registry[.]npmjs|proxy[.]golang",
    "a private key": r"BEGIN [A-Z ]*PRIVATE KE[Y]",
    "an access key of AWS": r"\bAKIA[0-9A-Z]{16}\b",
    "a conflict of a merge": r"(?m)^(<<<<<<[<] |>>>>>>[>] )",
    "a task left for later": r"\b(TODO|FIXME|XXX)[:(]",
}


def files(pattern: str, *, under: str = ".") -> list[Path]:
    return sorted(path for path in _walk(ROOT / under) if path.match(pattern))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name in HIDDEN_AND_OURS or (not name.startswith(".") and name not in NOT_OURS)]
        yield from (Path(parent) / name for name in names if name != ".env")


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def imports_at_the_top(path: Path) -> set[str]:
    """What a module imports when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("dag", files("*.py", under="plugins/anomaly/dags"), ids=short)
def test_a_dag_imports_our_other_packages_and_drivers_only_inside_its_tasks(dag: Path) -> None:
    imported = imports_at_the_top(dag)
    ours = {name for name in imported if name.startswith("anomaly") and not name.startswith("anomaly.dags.")}
    assert ours <= {"anomaly.schedules"}  # needed to read the file, and small
    packages = {name.partition(".")[0] for name in imported}
    assert packages.isdisjoint({"embedded", "reference_detector", "boto3", "botocore", "psycopg", "requests", "sqlalchemy"})


def test_the_plugin_file_leaves_drivers_and_http_to_the_package() -> None:
    packages = {name.partition(".")[0] for name in imports_at_the_top(ROOT / "plugins" / "anomaly_plugin.py")}
    assert packages.isdisjoint({"boto3", "botocore", "psycopg", "requests", "sqlalchemy"})


def test_no_module_under_plugins_is_named_like_one_of_the_standard_library() -> None:
    stems = {path.stem for path in files("*.py", under="plugins")}
    assert stems & sys.stdlib_module_names == set()


LISTING = """
import sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
here = {name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(sys.argv[1])}
print(sorted(name for name in here if name.partition(".")[0] != "anomaly"))
print(*(plugin.name for plugin in plugins if str(plugin.source).startswith("$PLUGINS")))
print(errors)
"""


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_airflow_executes_exactly_one_file_of_the_plugins_folder(syntax: str, tmp_path: Path) -> None:
    folder = ROOT / "plugins"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY"))}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"] = syntax
    command = [sys.executable, "-c", LISTING, str(folder)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own text
    assert ended.stdout.splitlines()[-3:] == ["['anomaly_plugin']", "anomaly", "{}"], ended


COPY = """
import sys
sys.argv[1:] = ["migrate", "--dsn", "host=127.0.0.1 port=1"]
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
print(*(plugin.name for plugin in plugins if str(plugin.source).startswith("$PLUGINS")))
print(errors)
"""


@pytest.mark.parametrize("ignored", [True, False])
def test_a_copy_of_the_package_in_another_plugins_folder_ends_no_process_and_hides_no_plugin(tmp_path: Path, *, ignored: bool) -> None:
    ignore = shutil.ignore_patterns("__pycache__", *([] if ignored else [".airflowignore"]))
    shutil.copytree(ROOT / "plugins" / "anomaly", tmp_path / "plugins" / "anomaly", ignore=ignore)
    theirs = "from airflow.plugins_manager import AirflowPlugin\nclass Theirs(AirflowPlugin):\n    name = 'theirs'\n"
    (tmp_path / "plugins" / "theirs.py").write_text(theirs)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTHON"))}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    ended = subprocess.run([sys.executable, "-c", COPY], env=env, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603  # our own text
    assert ended.returncode == 0, ended.stderr
    *_, names, errors = ended.stdout.splitlines()
    assert sorted(names.split()) == (["theirs"] if ignored else ["anomaly", "theirs"])
    assert errors == "{}", ended.stderr


def test_the_wheel_and_requirements_txt_require_the_same_ranges_and_the_pinned_versions_are_in_them() -> None:
    required = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert required == PROJECT["project"]["dependencies"]
    pinned = dict(line.partition(" ;")[0].split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    ranges = {requirement.name: requirement.specifier for requirement in map(Requirement, required)}
    assert {name for name in ranges if pinned[name] not in ranges[name]} == set()


def test_the_build_backend_is_pinned_alike_in_pyproject_and_in_the_test_requirements() -> None:
    assert set(PROJECT["build-system"]["requires"]) <= set((ROOT / "requirements-dev.txt").read_text().splitlines())


def test_no_module_is_too_long_to_be_read_in_one_go() -> None:
    modules = [path for path in files("*.py") if not short(path).startswith("tests/")]
    too_long = {short(path): lines(path) for path in modules if lines(path) > 250}
    assert {name: count for name, count in too_long.items() if name not in LONGER_WITH_A_REASON} == {}


def test_no_sql_is_executed_as_bytes_which_a_type_checker_takes_for_literal() -> None:
    def is_executed_as_bytes(node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Attribute(attr="execute" | "executemany" | "mogrify"), args=[query, *_]):
                return any(isinstance(part, ast.Attribute) and part.attr == "encode" for part in ast.walk(query))
        return False

    modules = [path for path in files("*.py") if not short(path).startswith("tests/")]
    assert [short(path) for path in modules if any(map(is_executed_as_bytes, ast.walk(ast.parse(path.read_text()))))] == []


def test_a_docstring_begins_with_its_subject_or_its_verb() -> None:
    found = []
    for path in files("*.py"):
        if short(path).startswith(REWORDED_LATER):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))) if INVERTED.match(text):
                    found.append(f"{short(path)}:{node.lineno}")
    assert found == []


def test_every_sql_file_reads_like_a_page() -> None:
    assert {short(path): lines(path) for path in files("*.sql") if lines(path) > 60} == {}


def test_no_file_is_larger_than_a_repository_should_hold() -> None:
    assert {short(path): path.stat().st_size for path in files("*") if path.stat().st_size >= 5_000_000} == {}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_says(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what].encode())
    assert [short(path) for path in files("*") if pattern.search(path.read_bytes())] == []
