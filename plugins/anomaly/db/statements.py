"""The SQL of the project by name: one file for each statement in `include/sql`."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Self

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.sql import Composed

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = _PACKAGE / "sql" if (_PACKAGE / "sql").is_dir() else _PACKAGE.parents[1] / "include" / "sql"
"""`anomaly/sql` in an installed wheel, `include/sql` in a checkout."""
PARAMETER = re.compile(r"%\((\w+)\)s")
"""A named parameter in a statement."""


class Statements:
    """The statements of a folder, read once, without those in its `migrations/`.

    Raises:
        Misconfigured: there are none.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        # LiteralString to a type checker: the files belong to the project. `including` accepts only what psycopg has composed.
        self._texts: dict[str, Any] = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}
        if not self._texts:
            raise Misconfigured(no_sql(folder))

    def text(self, name: str) -> LiteralString:
        """Return the statement of that name, with named parameters.

        Raises:
            Misconfigured: the folder has no such file.
        """
        try:
            text: LiteralString = self._texts[name]
        except KeyError as exc:
            raise Misconfigured(f"there is no statement {name}.sql in {self.folder}") from exc
        return text

    def including(self, composed: Mapping[str, Composed]) -> Self:
        """Return these statements with others, by name, which replace those of the same name."""
        made = copy.copy(self)
        made._texts = self._texts | {name: text.as_string() for name, text in composed.items()}  # noqa: SLF001  # of the same class
        return made

    def names(self) -> list[str]:
        """Return the names of all statements."""
        return list(self._texts)


def no_sql(folder: Path) -> str:
    """Return the sentence for a folder that should hold SQL files, and holds none."""
    return f"there are no SQL files in {folder}: install the project's wheel, or copy include/sql to {FOLDER}"


@cache
def default_statements() -> Statements:
    """Return the statements in `include/sql`, which the owner of the records may have edited."""
    return Statements()
