"""Composes the statements on a source from the templates in `include/sql/source`.

Names from the configuration enter as quoted identifiers. The only text of the user that enters as SQL is the condition of a source.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from anomaly.db.statements import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.models.source import Source

TIMES = {
    "timestamp with time zone": (sql.SQL("{}"), sql.SQL("%({})s::timestamptz")),
    "timestamp without time zone": (sql.SQL("({} at time zone 'UTC')"), sql.SQL("(%({})s::timestamptz at time zone 'UTC')")),
    "date": (sql.SQL("({}::timestamp at time zone 'UTC')"), sql.SQL("(%({})s::timestamptz at time zone 'UTC')")),
}
"""Types of a time of capture: how a column is read as a `timestamptz`, and how a parameter is compared with it."""
_DAY, _MICROSECOND = "YYYY-MM-DD", "YYYY-MM-DD HH24:MI:SS.US"
KEYS = {
    "smallint": (sql.SQL("{}::text"), sql.SQL("{}::smallint")),
    "integer": (sql.SQL("{}::text"), sql.SQL("{}::integer")),
    "bigint": (sql.SQL("{}::text"), sql.SQL("{}::bigint")),
    "uuid": (sql.SQL("{}::text"), sql.SQL("{}::uuid")),
    "text": (sql.SQL("{}::text"), sql.SQL("{}::text")),
    "character varying": (sql.SQL("{}::text"), sql.SQL("{}::text")),
    "character": (sql.SQL("{}::text"), sql.SQL("{}::bpchar")),
    "date": (sql.SQL(f"to_char({{}}, '{_DAY}')"), sql.SQL("{}::date")),
    "timestamp without time zone": (sql.SQL(f"to_char({{}}, '{_MICROSECOND}')"), sql.SQL("{}::timestamp")),
    "timestamp with time zone": (
        sql.SQL(f"to_char({{}} at time zone 'UTC', '{_MICROSECOND}')"),
        sql.SQL("({}::timestamp at time zone 'UTC')"),
    ),
}
"""Types of a column of an id: how it is written as text whatever the settings of a session, and read again."""


@cache
def _template(name: str) -> sql.SQL:
    text: Any = (FOLDER / "source" / f"{name}.sql").read_text(encoding="utf-8")  # the files belong to the project
    return sql.SQL(text)


def page(source: Source, types: Mapping[str, str]) -> sql.Composed:
    """Return the statement that reads a page of rows. *types* has the type of each column."""
    captured, bound = TIMES[types[source.captured_at]]
    time = column(source.captured_at)
    attributes = [sql.SQL("{}, {}").format(literal(name), column(name)) for name in source.attributes]
    return _template("page").format(
        key=key(source, types),
        image_url=column(source.image_url),
        captured_at=captured.format(time),
        position=captured.format(time),
        captured_at_column=time,
        attributes=sql.SQL("jsonb_build_object({})::text").format(sql.SQL(", ").join(attributes)),
        table=table(source),
        after=bound.format(sql.SQL("after")),
        until=sql.SQL("{} - interval '1 microsecond'").format(bound.format(sql.SQL("until"))),
        id=sql.SQL(", ").join(map(column, source.id)),
        after_id=sql.SQL(", ").join(id_values(source, types, sql.SQL("%(after_key)s::text"))),
        condition=condition(source),
    )


def undated(source: Source, types: Mapping[str, str]) -> sql.Composed:
    """Return the statement that counts the rows without a time of capture."""
    return _template("undated").format(
        key=key(source, types), captured_at_column=column(source.captured_at), table=table(source), condition=condition(source)
    )


def key(source: Source, types: Mapping[str, str], row: str = "source") -> sql.Composed:
    """Return the expression of a row's key: the text of a single column, or a JSON array of several."""
    parts = [KEYS[types[name]][0].format(column(name, row)) for name in source.id]
    return parts[0] if len(parts) == 1 else sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(parts))


def id_values(source: Source, types: Mapping[str, str], text: sql.Composable) -> Sequence[sql.Composed]:
    """Return the expressions of the columns of an id, from the *text* of a key."""
    if len(source.id) == 1:
        return [KEYS[types[source.id[0]]][1].format(text)]
    part = sql.SQL("({}::jsonb ->> {})")
    return [KEYS[types[name]][1].format(part.format(text, sql.SQL(str(number)))) for number, name in enumerate(source.id)]


def table(source: Source) -> sql.Composed:
    return sql.SQL("{}.{}").format(*map(_identifier, source.table))


def condition(source: Source) -> sql.Composable:
    """Return the user's condition in parentheses, which a comment at its end cannot open."""
    text: Any = (source.condition or "true").replace("%", "%%")
    return sql.SQL("(\n{}\n)").format(sql.SQL(text))


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
