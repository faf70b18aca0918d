"""The benchmarks' own SQL, from `benchmarks/sql`."""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).parent / "sql"


@functools.cache
def sql(name: str) -> str:
    return (FOLDER / f"{name}.sql").read_text()
