"""Finds rows of the configured sources that are not yet records, and attaches and detaches sources."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.db.errors import reading_source
from anomaly.db.source_store import SourceStore, detach_source
from anomaly.errors import Misconfigured
from anomaly.models.source import configured, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly.db.client import Database
    from anomaly.db.source_rows import SourcePreview
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
                with reading_source(each.name, each.connection):
                    databases[each.connection] = opened.enter_context(connections.database(settings, conn_id=each.connection))
        yield [SourceStore(each, records=records, rows=databases[each.connection]) for each in found]


def find_rows(window: Window, *, most: int | None, settings: Settings, records: Database, metrics: Metrics) -> None:
    """Add the rows of all sources that are in the window and are not yet records, at most *most* of each.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    with source_stores(settings, records) as stores:
        for store in stores:
            metrics.source_rows_invalid(store.find(window, most=most).refused.rows)


def find_all_rows(settings: Settings, records: Database, metrics: Metrics) -> dict[str, dict[str, int]]:
    """Look at all rows of all sources, whenever they were captured, and return the counts by source.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    with source_stores(settings, records) as stores:
        found = {store.name: store.find_all() for store in stores}
    for each in found.values():
        metrics.source_rows_invalid(each.refused.rows)
    return {name: {"added": each.added, "changed": each.changed, "invalid": each.refused.rows} for name, each in found.items()}


def check(settings: Settings) -> dict[str, list[str]]:
    """Return the faults of each source, by its name. Changes nothing.

    Raises:
        Misconfigured: the configuration cannot be read.
    """
    if not sources(settings):
        return {}
    with connections.database(settings) as records, source_stores(settings, records) as stores:
        return {store.name: store.faults() for store in stores}


def previews(settings: Settings, name: str | None) -> dict[str, SourcePreview]:
    """Return a preview of each source, or of one. Changes nothing.

    Raises:
        Misconfigured: there is no source of that name, or one cannot be used as it is configured.
    """
    with connections.database(settings) as records, source_stores(settings, records) as stores:
        return {store.name: store.preview() for store in _chosen(stores, name)}


def attach(settings: Settings, name: str | None, *, trigger: bool) -> dict[str, str]:
    """Check and register all sources or one, and return for each how its rows are found.

    Raises:
        Misconfigured: there is no source of that name, or one cannot be used as it is configured.
    """
    with connections.database(settings) as records, source_stores(settings, records) as stores:
        return {store.name: store.attach(trigger=trigger) for store in _chosen(stores, name)}


def _chosen(stores: Sequence[SourceStore], name: str | None) -> list[SourceStore]:
    known = [store.name for store in stores]
    if name is not None and name not in known:
        raise Misconfigured(f"there is no source {name!r}; {nearest(name, known)}")
    return [store for store in stores if name in {None, store.name}]


def detach(settings: Settings, name: str) -> bool:
    """Remove the trigger of a source and its registration. Return False if it was not registered."""
    with connections.database(settings) as records:
        return detach_source(records, name)
