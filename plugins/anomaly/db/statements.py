"""The SQL of the project, by name: one file a statement in `include/sql`, read once."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from anomaly.errors import Misconfigured

FOLDER = Path(__file__).resolve().parents[3] / "include" / "sql"
PARAMETER = re.compile(r"%\((\w+)\)s")
"""A named parameter in a statement."""


class Statements:
    """Every statement of a folder, read when made; `migrations/` is not looked at."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}

    def text(self, name: str) -> str:
        """The statement of that name, with named parameters.

        Raises:
            Misconfigured: the folder has no such file.
        """
        try:
            return self._texts[name]
        except KeyError as exc:
            raise Misconfigured(f"there is no statement {name}.sql in {self.folder}") from exc

    def names(self) -> list[str]:
        return list(self._texts)


@cache
def default_statements() -> Statements:
    """The statements that the project came with, or as their owner edited them."""
    return Statements()
