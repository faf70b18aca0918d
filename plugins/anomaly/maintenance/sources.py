"""Finds rows of the configured sources that are not yet records."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.db.source_store import SourceStore
from anomaly.models.source import configured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.db.client import Database
    from anomaly.metrics import Metrics
    from anomaly.models.runs import Window
    from anomaly.models.source import Source
    from anomaly.settings import Settings


def sources(settings: Settings) -> tuple[Source, ...]:
    """Return the sources that are configured.

    Raises:
        Misconfigured: one is wrong.
    """
    return configured(connections.connection(connections.DB).extra_dejson, settings.source)


@contextlib.contextmanager
def source_stores(settings: Settings, records: Database) -> Iterator[list[SourceStore]]:
    """Open the stores of all sources. Those in another database than the *records* have pools of their own."""
    with contextlib.ExitStack() as opened:
        databases = {connections.DB: records}
        found = sources(settings)
        for each in found:
            if each.connection not in databases:
                databases[each.connection] = opened.enter_context(connections.database(settings, conn_id=each.connection))
        yield [SourceStore(each, records=records, rows=databases[each.connection]) for each in found]


def find_rows(window: Window, *, most: int | None, settings: Settings, records: Database, metrics: Metrics) -> None:
    """Add the rows of all sources that are in the window and are not yet records, at most *most* of each.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    with source_stores(settings, records) as stores:
        for store in stores:
            metrics.source_rows_invalid(store.find(window, most=most).invalid)
