"""The records database of a command, and the options that choose records in it."""

from __future__ import annotations

import contextlib
import difflib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from anomaly.db.client import Database

F = TypeVar("F", bound="Callable[..., Any]")


def _dsn(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    from anomaly import connections

    return value or connections.records_dsn()


dsn_option = click.option("--dsn", callback=_dsn, help="URI of the records database.  [default: Airflow's connection anomaly_db]")


@contextlib.contextmanager
def records_database() -> Iterator[Database]:
    """Open the database of the connection `anomaly_db`."""
    from anomaly import connections
    from anomaly.settings import Settings

    with connections.database(Settings.from_environ(os.environ)) as opened:
        yield opened


def window_options(command: F) -> F:
    """Add the options `--window-start` and `--window-end`, in UTC unless they have an offset."""
    for name, side in (("--window-end", "before this time"), ("--window-start", "at this time or later")):
        about = f"Only records captured {side}, such as 2026-01-31."
        command = click.option(name, metavar="TIME", callback=_time, help=about)(command)
    return command


def _time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time such as 2026-01-31 or 2026-01-31T08:00+01:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def check_name(kind: str, given: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known, with the nearest one.

    Raises:
        click.BadParameter: it is not among *known*.
    """
    known = list(known)
    if given not in known:
        near = difflib.get_close_matches(given, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none yet'}"
        raise click.BadParameter(f"there is no {kind} {given!r}; {hint}")


def check_code(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return an error code that exists, for the callback of an option."""
    from anomaly.advice import ADVICE

    if value is not None:
        check_name("error code", value, ADVICE)
    return value
