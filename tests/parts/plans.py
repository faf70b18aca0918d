"""Plans of statements that were run for once and undone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from anomaly.db.contracts import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.record_builders import RecordsDb

Node = dict[str, Any]


def scans_of(db: RecordsDb, text: str, *, table: str = "records", **params: Any) -> list[Node]:
    """Return the scans by which a statement reaches the rows of a table. Parameters that are not given have a sample."""
    with db.sql.transaction(force_rollback=True):
        [row] = db.rows(f"explain (analyze, format json) {text}", **{**SAMPLES, **params})
    found = []
    waiting = [json.loads(json.dumps(row["QUERY PLAN"]))[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if (node.get("Relation Name") == table and "Scan" in node["Node Type"]) or node["Node Type"].startswith("Bitmap Index"):
            found.append(node)
    return found


def rows_read(nodes: Sequence[Node]) -> int:
    """Return how many rows scans have read, those that a filter removed included."""
    return sum(int(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))) for node in nodes)
