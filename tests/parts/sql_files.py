"""Names of the SQL files that `check-sql` and the doctor check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PARTS = {"trigger_body", "trigger_steps"}
"""Of `source/create_trigger.sql`, and checked with it."""


def checked_files(folder: Path) -> list[str]:
    """Return the names in the order of the check: statements, then the templates of statements on sources."""
    templates = [f"source/{path.stem}" for path in sorted(folder.glob("source/*.sql")) if path.stem not in PARTS]
    return [*(path.stem for path in sorted(folder.glob("*.sql"))), *templates]
