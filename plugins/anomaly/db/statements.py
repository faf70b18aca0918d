"""The SQL of the project by name: one file for each statement in `include/sql`."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, NoReturn, Self

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.sql import Composed

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = _PACKAGE / "sql" if (_PACKAGE / "sql").is_dir() else _PACKAGE.parents[1] / "include" / "sql"
"""`anomaly/sql` in an installed wheel, `include/sql` in a checkout."""
PARAMETER = re.compile(r"%\((\w+)\)s")
"""A named parameter in a statement."""


class Statements(dict[str, LiteralString]):
    """The statements of a folder by name, with named parameters, read once and without those in its `migrations/`.

    Raises:
        Misconfigured: there are none, or, for a name, the folder has no such file.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        # LiteralString to a type checker: the files belong to the project. `including` accepts only what psycopg has composed.
        texts: dict[str, Any] = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}
        if not texts:
            raise Misconfigured(no_sql(folder))
        super().__init__(texts)
        self.folder = folder

    def __missing__(self, name: str) -> NoReturn:
        raise Misconfigured(f"there is no statement {name}.sql in {self.folder}")

    def including(self, composed: Mapping[str, Composed]) -> Self:
        """Return these statements with others, by name, which replace those of the same name."""
        made = copy.copy(self)
        texts: dict[str, Any] = {name: text.as_string() for name, text in composed.items()}
        made.update(texts)
        return made


def no_sql(folder: Path) -> str:
    """Return the sentence for a folder that should hold SQL files, and holds none."""
    return f"there are no SQL files in {folder}: install the project's wheel, or copy include/sql to {FOLDER}"


@cache
def default_statements() -> Statements:
    """Return the statements in `include/sql`, which the owner of the records may have edited."""
    return Statements()
