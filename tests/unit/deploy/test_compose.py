"""Rules for docker-compose.yaml, and its consistency with .env.example, bin/secrets, deploy/metrics/ and the Dockerfile."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from anomaly.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOTS = {"init", "demo"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOTS)
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:[?-])?")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|_KEY_ID$|AUTH$")


def lists_in(service: dict[str, Any], key: str) -> list[str]:
    return [str(each) for each in service.get(key, [])]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_long_running_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_a_condition_and_never_only_for_a_start(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == ("service_completed_successfully" if other in ONE_SHOTS else "service_healthy"), other
        same_profiles = set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))
        assert same_profiles or how["required"] is False, other


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges_and_a_bounded_restart(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].partition(":")[0] not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name in ONE_SHOTS else "on-failure:5")


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_published_on_this_machine_alone(name: str) -> None:
    published = {"api-server": 8080, "s3": 8333, "grafana": 3000}
    ports = lists_in(SERVICES[name], "ports")
    assert [re.fullmatch(r"127\.0\.0\.1:\$\{SERVER_[A-Z0-9_]*PORT:-\d+\}:(\d+)", port) is not None for port in ports] == [True] * len(ports)
    assert [int(port.rpartition(":")[2]) for port in ports] == ([published[name]] if name in published else [])


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_stands_in_the_file(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(variable):
            assert value == "" or re.fullmatch(r"\$\{SERVER_[A-Z0-9_]+:\?[^}]+\}", value), variable


@pytest.mark.parametrize("name", SERVICES)
def test_no_command_line_has_a_password_or_key(name: str) -> None:
    service = SERVICES[name]
    words = json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
    assert not [variable for variable, _ in VARIABLE.findall(words) if SECRET.search(variable)]


@pytest.mark.parametrize("name", SERVICES)
def test_data_is_in_named_volumes_and_other_mounts_are_read_only(name: str) -> None:
    for volume in lists_in(SERVICES[name], "volumes"):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (volume.startswith("./") and volume.endswith(":ro") and (ROOT / source).exists()), volume


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_version(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert tag == "local" if "build" in SERVICES[name] else re.match(r"v?\d", tag)


def test_compose_refuses_a_missing_password_and_names_the_fix() -> None:
    without_default = {(name, how) for name, how in VARIABLE.findall(TEXT) if how != ":-"}
    assert {how for _, how in without_default} == {":?"}
    assert set(re.findall(r":\?([^}]*)\}", TEXT)) == {"run bin/secrets, which writes .env"}


def test_the_example_explains_each_variable_and_none_that_is_not_read() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^# ((?:SERVER|AIRFLOW|COMPOSE)_\w+)='", example, re.MULTILINE))
    assert named - {"COMPOSE_PROFILES"} == {name for name, _ in VARIABLE.findall(TEXT)}


def test_postgres_accepts_the_connections_of_airflow_and_all_parallel_tasks() -> None:
    airflow = importlib.util.find_spec("airflow")
    assert airflow
    options = Path((airflow.submodule_search_locations or [""])[0]) / "config_templates" / "config.yml"
    parallelism = int(yaml.safe_load(options.read_text())["core"]["options"]["parallelism"]["default"])
    given = re.search(r"max_connections=\$\{SERVER_POSTGRES_CONNECTIONS:-(\d+)\}", " ".join(SERVICES["postgres"]["command"]))
    assert given
    assert int(given[1]) >= parallelism * Settings().db_pool_max + 80


# ── bin/secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a bin/secrets in it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "secrets").write_bytes((ROOT / "bin" / "secrets").read_bytes())
    return tmp_path


def secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "bin" / "secrets")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603  # a constant command


def written(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines if line)}


def test_secrets_writes_all_values_that_compose_requires_readable_by_the_owner_only(folder: Path) -> None:
    assert secrets(folder).returncode == 0
    made = written(folder)
    assert made.keys() == {name for name, how in VARIABLE.findall(TEXT) if how == ":?"}
    assert len(set(made.values())) == len(made)
    assert min(len(value) for name, value in made.items() if name != "AIRFLOW_UID") >= 16
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_secrets_overwrites_nothing_and_says_so(folder: Path) -> None:
    secrets(folder)
    before = (folder / ".env").read_bytes()
    again = secrets(folder)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "nothing was changed" in again.stderr
    assert (folder / ".env").read_bytes() == before


def test_secrets_adds_values_that_a_newer_version_requires(folder: Path) -> None:
    (folder / ".env").write_text("ANOMALY_DETECTOR_SLOTS='8'\nSERVER_POSTGRES_PASSWORD='kept'")
    assert secrets(folder).returncode == 0
    made = written(folder)
    assert (made["ANOMALY_DETECTOR_SLOTS"], made["SERVER_POSTGRES_PASSWORD"]) == ("8", "kept")
    assert len(made["SERVER_JWT_SECRET"]) == 128


def test_what_secrets_writes_changes_nothing_for_the_commands_of_bin(folder: Path) -> None:
    secrets(folder)
    read_by_others = ("AIRFLOW_", "ANOMALY_", "PG", "AWS_", "PYTHON")
    assert [name for name in written(folder) if name.startswith(read_by_others)] == ["AIRFLOW_UID"]
    shell = ["bash", "-c", 'set -a; . "$1"; echo "$SERVER_FERNET_KEY"', "bash", str(folder / ".env")]
    said = subprocess.run(shell, capture_output=True, text=True, check=True, timeout=30, env={"PATH": os.environ["PATH"]})  # noqa: S603  # a constant command
    assert said.stdout.strip() == written(folder)["SERVER_FERNET_KEY"]


# ── metrics


def test_the_dashboard_queries_the_provisioned_data_source() -> None:
    provisioned = ROOT / "deploy" / "metrics" / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    panels = json.loads((ROOT / "deploy" / "metrics" / "grafana" / "dashboards" / "anomaly.json").read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}


# ── the production image


def test_the_production_image_holds_nothing_of_the_development_packages() -> None:
    stage = (ROOT / "Dockerfile").read_text().partition(" AS airflow\n")[2]
    folders = {word.partition("/")[0] for line in re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE) for word in line.split()}
    assert folders == {"requirements.txt", "constraints.txt", "config", "dags", "deploy", "include", "plugins"}


def test_what_the_production_image_holds_imports_nothing_of_the_development_packages() -> None:
    imported = {
        name.partition(".")[0]
        for folder in ("config", "dags", "deploy", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert "anomaly" in imported
    assert imported.isdisjoint({"benchmarks", "embedded", "reference_detector", "tests"})
