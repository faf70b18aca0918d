"""The commands of the command line, and the examples in their help."""

from __future__ import annotations

import click

from anomaly.commands import cli


def commands() -> dict[str, click.Command]:
    """Return each command by its name, such as `records show`."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            found |= {f"{name} {below}": each for below, each in command.commands.items()}
        else:
            found[name] = command
    return found


def examples() -> list[str]:
    """Return the lines below `Examples:` in the help of each command."""
    return [line.strip() for command in commands().values() for line in (command.epilog or "").partition("Examples:\n")[2].splitlines()]
