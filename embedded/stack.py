"""The embedded services of a `bin/run`: started at the same time, stopped together."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from anomaly import connection_env
from anomaly.db.schema import migrate
from anomaly.db.statements import default_statements
from embedded import airflow, connections, kept_env, queries, signals, stale_runs
from embedded.plan import check_records
from embedded.postgres import Postgres
from embedded.process import wait_until_ready
from embedded.process_group import stop_recorded
from embedded.s3 import S3
from embedded.web import WebService, image_host, reference_detector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embedded.plan import Plan
    from embedded.process import Service
    from embedded.progress import Progress

READY_S = 120
AIRFLOW_READY_S = 300
AIRFLOW_DATABASE = "airflow"
STOPPING_EVERY_S = 1.0
FIRST_RECORDS = 100
"""Most records that a start takes from a table of the user, until they unpause the DAG."""


class Stack:
    """Airflow, and the embedded services of a plan."""

    def __init__(self, state: Path, *, port: int, plan: Plan, progress: Progress) -> None:
        self.state = state
        self.limited = state / "limited"
        """Exists from a start that takes a limited number of records until the user unpauses the DAG."""
        self._port = port
        self._plan = plan
        self._progress = progress
        self.database = connections.DEMO_DATABASE if plan.demo else connections.DATABASE
        """Name of the embedded records database. The demo's records are never in that of the user."""
        self.postgres = Postgres(state / "postgres")
        self.s3 = S3(state / "s3") if plan.embeds(connection_env.S3) else None
        self.detector = reference_detector(state / "detector") if plan.embeds(connection_env.DETECTOR) else None
        self.images: WebService | None = image_host(state / "images") if plan.demo else None
        self.airflow: airflow.Airflow | None = None
        self.began = datetime.now(UTC)
        """Time before the first run, of the records database's clock."""

    @property
    def dsn(self) -> str:
        """DSN of the records database."""
        if self._plan.embeds(connection_env.DB):
            return connections.to_postgres(self.postgres, self.database)
        return connection_env.records_dsn(os.environ)

    def stop_leftovers(self) -> None:
        """Stop the processes of an earlier start that was killed together with its watchdog."""
        for folder in self.state.glob("*/running"):
            stop_recorded(folder)

    def start(self, *, records: int, limited: bool) -> airflow.Airflow:
        """Start every service, enqueue demo records, and return Airflow, ready for the first run.

        If *limited*, or if the user's DAG has never been unpaused, it is paused and has no schedule.
        """
        services = self._services()
        for service in services:
            service.start()
        self._progress.print(f"starting {', '.join(service.name for service in services)} and airflow; logs are in {self.state}/*/logs")
        self._wait_for(self.postgres)
        self.airflow = self._prepare_airflow()
        migrate(self.dsn)
        self.began = queries.now(self.dsn)
        check_records(self._plan, self.dsn)
        if self.images:
            self._wait_for(self.images)
            self._enqueue(self.images, records)
        self._start_airflow(self.airflow, limited=limited)
        for service in services[1:]:
            if service is not self.images:
                self._wait_for(service)
        with self._progress.starting("airflow"):
            wait_until_ready(self.airflow, within_s=AIRFLOW_READY_S)
        return self.airflow

    def check(self) -> None:
        """Raise StartFailed if a service has ended by itself."""
        for service in self._services():
            service.check()
        if self.airflow:
            self.airflow.check()

    def stop(self) -> None:
        """Stop Airflow first, so that its tasks can release their records, then the other services."""
        if self.airflow:
            self.airflow.stop(self._show_stopping())
        services = self._services()
        for service in services[1:]:
            service.request_stop()
        for service in [*services[1:], services[0]]:
            service.stop()

    def _services(self) -> list[Service]:
        return [self.postgres, *(service for service in (self.s3, self.detector, self.images) if service)]

    def _wait_for(self, service: Service) -> None:
        with self._progress.starting(service.name):
            wait_until_ready(service, within_s=READY_S)

    def _prepare_airflow(self) -> airflow.Airflow:
        """Create Airflow's databases, and start the migration of its tables unless this version of Airflow has migrated them."""
        for name in (self.database, AIRFLOW_DATABASE):
            self.postgres.ensure_database(name)
        database = self.postgres.dsn(AIRFLOW_DATABASE, "postgresql+psycopg2")
        settings = airflow.settings(self.state / "airflow", database=database, port=self._port) | self._connections()
        from_user = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_ANOMALY_") and value}
        kept_env.write(self.state / "env", from_user | settings)
        prepared = airflow.Airflow(self.state / "airflow", env=settings)
        self.airflow = prepared
        if self.postgres.comment_on(AIRFLOW_DATABASE) != airflow.schema_comment():
            prepared.start_migration()
        return prepared

    def _show_stopping(self) -> Callable[[float], None]:
        """Return a function that shows the records in work, and the time that is left for them, once a second."""
        shown_at = 0.0

        def show(left_s: float) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at < STOPPING_EVERY_S:
                return
            shown_at = time.monotonic()
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.dsn, connect_timeout=2) as connection:
                if claimed := queries.row(connection, default_statements()["count_claimed"])["claimed"]:
                    self._progress.stopping(claimed, left_s)

        return show

    def _start_airflow(self, prepared: airflow.Airflow, *, limited: bool) -> None:
        with self._progress.starting("airflow's tables"):
            while not prepared.migration_finished():
                time.sleep(0.05)  # a process does not report when it has ended; raises if it failed
        self.postgres.set_comment_on(AIRFLOW_DATABASE, airflow.schema_comment())
        stale_runs.end_stale_runs(airflow_dsn=self.postgres.dsn(AIRFLOW_DATABASE), records_dsn=self.dsn)
        if limited or (not self._plan.demo and not self._was_unpaused()):
            self.limited.touch()
            with psycopg.connect(self.postgres.dsn(AIRFLOW_DATABASE)) as connection:
                connection.execute(queries.statement("pause"))
        else:
            self.limited.unlink(missing_ok=True)
        prepared.start(scheduled=not self.limited.exists())

    def _was_unpaused(self) -> bool:
        with psycopg.connect(self.postgres.dsn(AIRFLOW_DATABASE)) as connection:
            return queries.row(connection, queries.statement("is_paused")).get("is_paused") is False and not self.limited.exists()

    def _connections(self) -> dict[str, str]:
        values: dict[str, str] = {}
        if self._plan.embeds(connection_env.DB):
            values[connection_env.DB] = self.dsn
        if self.s3:
            values[connection_env.S3] = connections.to_s3(self.s3)
        if self.detector:
            values[connection_env.DETECTOR] = connections.to_detector(self.detector)
        if self.images and not os.environ.get(connection_env.IMAGES):
            values[connection_env.IMAGES] = connections.to_images(self.images.url)
        return values

    def _enqueue(self, images: WebService, records: int) -> None:
        from embedded import demo  # noqa: PLC0415  # its photos are installed only where they are used
        from reference_detector.dataset import data_folder, split  # noqa: PLC0415  # as above

        with self._progress.starting("records"):
            demo.enqueue(self.dsn, split().rest, base_url=images.url, waiting=records, images=data_folder())


@contextlib.contextmanager
def stop_on_exit(stack: Stack) -> Iterator[None]:
    """Stop the stack on exit, with signals ignored."""
    try:
        yield
    finally:
        signals.ignore()
        stack.stop()
