"""Claims records in Postgres, asks a detector about their images, and commits each verdict exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def enqueue(rows: Iterable[object] | str, *, source: str = "enqueue", strict: bool = False) -> dict[str, int]:
    """Add records, for a task of your own DAG, and return how many rows were read, new, known and invalid.

    Args:
        rows: addresses of images, or mappings with `image_url` and optionally `captured_at`, `key` and `attributes`; or the address
            `s3://bucket/prefix`, below which all images are added.
        source: name under which rows are known, by their key or else by their address. Known rows are skipped.
        strict: add nothing if a row is invalid, instead of skipping it with a warning.

    Raises:
        anomaly.errors.DatabaseUnavailable: the database cannot be reached; adding the same rows again is safe.
        anomaly.errors.Misconfigured: a connection is wrong, or a row is invalid and *strict* is set.
    """
    from anomaly.intake.connected import enqueue as add  # noqa: PLC0415  # imports Airflow, which takes seconds

    return add(rows, source=source, strict=strict)
