"""Runs the rows of the kill matrix, a few at a time, and writes their results to a page."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from anomaly.db.schema import migrate
from embedded.postgres import Postgres
from tests.chaos.workers import Workers
from tests.chaos.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from embedded.s3 import S3
    from tests.chaos.rows import Row
    from tests.chaos.world import Counted

AT_ONCE = 3
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
HEAD = ("what happens", "records", "lost", "duplicates", "stuck after one lease", "asked twice", "seconds until done", "day")


@dataclass(frozen=True, kw_only=True)
class Result:
    row: Row
    counted: Counted
    stuck: int
    """Records still claimed one lease after the death, or at the end."""
    quarantined: int
    slow_to_end: list[str]
    seconds: float
    """From the fault to the end of the last run."""
    day: date

    @property
    def cells(self) -> tuple[str, ...]:
        of = self.counted
        counts = map(str, (of.records, of.lost, of.duplicates, self.stuck, of.asked_twice))
        return self.row.name, *counts, f"{self.seconds:.1f}", f"{self.day}"

    def check(self) -> None:
        """Assert that each record was committed exactly once."""
        assert (self.counted.lost, self.counted.duplicates, self.stuck) == (0, 0, 0)
        assert self.quarantined == self.row.quarantined
        assert self.counted.asked_twice <= self.row.asked_twice_max
        assert self.slow_to_end == []


@contextlib.contextmanager
def playing(rows: Sequence[Row], *, postgres: Postgres, template: str, s3: S3, folder: Path) -> Iterator[dict[str, Future[Result]]]:
    """Start all rows; yield their future results by name."""
    numbers = itertools.count()

    def play(row: Row) -> Result:
        mine = folder / f"row-{next(numbers)}"
        mine.mkdir()
        with contextlib.ExitStack() as opened:
            server = opened.enter_context(Postgres(mine / "postgres")) if row.own_server else postgres
            name = mine.name.replace("-", "_")
            server.ensure_database(name, template=None if row.own_server else template)
            if row.own_server:
                migrate(server.dsn(name))
            world = opened.enter_context(World(server.dsn(name), server, s3, workers, mine))
            return _played(row, world)

    with Workers(folder) as workers, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            yield {row.name: pool.submit(play, row) for row in rows}
        finally:
            pool.shutdown(cancel_futures=True)


def _played(row: Row, world: World) -> Result:
    began = row.play(world)
    seconds = time.monotonic() - began
    counted = world.counted()
    quarantined = world.count("records", "status = 'quarantined'")
    return Result(
        row=row,
        counted=counted,
        stuck=counted.stuck + world.stuck,
        quarantined=quarantined,
        slow_to_end=world.slow_to_end,
        seconds=seconds,
        day=datetime.now(UTC).date(),
    )


def table(results: Sequence[Result]) -> str:
    return _table([result.cells for result in results])


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_page(results: Sequence[Result], names: Sequence[str], *, took_s: float, page: Path = PAGE) -> None:
    """Write the rows to the page's table, in the order of *names*; rows without a new result stay."""
    text = page.read_text()
    (before, rest), after = text.split(BEGIN), text.split(END)[1]
    lines = [line.strip("| ").split(" | ") for line in rest.split(END)[0].splitlines() if line.startswith("|")]
    rows = {cells[0]: tuple(cells) for cells in lines} | {result.row.name: result.cells for result in results}
    page.write_text(
        f"{before}{BEGIN}\n{_made(results, names, took_s)}\n\n{_table([rows[name] for name in names if name in rows])}\n{END}{after}"
    )


def _made(results: Sequence[Result], names: Sequence[str], took_s: float) -> str:
    """Return the sentence about the date, the machine and the duration."""
    cores, memory_gib = os.cpu_count(), psutil.virtual_memory().total / 2**30
    where = f"{platform.system()} on {cores} cores and {memory_gib:.0f} GiB"
    played = f"{datetime.now(UTC):%Y-%m-%d}, {where}: {len(results)} rows in {took_s:.0f} s, up to {AT_ONCE} of them at the same time."
    return played if len(results) == len(names) else f"{played} The others were run earlier, on the day in the last column."
