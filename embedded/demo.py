"""Demo records: photos of solar cells that the reference detector was not trained on, with the experts' labels.

`python -m embedded.demo --images http://image-host:8000 --records 200` enqueues them in the database SERVER_RECORDS.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import Jsonb

from embedded.queries import row, statement
from reference_detector.dataset import data_folder, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from reference_detector.dataset import Cell

WEEK_S = 7 * 86_400
STEP_S = 7_919
"""Coprime to a week, so that the ages spread evenly over it for any number of records."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m embedded.demo", description="Enqueue photos of solar cells.")
    parser.add_argument("--images", required=True, help="address of the image host")
    parser.add_argument("--records", type=int, required=True, help="number of demo records without a verdict afterwards")
    options = parser.parse_args()
    added = enqueue(os.environ["SERVER_RECORDS"], split().rest, base_url=options.images, waiting=options.records, images=data_folder())
    sys.stdout.write(f"{added} records added; start a run of anomaly_detection\n")


def enqueue(dsn: str, cells: Sequence[Cell], *, base_url: str, waiting: int, images: Path) -> int:
    """Add demo records until *waiting* of them have no verdict; return the number added.

    Takes *cells* in order, from where the last call ended, and starts over after the last one. Earlier records without a verdict
    are moved to *base_url*.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("lock table anomaly.records in share row exclusive mode")
        connection.execute(statement("move_images"), {"base_url": base_url})
        before = row(connection, statement("demo_backlog"))
        numbers = range(before["enqueued"], before["enqueued"] + max(0, waiting - before["waiting"]))
        with connection.cursor() as cursor:
            cursor.executemany(statement("enqueue"), _records(numbers, cells, base_url, images))
        return len(numbers)


def _records(numbers: range, cells: Sequence[Cell], base_url: str, images: Path) -> Iterator[dict[str, Any]]:
    for number in numbers:
        cell = cells[number % len(cells)]
        path = cell.path.relative_to(images).as_posix()
        attributes = {"demo": path, "type": "mono", "defect_probability": cell.probability}
        age_s = 60 + number * STEP_S % WEEK_S
        yield {"image_url": f"{base_url}/{path}", "age_s": age_s, "attributes": Jsonb(attributes)}


if __name__ == "__main__":
    main()
