"""The formats of an export by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from anomaly.errors import Misconfigured
from anomaly.export.coco import coco_blocks
from anomaly.export.images import zip_blocks
from anomaly.export.parquet import parquet_blocks
from anomaly.export.tables import csv_blocks, json_line_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from anomaly.archive.bucket import Archive
    from anomaly.export.tables import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format in which records are written: from their rows alone, or with images of the bucket."""

    title: str
    about: str
    suffix: str
    media_type: str
    from_rows: Callable[[Iterable[Row]], Generator[bytes]] | None = None
    from_images: Callable[[Iterable[Row], Archive], Generator[bytes]] | None = None
    needs: str | None = None
    """A package that not every installation has."""

    @property
    def is_available(self) -> bool:
        return self.needs is None or find_spec(self.needs) is not None

    def blocks(self, rows: Iterable[Row], archive: Callable[[], Archive]) -> Generator[bytes]:
        """Return the file block by block.

        Raises:
            Misconfigured: a package is missing.
        """
        if not self.is_available:
            raise Misconfigured(f"{self.title} needs the package {self.needs}, which is not installed here: pip install {self.needs}")
        if self.from_images:
            return self.from_images(rows, archive())
        assert self.from_rows  # noqa: S101  # one of the two is there
        return self.from_rows(rows)


FORMATS = {
    "csv": Format(title="CSV", about="a table for spreadsheets", suffix="csv", media_type="text/csv; charset=utf-8", from_rows=csv_blocks),
    "json": Format(
        title="JSON lines", about="a document for each record", suffix="jsonl", media_type="application/jsonl", from_rows=json_line_blocks
    ),
    "parquet": Format(
        title="Parquet",
        about="a table with types",
        suffix="parquet",
        media_type="application/vnd.apache.parquet",
        from_rows=parquet_blocks,
        needs="pyarrow",
    ),
    "coco": Format(title="COCO", about="regions as boxes in pixels", suffix="json", media_type="application/json", from_images=coco_blocks),
    "images": Format(
        title="Images", about="a folder for each verdict, zipped", suffix="zip", media_type="application/zip", from_images=zip_blocks
    ),
}
