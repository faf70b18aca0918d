"""Every example in the help of a command runs as it is written."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from anomaly.commands import COMMANDS, cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.commands.conftest import Installation


def examples() -> list[str]:
    """The lines below `Examples:` in the help of each command."""
    found = []
    for name in (each for each in COMMANDS if each != "page"):  # it serves until it is interrupted
        command = cli.get_command(click.Context(cli), name)
        assert command
        assert command.epilog
        found += [line.strip() for line in command.epilog.partition("Examples:\n")[2].splitlines()]
    return found


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_help_runs(example: str, installation: Installation, tmp_path: Path) -> None:
    installation.detector("anomaly_detector_v2")
    line = re.sub(r"postgresql://\S+db\.example\S+", installation.db.dsn, example)
    line = line.replace("/opt/airflow/", f"{tmp_path}/")
    program, *arguments = shlex.split(line)
    assert program == "anomaly"
    said = installation.run(*arguments)
    assert said.status == 0, said
    assert said.out
    assert said.err == ""
