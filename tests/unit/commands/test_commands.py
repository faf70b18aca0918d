"""The command line as a whole, and its page of the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from anomaly.commands import COMMANDS, cli, main
from tests.parts.command_line import commands

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "commands.md"
WIDTH = 100
ALL = commands()


def help_of(name: str) -> str:
    with click.Context(ALL[name], info_name=f"anomaly {name}", terminal_width=WIDTH, **cli.context_settings) as context:
        return context.get_help()


def test_every_module_with_a_command_is_in_the_list() -> None:
    modules = {path.stem.replace("_", "-") for path in Path(sys.modules["anomaly.commands"].__path__[0]).glob("*.py")}
    assert modules - {"--init--", "output", "database", "picture"} == set(COMMANDS)


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_examples_and_its_help_is_on_the_page(name: str) -> None:
    text = help_of(name)
    assert f"Examples:\n    anomaly {name}" in text
    assert "--json" in text
    (shown,) = re.findall(rf"^## {name}\n.*?^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shown == f"{text}\n", f"copy the output of: COLUMNS={WIDTH} bin/anomaly {name} --help"


def test_the_page_has_no_other_command() -> None:
    assert tuple(re.findall(r"^## ([a-z -]+)$", PAGE.read_text(), re.MULTILINE)) == tuple(ALL)


def test_help_does_not_import_airflow() -> None:
    code = "import sys; from anomaly.commands import main; main(['--help']); sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60).returncode == 0  # noqa: S603  # our own


@pytest.mark.parametrize("arguments", [["doctr"], ["doctor", "--dsn=x"], ["resume-detector"]])
def test_wrong_usage_has_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err
