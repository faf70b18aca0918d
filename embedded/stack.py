"""All the parts of one `bin/run`: started side by side, stopped together."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anomaly import connection_env
from anomaly.db.schema import migrate
from embedded import airflow, connections, demo, signals, stale_runs
from embedded.postgres import Postgres
from embedded.process import await_ready
from embedded.process_group import end_recorded
from embedded.s3 import S3
from embedded.web import WebService, image_host, reference_detector
from reference_detector.dataset import data_folder, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedded.process import Part
    from embedded.progress import Screen

READY_S = 120
AIRFLOW_READY_S = 300
AIRFLOW_DATABASE = "airflow"


class Stack:
    """What runs for the connections that are not set, and Airflow."""

    def __init__(self, state: Path, *, port: int, with_demo: bool, screen: Screen) -> None:
        self._state = state
        self._port = port
        self._screen = screen
        given = os.environ
        self.own_database = bool(given.get(connection_env.DB))
        self.with_demo = with_demo or not self.own_database
        self.postgres = Postgres(state / "postgres")
        self.s3 = None if given.get(connection_env.S3) else S3(state / "s3")
        self.detector = None if given.get(connection_env.DETECTOR) else reference_detector(state / "detector")
        self.images: WebService | None = image_host(state / "images", images=data_folder()) if self.with_demo else None
        self.airflow: airflow.Airflow | None = None
        self.began = datetime.now(UTC)
        """By the records database's clock, before the first run of this start."""

    @property
    def dsn(self) -> str:
        """Where the records are."""
        return connection_env.records_dsn(os.environ) if self.own_database else connections.to_postgres(self.postgres)

    def end_leftovers(self) -> None:
        """End what an earlier start left behind, should it have been killed together with its warden."""
        for folder in self._state.glob("*/running"):
            end_recorded(folder)

    def start(self, *, records: int) -> airflow.Airflow:
        """Start every part; afterwards the records are enqueued and Airflow waits for the first run."""
        parts = self._parts()
        for part in parts:
            part.start()
        self._screen.say(f"starting {', '.join(part.name for part in parts)} and airflow; logs are in {self._state}/*/logs")
        self._await(self.postgres)
        self.airflow = self._prepare_airflow()
        migrate(self.dsn)
        self.began = demo.now(self.dsn)
        if self.images:
            self._await(self.images)
            self._enqueue(self.images, records)
        self._start_airflow(self.airflow)
        for part in parts[1:]:
            if part is not self.images:
                self._await(part)
        with self._screen.step("airflow"):
            await_ready(self.airflow, within_s=AIRFLOW_READY_S)
        return self.airflow

    def check(self) -> None:
        """Raise StartFailed if a part has ended by itself."""
        for part in self._parts():
            part.check()
        if self.airflow:
            self.airflow.check()

    def stop(self) -> None:
        """Stop everything: first Airflow, whose tasks give back what they hold, then what it stands on."""
        if self.airflow:
            self.airflow.stop()
        parts = self._parts()
        for part in parts[1:]:
            part.ask()
        for part in [*parts[1:], parts[0]]:
            part.stop()

    def _parts(self) -> list[Part]:
        return [self.postgres, *(part for part in (self.s3, self.detector, self.images) if part)]

    def _await(self, part: Part) -> None:
        with self._screen.step(part.name):
            await_ready(part, within_s=READY_S)

    def _prepare_airflow(self) -> airflow.Airflow:
        """Airflow, whose tables are made unless this version of it has made them."""
        for name in (connections.DATABASE, AIRFLOW_DATABASE):
            self.postgres.ensure_database(name)
        database = self.postgres.dsn(AIRFLOW_DATABASE, "postgresql+psycopg2")
        settings = airflow.settings(self._state / "airflow", database=database, port=self._port) | self._connections()
        write_env(self._state / "env", settings)
        prepared = airflow.Airflow(self._state / "airflow", env=settings)
        self.airflow = prepared
        if self.postgres.comment_on(AIRFLOW_DATABASE) != airflow.migrated_comment():
            prepared.start_migration()
        return prepared

    def _start_airflow(self, prepared: airflow.Airflow) -> None:
        with self._screen.step("airflow's tables"):
            while not prepared.migrated():
                time.sleep(0.05)  # it runs beside us and raises here if it fails
        self.postgres.set_comment_on(AIRFLOW_DATABASE, airflow.migrated_comment())
        stale_runs.end_runs(airflow_dsn=self.postgres.dsn(AIRFLOW_DATABASE), records_dsn=self.dsn)
        prepared.start()

    def _connections(self) -> dict[str, str]:
        made: dict[str, str] = {}
        if not self.own_database:
            made[connection_env.DB] = connections.to_postgres(self.postgres)
        if self.s3:
            made[connection_env.S3] = connections.to_s3(self.s3)
        if self.detector:
            made[connection_env.DETECTOR] = connections.to_detector(self.detector)
        if self.images and not os.environ.get(connection_env.IMAGES):
            made[connection_env.IMAGES] = connections.to_images()
        return made

    def _enqueue(self, images: WebService, records: int) -> None:
        with self._screen.step("records"):
            demo.enqueue(self.dsn, split().rest, base_url=images.url, waiting=records, images=data_folder())


def write_env(path: Path, settings: dict[str, str]) -> None:
    """Keep the variables for `bin/airflow`, readable by their owner alone."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    given = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_ANOMALY_") and value}
    draft.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted((given | settings).items())))
    draft.replace(path)


@contextlib.contextmanager
def stopping(stack: Stack) -> Iterator[None]:
    """Within it the stack may run; afterwards it does not, and signals no longer disturb."""
    try:
        yield
    finally:
        signals.ignore()
        stack.stop()
