"""The command line: `anomaly` in an installation, `bin/anomaly` in a checkout, `python -m anomaly` in both.

One module a command, each with a function `command`. Modules of this package import Airflow only inside functions, so that help and
errors of usage come at once. Exit status: 0 on success, 1 if the command failed or found something wrong, 2 for wrong usage.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import click

from anomaly.errors import AnomalyError
from anomaly.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    *("enqueue", "status", "errors", "records", "requeue", "compare", "export"),
    *("try-image", "try-detector"),
    *("page", "doctor", "init", "migrate", "check-sql", "attach", "detach", "resume-detector", "follow-thresholds"),
)
"""In the order of the help. The module of a command has its name, with `_` for `-`."""


class Commands(click.Group):
    """Loads the module of a command when it is named, and shows errors of the project as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AnomalyError as exc:
            click.echo(escaped(str(exc)), err=True)
            ctx.exit(1)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Detect anomalous images with Airflow.

    Exit status: 0 on success, 1 if the command failed or found something wrong, 2 if it was called wrongly.
    """
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"  # Airflow logs to stdout, between the lines of a command
    # As Airflow's own commands do: otherwise it finds no connection that is kept in its database.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    try:
        cli.main(arguments, prog_name="anomaly")
    except SystemExit as exc:
        return int(exc.code or 0)
