"""Finds the rows of a source that are not yet records, and adds them."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly.db import source_sql
from anomaly.db.errors import reading_source
from anomaly.db.session import FIRST_TIME
from anomaly.db.source_check import SourceTable, describe, faults, usable
from anomaly.db.source_rows import PAGE, Refused, SourcePreview, SourceRows, valid_rows
from anomaly.db.source_sql import SourceSql
from anomaly.errors import Misconfigured
from anomaly.models.source import RECORDS_DB, ROW_INVALID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.runs import Window
    from anomaly.models.source import Source

    Rows = dict[str, dict[str, Any]]
    """Rows by key."""

log = logging.getLogger(__name__)

FIRST, LAST = "-infinity", "infinity"
"""Bounds of the times of capture."""
LOOKED_AT_AGAIN = 100
"""Rows of a view that a preview reads twice."""


@dataclass(slots=True)
class Found:
    """Counts of rows that were looked at."""

    added: int = 0
    changed: int = 0
    refused: Refused = field(default_factory=Refused)


def with_write_back(database: Database, sources: Sequence[Source]) -> Database:
    """Return the records database with statements that also write to the rows of sources, as these are configured.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    writing = [SourceSql(source, usable(database, source).types) for source in sources if source.write_back]
    if not writing:
        return database
    return database.including({name: source_sql.written(name, database.statements[name], writing) for name in source_sql.WRITTEN})


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
        """Return a sentence for each reason why the source cannot be used as it is configured.

        Reads the rows that the next look begins with.
        """
        if found := list(faults(self._described, self._source, describe(self._described, self._source))):
            return found
        try:
            self.preview()
        except Misconfigured as exc:
            return [str(exc).removeprefix(f"source {self.name}: ")]
        return []

    def preview(self) -> SourcePreview:
        """Look at the rows that the next look begins with. Changes nothing.

        Raises:
            Misconfigured: the source cannot be used as it is configured.
        """
        source, refused = self._source, Refused()
        table = usable(self._described, source)
        rows = self._rows(table)
        position = self._records.fetch_one("source_position", self._registration())
        start = self._start(position["found_until"] if position else None)
        if start is None:
            rows.refuse_incomplete(refused)
        page = rows.page(after=(_text(start, FIRST), None), until=LAST)
        valid = valid_rows(page, refused)
        if not table.ensures_keys(source):
            for key, fault in rows.unsettled(dict(itertools.islice(valid.items(), LOOKED_AT_AGAIN))).items():
                refused.add(key, fault)
                del valid[key]
        known = len(self._records.fetch_all("known_source_keys", {"source": source.name, "keys": list(valid)}))
        example = next(iter(valid.values()), None)
        return SourcePreview(rows=rows.count(), looked_at=len(page), new=len(valid) - known, known=known, refused=refused, example=example)

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
            self._create_trigger(table)
        self._register()
        if trigger or table.has_trigger(source):
            return "a trigger adds its rows; those of before are looked for by the next run"
        index = "" if table.has_index(source) else f"; create an index on {source.captured_at!r}, or each run reads the whole table"
        return f"each run looks for its rows, with a look-back of {source.look_back.total_seconds() / 3600:g} h{index}"

    def find_all(self) -> Found:
        """Add all rows that are not yet records, whenever they were captured, and take over what has changed.

        Raises:
            Misconfigured: the source cannot be used as it is configured.
        """
        table = usable(self._described, self._source)
        self._register()
        return self._logged(self._pass(table, start=None, end=None, most=None, moves=True))

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
        start = window.start or self._start(until)
        return self._logged(self._pass(table, start=start, end=window.end, most=most, moves=not window.start))

    def _start(self, until: datetime | None) -> datetime | None:
        """Return the time from which rows are looked at if all before *until* have been; None for the beginning."""
        look_back = self._source.look_back
        return until - look_back if until and until - FIRST_TIME > look_back else None

    def _create_trigger(self, table: SourceTable) -> None:
        source = self._source
        if table.is_view or source.connection != RECORDS_DB:
            raise Misconfigured(f"source {source.name}: a trigger needs a table in the database of {RECORDS_DB}")
        if unseen := table.computed_when_read(source):
            raise Misconfigured(f"source {source.name}: a trigger does not see {unseen!r}, a column that is computed when it is read")
        database = self._records.including({"create_trigger": SourceSql(source, table.types).create_trigger()})
        with reading_source(source.name, source.connection):
            database.run("create_trigger")

    def _registration(self) -> dict[str, str]:
        return {"source": self._source.name, "source_config": self._source.finding_config()}

    def _register(self) -> datetime | None:
        """Register the source, and return until when its rows have been looked at."""
        until: datetime | None = self._records.fetch_all("register_source", self._registration())[0]["found_until"]
        return until

    def _rows(self, table: SourceTable) -> SourceRows:
        return SourceRows(self._described, SourceSql(self._source, table.types), size=self._page)

    def _logged(self, found: Found) -> Found:
        name, invalid = self._source.name, found.refused.rows
        if invalid:
            log.warning("%s source=%s rows=%d %s", ROW_INVALID, name, invalid, "; ".join(found.refused.faults))
        log.info("source looked at source=%s added=%d changed=%d invalid=%d", name, found.added, found.changed, invalid)
        return found

    def _pass(self, table: SourceTable, *, start: datetime | None, end: datetime | None, most: int | None, moves: bool) -> Found:
        """Look at the rows from *start* to *end* page by page. *moves* if the position moves with them."""
        found, rows = Found(), self._rows(table)
        settles = not table.ensures_keys(self._source)
        before: list[str] = []
        after: tuple[str, str | None] = (_text(start, FIRST), None)
        until = _text(end, LAST)
        if start is None:
            rows.refuse_incomplete(found.refused)
        while page := rows.page(after=after, until=until):
            room = None if most is None else most - found.added
            if before == (before := [row["key"] for row in page]) and len(page) > 1:
                raise Misconfigured(f"source {self.name}: its rows move while they are read: name a time of capture that is stored")
            self._add(valid_rows(page, found.refused), found, room=room, unsettled=rows.unsettled if settles else None)
            if room is not None and most is not None and found.added >= most:
                return found  # rows of the page may be left
            after = (page[-1]["captured_at"], page[-1]["key"])
            if moves:
                self._move(after[0])
            if len(page) < rows.size:
                break
        if moves:
            self._move(until)
        return found

    def _add(self, valid: Rows, found: Found, *, room: int | None, unsettled: Callable[[Rows], dict[str, str]] | None) -> None:
        """Add rows by key. With *unsettled*, changes are applied only to rows that it does not return, or two rows would take turns."""
        added = self._add_rows(valid, room=room, apply_changes=unsettled is None)
        found.added += added["added"]
        if unsettled and (changed := {key: valid[key] for key in added["differing"]}):
            for key, fault in unsettled(changed).items():
                found.refused.add(key, fault)
                del changed[key]
            added = self._add_rows(changed, room=0, apply_changes=True)
        found.changed += added["changed"]

    def _add_rows(self, rows: Rows, *, room: int | None, apply_changes: bool) -> dict[str, Any]:
        if not rows:
            return {"added": 0, "changed": 0, "differing": []}
        columns = {f"{name}s": [row[name] for row in rows.values()] for name in ("key", "image_url", "captured_at")}
        attributes = [row["attributes"] for row in rows.values()]
        source = {"source": self._source.name, "again": self._source.on_change == "again"}
        params = {**columns, **source, "attributes": attributes, "size": room, "apply_changes": apply_changes}
        return self._records.fetch_all("add_source_rows", params)[0]

    def _move(self, until: str) -> None:
        self._records.fetch_all("set_source_position", {**self._registration(), "found_until": until})


def _text(time: datetime | None, default: str) -> str:
    return time.isoformat() if time else default
