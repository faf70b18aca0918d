"""A table of a user, as a source of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from anomaly.db.source_rows import PAGE
from anomaly.db.source_store import Found, SourceStore
from anomaly.models.runs import Window
from anomaly.models.source import sources_of

if TYPE_CHECKING:
    from anomaly.models.source import Source
    from tests.parts.record_builders import RecordsDb

PHOTOS = {"table": "shop.photos", "id": "photo_id", "image_url": "url", "captured_at": "taken_at"}
"""The configuration of the table that `create_photos` makes."""


def a_source(**changes: Any) -> Source:
    [made] = sources_of({**PHOTOS, **changes}, "a test")
    return made


def create_photos(db: RecordsDb, key: str = "bigint", *, captured: str = "timestamptz", count: int = 0) -> None:
    """Create the table `shop.photos` with *count* rows, captured a minute apart, the last one a minute ago."""
    db.do("create schema if not exists shop")
    statement = sql.SQL(
        """create table shop.photos (
               photo_id {} primary key, url text, taken_at {}, status text, updated_at text,
               verdict boolean, p real, class text, reviewed text, judged_at timestamptz)"""
    )
    db.sql.execute(statement.format(sql.SQL(key), sql.SQL(captured)))
    db.do("create index on shop.photos (taken_at)")
    add_photos(db, key, count=count)


def add_photos(db: RecordsDb, key: str = "bigint", *, first: int = 1, count: int = 1, url: str | None = None) -> None:
    """Insert rows with keys from *first*."""
    ids = {
        "bigint": sql.SQL("i"),
        "uuid": sql.SQL("md5(i::text)::uuid"),
        "text": sql.SQL("""'IMG ' || i || ' ''"%%'"""),
        "character(12)": sql.SQL("'c' || i"),
        "date": sql.SQL("date '2026-01-01' + i"),
    }
    db.sql.execute(
        sql.SQL(
            """insert into shop.photos (photo_id, url, taken_at)
               select {}, coalesce(%(url)s, 'http://images/' || i), now() - (%(last)s - i) * interval '1 minute'
                 from generate_series(%(first)s, %(first)s + %(count)s - 1) as i"""
        ).format(ids[key]),
        {"first": first, "count": count, "url": url, "last": first + count},
    )


def store_of(db: RecordsDb, source: Source | None = None, *, page: int = PAGE, **changes: Any) -> SourceStore:
    return SourceStore(source or a_source(**changes), records=db.database, rows=db.database, page=page)


def find(db: RecordsDb, *, window: Window | None = None, most: int | None = None, page: int = PAGE, **changes: Any) -> Found:
    """Look for new rows of the source once."""
    return store_of(db, page=page, **changes).find(window or Window(), most=most)
