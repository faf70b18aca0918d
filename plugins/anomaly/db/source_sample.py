"""The statements on sources, composed for a table of the project, so that edited templates can be planned without a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from anomaly.db.contracts import CONTRACTS, Contract
from anomaly.db.source_sql import SourceSql, drop_trigger, written
from anomaly.models.source import Source

if TYPE_CHECKING:
    from anomaly.db.statements import Statements

SAMPLE = Source(
    name="sample",
    table=("anomaly", "ai_flags"),
    id=("record_id", "detector"),
    image_url="label",
    captured_at="image_at",
    attributes=("detector",),
    write_back={"is_anomaly": "is_anomaly", "score": "score", "label": "label", "processed_at": "updated_at", "reviewed": "review"},
)
TYPES = {
    "record_id": "bigint",
    "detector": "text",
    "image_at": "timestamp with time zone",
    "updated_at": "timestamp with time zone",
    "review": "text",
}
PLANNED = {
    "changed_rows": Contract("keys", "key rows captured_at"),
    "count_rows": Contract("", "rows"),
    "incomplete": Contract("size", "key fault rows"),
    "page": Contract("after after_key until size", "key image_url captured_at attributes fault", ("order by", "limit")),
    "review": CONTRACTS["add_review"],
    "trigger_row": Contract("", "", ("anomaly.add_source_row",)),
    "write_back": CONTRACTS["commit_verdict"],
}
"""Statements on sources that can be planned, by the names of their templates."""
COMPOSED = ("create_trigger", "drop_trigger")
"""Statements that create or drop, and can only be composed: the first of `trigger_steps`, `trigger_body` and `trigger_row`."""


def composed(name: str, statements: Statements) -> str:
    """Return the statement of a template.

    Raises:
        OSError: a template is missing.
        LookupError: a template has a placeholder that the project does not fill.
        ValueError: a template has a brace that is none of a placeholder.
    """
    sample = SourceSql(SAMPLE, TYPES, folder=statements.folder)
    match name:
        case "review":
            made = written("add_review", statements["add_review"], [sample])
        case "write_back":
            made = written("commit_verdict", statements["commit_verdict"], [sample])
        case "trigger_row":
            made = sql.SQL("select {}").format(sample.added(sql.Identifier("anomaly", "ai_flags")))
        case "drop_trigger":
            made = drop_trigger(SAMPLE.name, folder=statements.folder)
        case "create_trigger":
            made = sample.create_trigger()
        case _:
            made = sample.reading(name)
    return made.as_string()
