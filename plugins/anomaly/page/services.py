"""The connections of the page: one small database pool and one bucket, opened when they are first needed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from anomaly import connections
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from anomaly.archive.bucket import Archive
    from anomaly.db.client import Database

T = TypeVar("T")

POOL_MAX = 4
"""Most database connections of one process that serves pages."""
DEADLINE_CHECK_S = 1.0
CACHE_S = 30.0
"""Age up to which charts are shown again without a query. They read all verdicts of their days."""


class Services:
    """Opens database and bucket by Airflow's connections, and again after one of them failed. For any thread."""

    def __init__(self, *, cache_s: float = CACHE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._opened = contextlib.ExitStack()
        self._database: Database | None = None
        self._archive: Archive | None = None
        self._cache_s = cache_s
        self._clock = clock
        self._cached: dict[Hashable, tuple[float, Any]] = {}
        self._cache_lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The project's settings, with the pool of the page.

        Raises:
            Misconfigured: a setting is wrong.
        """
        return dataclasses.replace(Settings.from_environ(os.environ), db_pool_min=1, db_pool_max=POOL_MAX, commit_workers=1)

    def database(self) -> Database:
        """Return the records database.

        Raises:
            Misconfigured: there is no such connection, or the login is refused.
            DatabaseUnavailable: it cannot be reached.
        """
        with self._lock:
            if self._database is None:
                opened = self._opened.enter_context(connections.database(self.settings, prepare=False))
                self._opened.enter_context(_shutting_overdue_calls(opened))
                self._database = opened
            return self._database

    def archive(self) -> Archive:
        """Return the bucket.

        Raises:
            Misconfigured: there is no such connection, or it names no bucket.
        """
        with self._lock:
            if self._archive is None:
                self._archive = connections.bucket(self.settings)
            return self._archive

    def cached(self, key: Hashable, load: Callable[[], T]) -> T:
        """Return the result of *load* if it is younger than `cache_s`; one thread at a time loads."""
        with self._cache_lock:
            at, value = self._cached.get(key, (float("-inf"), None))
            if self._clock() - at <= self._cache_s:
                found: T = value
                return found
            loaded = load()
            self._cached[key] = (self._clock(), loaded)
            return loaded

    def reset(self) -> None:
        """Close the connections; the next use reads Airflow's connections again."""
        with self._lock:
            self._opened.close()
            self._database = self._archive = None


@contextlib.contextmanager
def _shutting_overdue_calls(database: Database):  # type: ignore[no-untyped-def]  # noqa: ANN202
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(DEADLINE_CHECK_S):
            database.shut_overdue_calls()

    watcher = threading.Thread(target=watch, name="anomaly-page-deadlines", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
