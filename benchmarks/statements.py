"""The SQL of the benchmarks, from `benchmarks/sql`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import LiteralString

FOLDER = Path(__file__).parent / "sql"


@functools.cache
def sql(name: str) -> LiteralString:
    return (FOLDER / f"{name}.sql").read_text()
