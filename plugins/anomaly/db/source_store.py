"""Finds the rows of a source that are not yet records, and adds them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly.db import source_sql
from anomaly.db.source_check import SourceTable, describe, faults
from anomaly.errors import Misconfigured
from anomaly.models.source import RECORDS_DB, ROW_INVALID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.runs import Window
    from anomaly.models.source import Source

log = logging.getLogger(__name__)

PAGE = 5000
"""Rows that one statement reads or adds, which keeps transactions short."""
KEYS_NAMED = 5
"""Most keys of invalid rows that a warning names."""


@dataclass(slots=True)
class Found:
    """Counts of rows that were looked at."""

    added: int = 0
    changed: int = 0
    invalid: int = 0
    faults: list[str] = field(default_factory=list)
    """Keys of the first invalid rows, each with its fault."""

    def reject(self, key: str, fault: str) -> None:
        self.invalid += 1
        if len(self.faults) < KEYS_NAMED:
            self.faults.append(f"{key}: {fault}")


def usable(database: Database, source: Source) -> SourceTable:
    """Return the table of a source that can be used as it is configured.

    Raises:
        Misconfigured: it cannot.
    """
    table = describe(database, source)
    if fault := next(faults(database, source, table), None):
        raise Misconfigured(f"source {source.name}: {fault}")
    return table


def with_write_back(database: Database, sources: Sequence[Source]) -> Database:
    """Return the records database with statements that also write to the rows of sources, as these are configured.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    writing = [(source, usable(database, source).types) for source in sources if source.write_back]
    if not writing:
        return database
    return database.including({name: source_sql.written(name, database.text(name), writing) for name in source_sql.WRITTEN})


def detach_source(database: Database, name: str) -> bool:
    """Remove the trigger of a source and its registration. Return False if it was not registered."""
    database.including({"drop_trigger": source_sql.drop_trigger(name)}).run("drop_trigger")
    return bool(database.fetch_all("delete_source", {"source": name}))


class SourceStore:
    """The rows of one source, and the records that are made of them.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.

    Args:
        records: the records database.
        rows: the database of the source, which may be the same.
    """

    def __init__(self, source: Source, *, records: Database, rows: Database, page: int = PAGE) -> None:
        self._source = source
        self._records = records
        self._described = rows
        self._page = page

    def faults(self) -> list[str]:
        """Return a sentence for each reason why the source cannot be used as it is configured."""
        return list(faults(self._described, self._source, describe(self._described, self._source)))

    @property
    def name(self) -> str:
        return self._source.name

    def attach(self, *, trigger: bool) -> str:
        """Check and register the source, with a trigger on its table if asked for, and return a sentence about how its rows are found.

        Raises:
            Misconfigured: the source cannot be used as it is configured.
        """
        source = self._source
        table = usable(self._described, source)
        if trigger:
            if table.is_view or source.connection != RECORDS_DB:
                raise Misconfigured(f"source {source.name}: a trigger needs a table in the database of {RECORDS_DB}")
            statements = source_sql.trigger(source, table.types)
            database = self._records.including(statements)
            for name in statements:
                database.run(name)
        self._register()
        if trigger or table.has_trigger(source):
            return "a trigger adds its rows; those of before are looked for by the next run"
        index = "" if table.has_index(source) else f"; create an index on {source.captured_at!r}, or each run reads the whole table"
        return f"each run looks for its rows, with a look-back of {source.look_back}{index}"

    def find_all(self) -> Found:
        """Add all rows that are not yet records, whenever they were captured, and take over what has changed.

        Raises:
            Misconfigured: the source cannot be used as it is configured.
        """
        table = usable(self._described, self._source)
        self._register()
        return self._logged(self._pass(table.types, start=None, end=None, most=None, moves=True))

    def find(self, window: Window, *, most: int | None) -> Found:
        """Add the rows of the window that are not yet records, at most *most*, and take over what has changed.

        Without a start of the window, rows are looked at that were captured after those that an earlier call has looked at, and for the
        time of `look_back` before. With a trigger on the table, nothing is looked for once all rows have been looked at.

        Raises:
            Misconfigured: the source cannot be used as it is configured.
        """
        source = self._source
        table = usable(self._described, source)
        until = self._register()
        if until and table.has_trigger(source) and not window.start:
            return Found()
        start = window.start or (until - source.look_back if until else None)
        return self._logged(self._pass(table.types, start=start, end=window.end, most=most, moves=not window.start))

    def _register(self) -> datetime | None:
        """Register the source, and return until when its rows have been looked at."""
        params = {"source": self._source.name, "source_config": self._source.finding_config()}
        until: datetime | None = self._records.fetch_all("register_source", params)[0]["found_until"]
        return until

    def _logged(self, found: Found) -> Found:
        source = self._source
        if found.invalid:
            log.warning("%s source=%s rows=%d %s", ROW_INVALID, source.name, found.invalid, "; ".join(found.faults))
        log.info("source looked at source=%s added=%d changed=%d invalid=%d", source.name, found.added, found.changed, found.invalid)
        return found

    def _pass(self, types: dict[str, str], *, start: datetime | None, end: datetime | None, most: int | None, moves: bool) -> Found:
        """Look at the rows from *start* to *end* page by page. *moves* if the position moves with them."""
        found = Found()
        rows = self._described.including({"page": source_sql.page(self._source, types), "undated": source_sql.undated(self._source, types)})
        after: tuple[str, str | None] = (start.isoformat() if start else "-infinity", None)
        until = end.isoformat() if end else "infinity"
        if start is None:
            undated = rows.fetch_all("undated", {})[0]
            for key in undated["keys"] or []:
                found.reject(key, "it has no time of capture")
            found.invalid += undated["rows"] - len(undated["keys"] or [])
        while page := rows.fetch_all("page", {"after": after[0], "after_key": after[1], "until": until, "size": self._page}):
            room = None if most is None else most - found.added
            self._add(page, found, room=room)
            if room is not None and most is not None and found.added >= most:
                return found  # rows of the page may be left
            after = (page[-1]["position"], page[-1]["key"])
            if moves:
                self._move(after[0])
            if len(page) < self._page:
                break
        if moves and end is None:
            self._move("infinity")
        elif moves and end:
            self._move(until)
        return found

    def _add(self, page: Sequence[dict[str, Any]], found: Found, *, room: int | None) -> None:
        valid: dict[str, dict[str, Any]] = {}
        for row in page:
            if row["fault"]:
                found.reject(row["key"], row["fault"])
            elif row["key"] in valid:
                found.reject(row["key"], "another row has the same key")
            else:
                valid[row["key"]] = row
        if not valid:
            return
        columns = {f"{name}s": [row[name] for row in valid.values()] for name in ("key", "image_url", "captured_at")}
        attributes = [row["attributes"] for row in valid.values()]
        again = self._source.on_change == "again"
        params = {**columns, "attributes": attributes, "source": self._source.name, "size": room, "again": again}
        added = self._records.fetch_all("add_source_rows", params)[0]
        found.added += added["added"]
        found.changed += added["changed"]

    def _move(self, until: str) -> None:
        params = {"source": self._source.name, "source_config": self._source.finding_config(), "found_until": until}
        self._records.fetch_all("set_source_position", params)
