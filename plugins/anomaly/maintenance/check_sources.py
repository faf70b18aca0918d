"""Checks the configured sources, and registers none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.maintenance.findings import Finding
from anomaly.maintenance.sources import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.settings import Settings


def check_sources(settings: Settings) -> Iterator[Finding]:
    """Check that the table of each source is there and can be used as it is configured."""
    for name, faults in check(settings).items():
        yield from (Finding(f"source {name}", fault) for fault in faults)
        if not faults:
            yield Finding(f"source {name}: its table can be used as it is configured")
