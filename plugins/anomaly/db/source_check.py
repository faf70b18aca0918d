"""Checks a source against its database: that the table or view is there and can be used as it is configured."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly.db import source_sql
from anomaly.db.errors import reading_source
from anomaly.db.source_types import KEYS, TIMES
from anomaly.errors import Misconfigured
from anomaly.models.source import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anomaly.db.client import Database
    from anomaly.models.source import Source, WriteBack

TEXTS = frozenset({"text", "character varying", "character"})
WRITTEN_TYPES: Mapping[WriteBack, frozenset[str]] = {
    "is_anomaly": frozenset({"boolean"}),
    "score": frozenset({"double precision", "real", "numeric"}),
    "label": TEXTS,
    "reviewed": TEXTS | {"boolean"},
    "processed_at": frozenset(TIMES),
}
"""Types of a column by the value that is written to it."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The table or view of a source, as its catalog describes it to the login."""

    columns: Mapping[str, Mapping[str, Any]]
    """Columns by name, each with the properties of the relation as well."""

    @property
    def types(self) -> dict[str, str]:
        return {name: column["type"] for name, column in self.columns.items()}

    @property
    def relation(self) -> Mapping[str, Any]:
        return next(iter(self.columns.values()))

    @property
    def is_view(self) -> bool:
        return self.relation["kind"] in {"v", "m", "f"}

    def ensures_keys(self, source: Source) -> bool:
        """Return whether an index ensures that a key belongs to one row."""
        return not self.is_view and self._is_unique(source, apart_from=())

    def nearly_ensures_keys(self, source: Source) -> bool:
        """Return whether an index ensures that a key belongs to one row of each partition."""
        return self._is_unique(source, apart_from=self.relation["partition_key"])

    def _is_unique(self, source: Source, *, apart_from: Sequence[str]) -> bool:
        keys = [set(columns) - set(apart_from) for columns in self.relation["unique_keys"] or []]
        return any(columns and columns <= set(source.id) for columns in keys)

    def has_trigger(self, source: Source) -> bool:
        """Return whether a trigger of `anomaly attach` adds the rows of the source."""
        return source_sql.trigger_name(source.name) in self.relation["triggers"]

    def computed_when_read(self, source: Source) -> str | None:
        """Return a column that records are made of and that is stored nowhere."""
        return next((name for name in _read(source) if self.columns[name]["generated"] == "v"), None)

    def has_index(self, source: Source) -> bool:
        """Return whether an index leads to the rows of a range of time. An index on a table below a view is not seen."""
        return self.is_view or bool(self.columns[source.captured_at]["indexed"])


def describe(database: Database, source: Source) -> SourceTable:
    """Return the table of a source; without columns if there is none."""
    schema_name, table_name = source.table
    with reading_source(source.name, source.connection):
        rows = database.fetch_all("describe_source", {"schema_name": schema_name, "table_name": table_name})
    return SourceTable({row["name"]: row for row in rows})


def usable(database: Database, source: Source) -> SourceTable:
    """Return the table of a source that can be used as it is configured.

    Raises:
        Misconfigured: it cannot.
    """
    table = describe(database, source)
    if fault := next(faults(database, source, table), None):
        raise Misconfigured(f"source {source.name}: {fault}")
    return table


def faults(database: Database, source: Source, found: SourceTable) -> Iterator[str]:
    """Yield a sentence for each reason why a source cannot be used as it is configured. Reads catalogs only."""
    if not found.columns:
        with reading_source(source.name, source.connection):
            relations = database.fetch_all("find_relations", {})
        there = [f"{row['schema_name']}.{row['table_name']}" for row in relations]
        near = difflib.get_close_matches(source.label, there, n=1)
        yield f"there is no table or view {source.label}{f'; did you mean {near[0]}?' if near else ''}"
        return
    if not found.relation["usable"]:
        yield f"the login may not use the schema {source.table[0]}: grant usage on schema {source.table[0]} to it"
        return
    if unknown := [name for name in _columns(source) if name not in found.columns]:
        yield from (f"{source.label} has no column {name!r}; {nearest(name, list(found.columns))}" for name in unknown)
        return
    if wrong := list(_wrong_types(source, found)):
        yield from wrong
        return
    if locked := [name for name in _read(source) if not found.columns[name]["readable"]]:
        yield f"the login may not read {', '.join(map(repr, locked))} of {source.label}: grant select on it"
    if not found.is_view and not found.nearly_ensures_keys(source):
        columns = ", ".join(map(repr, source.id))
        yield f"{source.label} has no unique index on {columns}, so several rows may have one key: create one, or name another id"
    if source.write_back:
        yield from _unwritable(source, found)


def _read(source: Source) -> list[str]:
    return [*source.id, source.image_url, source.captured_at, *source.attributes]


def _columns(source: Source) -> list[str]:
    return list(dict.fromkeys([*_read(source), *source.write_back.values()]))


def _wrong_types(source: Source, found: SourceTable) -> Iterator[str]:
    wanted = [("id", name, frozenset(KEYS)) for name in source.id]
    wanted += [("image_url", source.image_url, TEXTS), ("captured_at", source.captured_at, frozenset(TIMES))]
    wanted += [(value, name, WRITTEN_TYPES[value]) for value, name in source.write_back.items()]
    for use, name, types in wanted:
        if (type_ := found.types[name]) not in types:
            yield f"{source.label}: the column {name!r} is {type_}, and {use} needs {' or '.join(sorted(types))}"


def _unwritable(source: Source, found: SourceTable) -> Iterator[str]:
    names = list(source.write_back.values())
    if found.relation["read_only"]:
        yield f"{source.label} is in a read-only database, so write_back is not possible: name the primary server, or remove write_back"
    elif not found.relation["updatable"]:
        yield f"{source.label} cannot be updated, so write_back is not possible: remove it, or name a table or a simple view"
    elif found.relation["row_security"]:
        fix = "exempt the login (bypassrls), or remove write_back"
        yield f"row-level security of {source.label} applies to the login and may hide rows from write_back: {fix}"
    if generated := [name for name in names if found.columns[name]["generated"]]:
        yield f"{source.label}: {', '.join(map(repr, generated))} is generated and cannot be written"
    if locked := [name for name in names if not found.columns[name]["writable"]]:
        yield f"the login may not write {', '.join(map(repr, locked))} of {source.label}: grant update on it"
