"""When `airflow dags backfill` is there, and when it stays away."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from airflow.cli import cli_config

from config import airflow_local_settings as settings


def names_in_dags(commands: list[object]) -> list[str]:
    group = next(c for c in commands if isinstance(c, cli_config.GroupCommand) and c.name == "dags")
    return [command.name for command in group.subcommands]


def airflows_commands() -> list[object]:
    return [command for command in cli_config.core_commands if command.name in {"dags", "tasks"}]


def test_the_command_is_added_to_the_group_dags_once_however_often_it_is_asked_for() -> None:
    commands = airflows_commands()
    before = names_in_dags(commands)
    settings.add_command(commands, cli_config, "3.3.2")
    settings.add_command(commands, cli_config, "3.3.2")
    assert names_in_dags(commands) == [*before, "backfill"]


@pytest.mark.parametrize("version", ["2.11.0", "3.2.1", "3.4.0", "3.30.0", "4.0.0"])
def test_another_airflow_keeps_its_commands_as_they_are(version: str) -> None:
    commands = airflows_commands()
    settings.add_command(commands, cli_config, version)
    assert commands == airflows_commands()


@pytest.mark.parametrize(
    "unlike_ours",
    [
        pytest.param(SimpleNamespace(), id="no command list"),
        pytest.param(SimpleNamespace(core_commands=[]), id="no group dags"),
        pytest.param(SimpleNamespace(core_commands=[SimpleNamespace(name="dags", subcommands=())]), id="groups of another kind"),
    ],
)
def test_a_command_list_of_another_shape_breaks_nothing(unlike_ours: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.cli.cli_config", unlike_ours)
    monkeypatch.setattr("airflow.cli.cli_config", unlike_ours)
    before = repr(unlike_ours)
    settings.install()
    assert repr(unlike_ours) == before


@pytest.mark.parametrize(
    ("argv", "orig_argv", "is_one"),
    [
        (["/venv/bin/airflow", "dags", "backfill"], ["python", "/venv/bin/airflow", "dags", "backfill"], True),
        (["-m", "dags", "list"], ["python", "-m", "airflow", "dags", "list"], True),
        (["/venv/bin/airflow", "scheduler"], ["python", "/venv/bin/airflow", "scheduler"], False),
        (["/venv/bin/airflow"], ["python", "/venv/bin/airflow"], False),
        (["-m", "dags", "list"], ["python", "-m", "pytest", "dags", "list"], False),
        (["/venv/bin/gunicorn", "dags"], ["python", "/venv/bin/gunicorn", "dags"], False),
        (["-c", "dags"], ["python", "-c", "import airflow", "dags"], False),
        ([], [], False),
    ],
)
def test_only_the_dags_commands_of_airflows_own_program_pay_for_it(argv: list[str], orig_argv: list[str], is_one: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert settings.is_dags_command(argv, orig_argv) is is_one


def test_airflow_copies_no_name_of_it_into_its_settings() -> None:
    assert settings.__all__ == []
