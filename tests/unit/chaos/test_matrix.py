"""The page that the kill matrix writes."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from tests.chaos.matrix import BEGIN, END, HEAD, Result, write_page
from tests.chaos.rows import Row
from tests.chaos.world import Counted

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["Postgres dies", "a worker dies", "S3 goes"]


def result(name: str, *, seconds: float) -> Result:
    counted = Counted(records=20, lost=0, duplicates=0, stuck=0, asked_twice=4)
    row = Row(name, lambda _: 0.0)
    return Result(row=row, counted=counted, stuck=0, quarantined=0, slow_to_end=[], seconds=seconds, day=date(2026, 11, 24))


def page_with(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["# Before", BEGIN, "Some day.", "", f"| {' | '.join(HEAD)} |", "| --- |", *lines, END, "After."]))
    return path


def test_a_row_that_was_not_played_stays_with_its_day_and_one_that_is_no_row_any_more_goes(tmp_path: Path) -> None:
    kept = "| Postgres dies | 20 | 0 | 0 | 0 | 0 | 4.1 | 2026-11-20 |"
    page = page_with(tmp_path / "page.md", kept, "| S3 goes | 20 | 0 | 0 | 0 | 0 | 9.9 | 2026-11-20 |", kept.replace("Postgres", "nobody"))
    write_page([result("S3 goes", seconds=2.34), result("a worker dies", seconds=5)], NAMES, took_s=8, page=page)
    text = page.read_text()
    assert [line for line in text.splitlines() if line.startswith("| ")][2:] == [
        kept,
        "| a worker dies | 20 | 0 | 0 | 0 | 4 | 5.0 | 2026-11-24 |",
        "| S3 goes | 20 | 0 | 0 | 0 | 4 | 2.3 | 2026-11-24 |",
    ]
    assert "2 rows in 8 s" in text
    assert "The others were run earlier" in text
    assert (text.startswith(f"# Before\n{BEGIN}\n"), text.endswith(f"{END}\nAfter.")) == (True, True)


def test_a_whole_matrix_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    page = page_with(tmp_path / "page.md", "| Postgres dies | 20 | 9 | 9 | 9 | 9 | 9.9 | 2026-11-20 |")
    write_page([result(name, seconds=1) for name in NAMES], NAMES, took_s=8, page=page)
    assert "2026-11-20" not in page.read_text()
    assert "The others" not in page.read_text()
