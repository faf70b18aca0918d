"""Composes the statements on a source from the templates in `include/sql/source`.

Names from the configuration enter as quoted identifiers. The only text of the user that enters as SQL is the condition of a source.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from anomaly.db.statements import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import LiteralString

    from anomaly.models.source import Source, WriteBack

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

_NOW = {"timestamp with time zone": sql.SQL("now()")}
WRITTEN: Mapping[str, Mapping[WriteBack, sql.SQL]] = {
    "commit_verdict": {
        "is_anomaly": sql.SQL("%(is_anomaly)s::boolean"),
        "score": sql.SQL("%(score)s::double precision"),
        "label": sql.SQL("%(label)s::text"),
    },
    "add_review": {"reviewed": sql.SQL("(select review from decided)")},
}
"""Values that a statement writes to the row of a source, by the name of the statement; `processed_at` as well."""


@cache
def _template(name: str) -> sql.SQL:
    text: Any = (FOLDER / "source" / f"{name}.sql").read_text(encoding="utf-8")  # the files belong to the project
    return sql.SQL(text)


def page(source: Source, types: Mapping[str, str]) -> sql.Composed:
    """Return the statement that reads a page of rows. *types* has the type of each column."""
    captured, bound = TIMES[types[source.captured_at]]
    time = column(source.captured_at)
    return _template("page").format(
        key=key(source, types),
        image_url=column(source.image_url),
        captured_at=captured.format(time),
        position=captured.format(time),
        captured_at_column=time,
        attributes=_attributes(source),
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


def written(name: str, text: LiteralString, sources: Sequence[tuple[Source, Mapping[str, str]]]) -> sql.Composed:
    """Return the *text* of a statement of `WRITTEN` with parts that write to the rows of sources, each with the types of its columns.

    The statement has a part `held` with the id of the record, and its last line that begins in the first column is its `select`.
    """
    head, select, tail = text.rpartition("\nselect ")
    parts = [_write_back(f"written_{number}", name, source, types) for number, (source, types) in enumerate(sources)]
    if name == "add_review":  # a call of a function, which is made a part of the statement
        return _template("review").format(review=sql.SQL(text), written=sql.Composed(parts))
    return sql.Composed([sql.SQL(head + "\n"), *parts, sql.SQL(select + tail)])


def _write_back(part: str, name: str, source: Source, types: Mapping[str, str]) -> sql.Composed:
    values: dict[WriteBack, sql.Composable] = dict(WRITTEN[name])
    if "processed_at" in source.write_back and name == "commit_verdict":
        values["processed_at"] = _NOW.get(types[source.write_back["processed_at"]], sql.SQL("now() at time zone 'UTC'"))
    if "reviewed" in values and types.get(source.write_back.get("reviewed", "")) == "boolean":
        values["reviewed"] = sql.SQL("(select review is not null from decided)")
    assignments = [
        sql.SQL("{} = {}").format(_identifier(source.write_back[value]), values[value]) for value in source.write_back if value in values
    ]
    if not assignments:
        return sql.Composed([])
    own = sql.SQL("case when r.source = {} then {} end")
    ids = [own.format(literal(source.name), value) for value in id_values(source, types, sql.SQL("r.source_key"))]
    matches = [sql.SQL("{} = {}").format(column(each), value) for each, value in zip(source.id, ids, strict=True)]
    return _template("write_back").format(
        name=sql.Identifier(part),
        table=table(source),
        assignments=sql.SQL(", ").join(assignments),
        source=literal(source.name),
        matches=sql.SQL(" and ").join(matches),
    )


def trigger_name(source_name: str) -> str:
    """Return the name of the trigger of a source, and of its function."""
    return f"anomaly_source_{hashlib.sha256(source_name.encode()).hexdigest()[:16]}"


def trigger(source: Source, types: Mapping[str, str]) -> dict[str, sql.Composed]:
    """Return the statements that create the function and the trigger of a source, in their order."""
    name, time, url = trigger_name(source.name), column(source.captured_at), column(source.image_url)
    body = _template("trigger_body").format(
        source=literal(source.name),
        key=key(source, types),
        image_url=url,
        captured_at=TIMES[types[source.captured_at]][0].format(time),
        attributes=_attributes(source),
        again=sql.Literal(source.on_change == "again"),
        condition=condition(source),
    )
    function = sql.Identifier("anomaly", name)
    return {
        "create_function": _template("trigger_function").format(function=function, body=sql.Literal(body.as_string())),
        "create_trigger": _template("create_trigger").format(
            trigger=sql.Identifier(name),
            image_url=_identifier(source.image_url),
            captured_at=_identifier(source.captured_at),
            table=table(source),
            function=function,
        ),
    }


def drop_trigger(source_name: str) -> sql.Composed:
    """Return the statement that removes the function of a source, and its trigger."""
    return _template("drop_trigger").format(function=sql.Identifier("anomaly", trigger_name(source_name)))


def _attributes(source: Source) -> sql.Composed:
    pairs = [sql.SQL("{}, {}").format(literal(name), column(name)) for name in source.attributes]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def key(source: Source, types: Mapping[str, str], row: str = "source") -> sql.Composed:
    """Return the expression of a row's key: the text of a single column, or a JSON array of several."""
    parts = [KEYS[types[name]][0].format(column(name, row)) for name in source.id]
    return parts[0] if len(parts) == 1 else sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(parts))


def id_values(source: Source, types: Mapping[str, str], text: sql.Composable) -> Sequence[sql.Composed]:
    """Return the expressions of the columns of an id, from the *text* of a key."""
    if len(source.id) == 1:
        return [KEYS[types[source.id[0]]][1].format(text)]
    part = sql.SQL("({}::jsonb ->> {})")
    return [KEYS[types[name]][1].format(part.format(text, sql.Literal(number))) for number, name in enumerate(source.id)]


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
