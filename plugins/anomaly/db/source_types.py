"""Types that columns of a source may have, and how their values are read and compared."""

from __future__ import annotations

from psycopg import sql

TIMES = {
    "timestamp with time zone": (sql.SQL("{}"), sql.SQL("%({})s::timestamptz")),
    "timestamp without time zone": (sql.SQL("({} at time zone 'UTC')"), sql.SQL("(%({})s::timestamptz at time zone 'UTC')")),
    "date": (
        sql.SQL("(case when {0} < '10000-01-01' then {0}::timestamp at time zone 'UTC' else 'infinity' end)"),
        sql.SQL("(%({})s::timestamptz at time zone 'UTC')"),
    ),
}
"""Types of a time of capture: how a column is read as a `timestamptz`, and how a parameter is compared with it."""
_AS_TEXT = sql.SQL("{}::text")
_FOUR_DIGIT_YEAR = "case when {0} >= '0001-01-01' and {0} < '10000-01-01' then to_char({1}, '{2}') end"
_MICROSECOND = "YYYY-MM-DD HH24:MI:SS.US"
KEYS = {
    "smallint": (_AS_TEXT, sql.SQL("{}::smallint")),
    "integer": (_AS_TEXT, sql.SQL("{}::integer")),
    "bigint": (_AS_TEXT, sql.SQL("{}::bigint")),
    "numeric": (sql.SQL("trim_scale({})::text"), sql.SQL("{}::numeric")),
    "uuid": (_AS_TEXT, sql.SQL("{}::uuid")),
    "text": (_AS_TEXT, sql.SQL("{}::text")),
    "character varying": (_AS_TEXT, sql.SQL("{}::text")),
    "character": (_AS_TEXT, sql.SQL("{}::bpchar")),
    "date": (sql.SQL(_FOUR_DIGIT_YEAR.format("{0}", "{0}", "YYYY-MM-DD")), sql.SQL("{}::date")),
    "timestamp without time zone": (sql.SQL(_FOUR_DIGIT_YEAR.format("{0}", "{0}", _MICROSECOND)), sql.SQL("{}::timestamp")),
    "timestamp with time zone": (
        sql.SQL(_FOUR_DIGIT_YEAR.format("{0}", "{0} at time zone 'UTC'", _MICROSECOND)),
        sql.SQL("({}::timestamp at time zone 'UTC')"),
    ),
}
"""Types of a column of an id: how it is written as text whatever the settings of a session, and read again. The text is null if the value
has none that leads back to it."""
