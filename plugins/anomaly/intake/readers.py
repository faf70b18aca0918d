"""Read rows with their places from CSV, lists of addresses, buckets and queries."""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly.errors import Misconfigured
from anomaly.images.objects import SCHEME
from anomaly.intake.rows import RowInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from anomaly.archive.image_objects import ImageObjects
    from anomaly.images.rules import ImageRules

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Ends of keys that are taken for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a file or a query."""

    image_url: str = "image_url"
    captured_at: str | None = None
    """By default `captured_at`, if there is such a column."""
    key: str | None = None
    attributes: Sequence[str] = ()

    def check(self, names: Sequence[str]) -> None:
        """Raise Misconfigured unless all columns are among *names*."""
        for wanted in (self.image_url, self.captured_at, self.key, *self.attributes):
            if wanted is not None and wanted not in names:
                near = difflib.get_close_matches(wanted, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
                raise Misconfigured(f"there is no column {wanted!r}; {hint}")

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of the fields that a record is made of."""
        return {
            "image_url": values[self.image_url],
            "captured_at": values.get(self.captured_at or "captured_at"),
            "key": values[self.key] if self.key else None,
            "attributes": {name: values[name] for name in self.attributes},
        }


def read_csv(lines: Iterable[str], columns: Columns) -> Iterator[tuple[str, object]]:
    """Yield the rows of a CSV file with a header.

    Raises:
        Misconfigured: the header is missing, or lacks a column.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as exc:
        raise Misconfigured(f"the header is not CSV: {exc}") from exc
    columns.check(header)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            yield f"line {reader.line_num}", RowInvalid(f"not CSV: {exc}")
            continue
        if values:  # not an empty line
            yield f"line {reader.line_num}", _csv_row(header, values, columns)


def _csv_row(header: Sequence[str], values: Sequence[str], columns: Columns) -> object:
    if len(values) != len(header):
        return RowInvalid(f"it has {len(values)} fields, and the header {len(header)}")
    return columns.row(dict(zip(header, values, strict=True)))


def read_addresses(lines: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Yield the addresses of a list with one in each line. Empty lines and those that begin with # are left out."""
    for number, line in enumerate(lines, 1):
        address = line.strip()
        if address and not address.startswith("#"):
            yield f"line {number}", address


def read_bucket(address: str, objects: ImageObjects, rules: ImageRules) -> Iterator[tuple[str, object]]:
    """Yield the images below `s3://bucket/prefix`, captured when they were written. The bucket is listed a page at a time.

    Raises:
        Misconfigured: images may not come from the bucket, or it cannot be listed.
    """
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket:
        raise Misconfigured(f"{address}: not an address such as s3://bucket/prefix")
    if bucket not in {objects.own_bucket, *rules.buckets}:
        raise Misconfigured(f"images may not come from the bucket {bucket}: add it to buckets in the extra of anomaly_images")
    for page in objects.pages(bucket, prefix):
        for each in page:
            if each.key.lower().endswith(SUFFIXES):
                url = f"{SCHEME}{bucket}/{each.key}"
                yield url, {"image_url": url, "captured_at": each.written_at}
