"""Composes the statements on a source from the templates in `include/sql/source`.

Names from the configuration enter as quoted identifiers. The only text of the user that enters as SQL is the condition of a source.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from anomaly.db.source_types import KEYS, TIMES
from anomaly.db.statements import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import LiteralString

    from anomaly.models.source import Source, WriteBack

_NOW = {"timestamp with time zone": sql.SQL("now()")}
WRITTEN: Mapping[str, Mapping[WriteBack, sql.SQL]] = {
    "commit_verdict": {
        "is_anomaly": sql.SQL("(select is_anomaly from judged)"),
        "score": sql.SQL("%(score)s::double precision"),
        "label": sql.SQL("%(label)s::text"),
    },
    "add_review": {"reviewed": sql.SQL("(select review from decided)")},
    "follow_threshold": {"is_anomaly": sql.SQL("held.is_anomaly")},
}
"""Values that a statement writes to the row of a source, by the name of the statement; `processed_at` as well."""


READING = ("page", "incomplete", "changed_rows", "count_rows")
"""Statements that read rows, by the names of their templates."""


@cache
def _template(name: str, folder: Path = FOLDER) -> sql.SQL:
    text: Any = (folder / "source" / f"{name}.sql").read_text(encoding="utf-8")  # the files belong to the project
    return sql.SQL(text)


class SourceSql:
    """The statements on one source.

    Args:
        types: the type of each column.
        folder: the SQL files.
    """

    def __init__(self, source: Source, types: Mapping[str, str], *, folder: Path = FOLDER) -> None:
        self.source = source
        self._types = types
        self._folder = folder
        self._time = column(source.captured_at)
        self._read_time, self._bound = TIMES[types[source.captured_at]]

    def reading(self, name: str) -> sql.Composed:
        """Return a statement of `READING`."""
        made = {"page": self._page, "incomplete": self._incomplete, "changed_rows": self._changed_rows, "count_rows": self._count}
        return made[name]()

    def _page(self) -> sql.Composed:
        captured = self._read_time.format(self._time)
        return self.template("page").format(
            key=self._key(),
            image_url=column(self.source.image_url),
            captured_at=captured,
            captured_at_column=self._time,
            attributes=self._attributes(),
            table=self._table(),
            after=self._bound.format(sql.SQL("after")),
            until=sql.SQL("{} - interval '1 microsecond'").format(self._bound.format(sql.SQL("until"))),
            id=sql.SQL(", ").join(map(column, self.source.id)),
            after_id=sql.SQL(", ").join(self._id_values(sql.SQL("%(after_key)s::text"))),
            has_key=self._has_key(),
            condition=self._condition(),
        )

    def _incomplete(self) -> sql.Composed:
        return self.template("incomplete").format(
            key=self._key(),
            image_url=column(self.source.image_url),
            captured_at_column=self._time,
            table=self._table(),
            has_key=self._has_key(),
            condition=self._condition(),
        )

    def _changed_rows(self) -> sql.Composed:
        return self.template("changed_rows").format(
            captured_at=self._read_time.format(self._time),
            table=self._table(),
            matches=sql.SQL(" and ").join(self._matches(self._id_values(sql.SQL("wanted.key")))),
            condition=self._condition(),
        )

    def _count(self) -> sql.Composed:
        return self.template("count_rows").format(table=self._table(), condition=self._condition())

    def write_back(self, part: str, name: str) -> sql.Composed:
        """Return the *part* of a statement of `WRITTEN` that writes to the row; empty if it has nothing to write."""
        source = self.source
        values: dict[WriteBack, sql.Composable] = dict(WRITTEN[name])
        if "processed_at" in source.write_back and name == "commit_verdict":
            values["processed_at"] = _NOW.get(self._types[source.write_back["processed_at"]], sql.SQL("now() at time zone 'UTC'"))
        if "reviewed" in values and self._types.get(source.write_back.get("reviewed", "")) == "boolean":
            values["reviewed"] = sql.SQL("(select review is not null from decided)")
        columns = [(written, values[value]) for value, written in source.write_back.items() if value in values]
        assignments = [sql.SQL("{} = {}").format(_identifier(written), value) for written, value in columns]
        if not assignments:
            return sql.Composed([])
        own = sql.SQL("case when r.source = {} then {} end")
        ids = [own.format(literal(source.name), value) for value in self._id_values(sql.SQL("r.source_key"))]
        return self.template("write_back").format(
            name=sql.Identifier(part),
            table=self._table(),
            assignments=sql.SQL(", ").join(assignments),
            source=literal(source.name),
            matches=sql.SQL(" and ").join(self._matches(ids)),
        )

    def create_trigger(self) -> sql.Composed:
        """Return the statement that creates the function and the trigger."""
        body = self.template("trigger_body").format(added=self.added(sql.SQL("(select new.*)")))
        steps = self.template("trigger_steps").format(
            source=literal(self.source.name),
            function=sql.Identifier("anomaly", trigger_name(self.source.name)),
            body=sql.Literal(body.as_string()),
            trigger=sql.Identifier(trigger_name(self.source.name)),
            image_url=_identifier(self.source.image_url),
            captured_at=_identifier(self.source.captured_at),
            table=self._table(),
            added=self.added(self._table()),
        )
        return self.template("create_trigger").format(steps=sql.Literal(steps.as_string()))

    def added(self, rows: sql.Composable) -> sql.Composed:
        """Return the list and the clauses of a `select` that adds the *rows* as records."""
        return self.template("trigger_row").format(
            source=literal(self.source.name),
            key=self._key(),
            image_url=column(self.source.image_url),
            captured_at=self._read_time.format(self._time),
            attributes=self._attributes(),
            again=sql.Literal(self.source.on_change == "again"),
            rows=rows,
            has_key=self._has_key(),
            condition=self._condition(),
        )

    def template(self, name: str) -> sql.SQL:
        return _template(name, self._folder)

    def _key(self) -> sql.Composed:
        """Return the expression of a row's key: the text of a single column, or a JSON array of several."""
        parts = self._key_parts()
        return parts[0] if len(parts) == 1 else sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(parts))

    def _has_key(self) -> sql.Composed:
        return sql.SQL(" and ").join(sql.SQL("{} is not null").format(part) for part in self._key_parts())

    def _key_parts(self) -> list[sql.Composed]:
        return [KEYS[self._types[name]][0].format(column(name)) for name in self.source.id]

    def _matches(self, ids: Sequence[sql.Composed]) -> list[sql.Composed]:
        return [sql.SQL("{} = {}").format(column(each), value) for each, value in zip(self.source.id, ids, strict=True)]

    def _id_values(self, text: sql.Composable) -> Sequence[sql.Composed]:
        """Return the expressions of the columns of an id, from the *text* of a key."""
        if len(self.source.id) == 1:
            return [KEYS[self._types[self.source.id[0]]][1].format(text)]
        part = sql.SQL("({}::jsonb ->> {})")
        return [KEYS[self._types[name]][1].format(part.format(text, sql.Literal(number))) for number, name in enumerate(self.source.id)]

    def _attributes(self) -> sql.Composed:
        # A `json` may hold what `jsonb` refuses, such as a zero byte, so it becomes a text.
        values = [sql.SQL("{}::text" if self._types[name] == "json" else "{}").format(column(name)) for name in self.source.attributes]
        pairs = [sql.SQL("{}, {}").format(literal(name), value) for name, value in zip(self.source.attributes, values, strict=True)]
        return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))

    def _table(self) -> sql.Composed:
        return sql.SQL("{}.{}").format(*map(_identifier, self.source.table))

    def _condition(self) -> sql.Composable:
        """Return the user's condition in parentheses, which a comment at its end cannot open."""
        text: Any = (self.source.condition or "true").replace("%", "%%")
        return sql.SQL("(\n{}\n)").format(sql.SQL(text))


def written(name: str, text: LiteralString, sources: Sequence[SourceSql]) -> sql.Composed:
    """Return the *text* of a statement of `WRITTEN` with parts that write to the rows of sources.

    The statement has a part `held` with the id of the record, and its last line that begins in the first column is its `select`.
    """
    head, select, tail = text.rpartition("\nselect ")
    parts = [each.write_back(f"written_{number}", name) for number, each in enumerate(sources)]
    if name == "add_review":  # a call of a function, which is made a part of the statement
        return sources[0].template("review").format(review=sql.SQL(text), written=sql.Composed(parts))
    return sql.Composed([sql.SQL(head + "\n"), *parts, sql.SQL(select + tail)])


def trigger_name(source_name: str) -> str:
    """Return the name of the trigger of a source, and of its function."""
    return f"anomaly_source_{hashlib.sha256(source_name.encode()).hexdigest()[:16]}"


def drop_trigger(source_name: str, *, folder: Path = FOLDER) -> sql.Composed:
    """Return the statement that removes the function of a source, and its trigger."""
    return _template("drop_trigger", folder).format(function=sql.Identifier("anomaly", trigger_name(source_name)))


def column(name: str, row: str = "source") -> sql.Composed:
    return sql.SQL("{}.{}").format(_identifier(row), _identifier(name))


def literal(name: str) -> sql.Composable:
    return _doubled(sql.Literal(name))


def _identifier(name: str) -> sql.Composable:
    return _doubled(sql.Identifier(name))


def _doubled(quoted: sql.Composable) -> sql.Composable:
    """Return a quoted text for a statement with parameters, in which a percent sign is doubled."""
    text: Any = quoted.as_string().replace("%", "%%")
    return sql.SQL(text)
