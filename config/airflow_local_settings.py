"""Adds the command `airflow dags backfill` to Airflow 3.3, which Airflow 2 had.

Every Airflow program imports this file when it starts, so it does nothing unless the command line begins with `airflow dags`.
With another version of Airflow, or a command list of another shape, the command is absent and nothing else changes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__: list[str] = []  # Airflow copies every name listed here into its own settings

SUPPORTED = "3.3."

REFUSED: dict[tuple[str, ...], tuple[int, str]] = {
    ("-m", "--mark-success"): (0, "a backfill always runs its tasks; mark runs as successful in the Airflow UI"),
    ("-l", "--local"): (0, "the scheduler's own executor runs the tasks"),
    ("-x", "--donot-pickle"): (0, "DAGs are never pickled any more"),
    ("--continue-on-failures",): (0, "the runs of a backfill never stop each other"),
    ("--disable-retry",): (0, "the DAG decides how often its tasks are retried"),
    ("-i", "--ignore-dependencies"): (0, "a backfill always runs whole DAG runs, in the order of their tasks"),
    ("-I", "--ignore-first-depends-on-past"): (0, "depends_on_past holds for every run of a backfill"),
    ("-S", "--subdir"): (1, "the DAG is read from Airflow's database, as the DAG processor stored it"),
    ("--pool",): (1, "the DAG decides in which pool its tasks run"),
    ("--delay-on-limit",): (1, "the scheduler starts the next run as soon as the limit of active runs allows it"),
    ("--treat-dag-as-regex", "--treat-dag-id-as-regex"): (0, "a backfill is of one DAG, named in full"),
    ("-t", "--task-regex"): (1, "a backfill always runs whole DAG runs; clear single tasks with `airflow tasks clear`"),
}
"""Flags of Airflow 2 that have no meaning in Airflow 3: the number of their values, and the reason."""


class Refuse(argparse.Action):
    """Exits with one sentence: the flag, and the reason in its help."""

    def __call__(self, parser: argparse.ArgumentParser, _args: argparse.Namespace, _values: Any, flag: str | None = None) -> NoReturn:
        parser.exit(2, f"{parser.prog}: {flag} is {self.help}\n")


def _arguments(cli: Any) -> list[Any]:
    """Return the arguments of the command as Airflow defines arguments."""
    flag = {"action": "store_true"}
    first, last = "the first interval's start", "the last interval's start, itself included"
    return [
        cli.ARG_DAG_ID,
        cli.Arg(("-s", "--start-date"), help=f"{first}; alone: that one interval", type=cli.parsedate),
        cli.Arg(("-e", "--end-date"), help=f"{last}; alone: that one interval", type=cli.parsedate),
        cli.Arg(("-c", "--conf"), help="params of the runs, as a JSON object"),
        cli.Arg(("-n", "--dry-run"), help="show the runs that would be queued, and queue none", **flag),
        cli.Arg(("-B", "--run-backwards"), help="the newest interval first", **flag),
        cli.Arg(("--reset-dagruns",), help="clear runs that ended, failed or not, and queue them again", **flag),
        cli.Arg(("--rerun-failed-tasks",), help="clear runs that failed, as a whole, and queue them again", **flag),
        cli.Arg(("-y", "--yes"), help="accepted for old scripts: nothing is asked any more", **flag),
        cli.ARG_VERBOSE,
        *(cli.Arg(flags, help=f"refused: {why}", action=Refuse, nargs=values) for flags, (values, why) in REFUSED.items()),
    ]


def add_command(commands: list[Any], cli: Any, version: str) -> None:
    """Add `backfill` to the group `dags` in *commands*, unless it exists or does not fit."""
    if not version.startswith(SUPPORTED):
        return
    at, group = next((i, c) for i, c in enumerate(commands) if c.name == "dags")
    if any(command.name == "backfill" for command in group.subcommands):
        return
    command = cli.ActionCommand(
        name="backfill",
        help="Queue a DAG's runs over past dates",
        description="Queue a DAG's runs over past dates, and print how to follow them. The scheduler runs them.",
        func=cli.lazy_load_command(f"{__name__.removesuffix('airflow_local_settings')}dags_backfill.run"),
        args=_arguments(cli),
    )
    commands[at] = group._replace(subcommands=(*group.subcommands, command))


def is_dags_command(argv: Sequence[str], orig_argv: Sequence[str]) -> bool:
    """Return whether this is `airflow dags …` or `python -m airflow dags …`."""
    program = Path(argv[0]).name if argv else ""
    # While Python looks for the module of -m, argv[0] is "-m".
    is_airflow = program == "airflow" or (program == "-m" and "airflow" in orig_argv[: len(orig_argv) - len(argv) + 1])
    return is_airflow and list(argv[1:2]) == ["dags"]


def install() -> None:
    """Add the command to the running Airflow if its version is supported."""
    try:
        from airflow import __version__  # noqa: PLC0415 - only needed for this command
        from airflow.cli import cli_config  # noqa: PLC0415 - as above

        add_command(cli_config.core_commands, cli_config, __version__)
    except (ImportError, AttributeError, TypeError, StopIteration):
        return  # another Airflow, which has the command itself or refuses it


if is_dags_command(sys.argv, sys.orig_argv):
    install()
