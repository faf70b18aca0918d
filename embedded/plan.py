"""Decides which services `bin/run` starts itself, so that records of the user and of the demo never meet the other's services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import psycopg

from anomaly import connection_env
from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.errors import Misconfigured
from embedded.errors import RecordsMixed
from embedded.queries import row, statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVICES = {DB: "postgres", S3: "s3", DETECTOR: "reference-detector"}
"""The embedded service that replaces each connection that is not set."""
OWN = (DB, DETECTOR, IMAGES, S3, "AIRFLOW_CONN_ANOMALY_SOURCE", "ANOMALY_SOURCE")
"""Variables that a user sets for records of their own."""
LICENCE = "the demo's photos are licensed under CC-BY-NC-SA-4.0, not for commercial use; docs/data-set.md has their source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The services of one start."""

    demo: bool
    """Add the demo's photos as records. Only then may the embedded detector be asked."""
    given: frozenset[str]
    """Variables that are set."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, demo: bool) -> Self:
        """Return the plan for these variables: the demo if no connection is set or if it is asked for.

        Raises:
            Misconfigured: records of the user would go to the embedded detector, which knows only the demo's photos.
        """
        given = frozenset(name for name in OWN if environ.get(name))
        if given and not demo and DETECTOR not in given:
            fault = f"{min(given)} is set and {DETECTOR} is not, and the demo's detector knows only photos of solar cells"
            raise Misconfigured(f"{fault}: set {DETECTOR}, or start with --demo to add the demo's photos and use its detector")
        return cls(demo=demo or not given, given=given)

    def embeds(self, variable: str) -> bool:
        return variable not in self.given

    def lines(self, environ: Mapping[str, str]) -> Iterator[str]:
        """Yield lines that name the services that are embedded, and why, and those that are not."""
        embedded = [name for variable, name in SERVICES.items() if self.embeds(variable)]
        unset = [variable for variable in SERVICES if self.embeds(variable)]
        if not self.given:
            yield f"demo: no connection is set, so {_and(embedded)} are embedded, and photos of solar cells are the records"
        elif embedded:
            yield f"embedded: {_and(embedded)}, because {_and(unset)} {'is' if len(unset) == 1 else 'are'} not set"
        for variable in SERVICES:
            if not self.embeds(variable):
                yield f"yours: {_described(variable, environ[variable])} ({variable})"
        if self.demo:
            yield "demo: photos of solar cells are added as records, because of --demo" if self.given else LICENCE
        if self.demo and self.given:
            yield LICENCE


def check_records(plan: Plan, dsn: str) -> None:
    """Check that no record without a verdict would go to a detector that is not meant for it.

    Raises:
        RecordsMixed: there are such records.
    """
    with psycopg.connect(dsn) as connection:
        found = row(connection, statement("strangers"))
    if not plan.given and found["own"]:
        raise RecordsMixed(
            f"records that are not the demo's wait in its database, and its detector knows only photos of solar cells: set {DETECTOR}"
        )
    if not plan.demo and found["demo"]:
        raise RecordsMixed(
            "photos of the demo wait in your database and would go to your detector: start with --demo to send them, or delete them: "
            "delete from anomaly.records where status in ('pending', 'claimed') and attributes ? 'demo'"
        )


def _described(variable: str, value: str) -> str:
    """Return where a connection leads, without its secrets.

    Raises:
        Misconfigured: the value cannot be parsed.
    """
    of = connection_env.read(variable, value)
    host, separator, rest = (of.host or "").rpartition("@")  # a host that is a URL may hold a password
    address = (rest if separator else host or rest) + (f":{of.port}" if of.port else "")
    match variable:
        case str() if variable == DB:
            return f"the database {of.extra.get('dbname') or of.schema or ''} at {address or of.extra.get('host') or 'its default host'}"
        case str() if variable == S3:
            return f"the bucket {of.extra.get('bucket')} at {of.extra.get('endpoint_url') or 'AWS'}"
    return f"the detector at {address}"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
