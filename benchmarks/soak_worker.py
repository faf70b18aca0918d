"""A worker of the soak: a mapped task of the DAG, retried, but without Airflow."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from anomaly import detectors
from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.db.client import Database
from anomaly.db.detector_quota import DetectorQuotaStore
from anomaly.db.pool import connector, open_pool
from anomaly.db.record_store import RecordStore
from anomaly.errors import TryEnded
from anomaly.images import download as images
from anomaly.images.rules import ImageRules
from anomaly.models.runs import Chunk, Holder, Run, Window
from anomaly.pipeline.drain import Pipeline
from anomaly.pipeline.lease import LeaseRenewer
from anomaly.pipeline.parts import Parts
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_TIMEOUT_S = 2.0
SETTINGS = Settings(
    detector_slots=8,
    fetch_workers=4,
    archive_workers=8,
    detector_read_timeout_s=READ_TIMEOUT_S,
    detector_backoff_s=0.1,
    image_read_timeout_s=READ_TIMEOUT_S,
    image_backoff_s=0.1,
    task_backoff_s=1.0,
    defer_backoff_s=1.0,
)
TRIES = 4
log = logging.getLogger("soak")


def work(given: dict[str, Any]) -> None:
    """Drain the window as a mapped task does, with the retries that Airflow would make."""
    chunk, run = Chunk.from_xcom(given["chunk"]), build_run(given["run_id"])
    archive = build_archive(given)
    with ExitStack() as opened:
        database = opened.enter_context(open_database(given["dsn"]))
        store = RecordStore(database, SETTINGS)
        rules = ImageRules.from_extra({"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]})
        session = opened.enter_context(images.session(SETTINGS, rules))
        spec = detectors.DetectorConnection(
            base_url=given["hosts"], login=None, password=None, extra={"dialect": "generic", "path": "/detect"}
        )
        asking = opened.enter_context(detectors.session(SETTINGS, given["hosts"]))
        detector = detectors.from_connection(spec, asking, SETTINGS)
        blamed: set[int] = set()
        for number in range(1, TRIES + 1):
            holder = Holder(map_index=given["map_index"], try_number=number, last_try=number == TRIES)
            parts = Parts(
                run=run,
                holder=holder,
                first=chunk,
                images=images.ImageSource(session, SETTINGS, rules),
                detector=detector,
                archive=archive,
                store=store,
                fleet=DetectorQuotaStore(
                    database, detector="soak", holder=f"{run.batch_id}/{holder.map_index}/{number}", quota=detector.quota
                ),
                settings=SETTINGS,
                rng=Random(f"{holder.map_index}/{holder.try_number}"),  # noqa: S311  # it spreads waits
                lease_renewer=partial(a_lease_renewer, run, holder, store),
                on_worked=lambda _: None,
                blamed=blamed,
            )
            try:
                Pipeline(parts).drain()
            except TryEnded as exc:
                log.warning("try %d ended: %s", number, exc)
                time.sleep(exc.delay_s)
            else:
                return


def a_lease_renewer(run: Run, holder: Holder, store: RecordStore, on_lost: Callable[[int], None]) -> LeaseRenewer:
    renew = partial(store.renew_chunks, run.batch_id, holder=holder, lease_s=SETTINGS.lease_s)
    return LeaseRenewer(lease_s=SETTINGS.lease_s, renew=renew, shut_overdue_calls=store.shut_overdue_calls, on_lost=on_lost)


def build_run(run_id: str) -> Run:
    return Run(dag_id="soak", run_id=run_id, window=Window(), batch_size=1_000_000, chunk_size=100)


@contextmanager
def open_database(dsn: str) -> Iterator[Database]:
    with closing(Database(open_pool(connector(dsn, SETTINGS), SETTINGS))) as database:
        yield database


def build_archive(given: dict[str, Any]) -> Archive:
    config = Config(**client_config(SETTINGS, endpoint_url=given["s3"]))
    keys = {"aws_access_key_id": given["key"], "aws_secret_access_key": given["secret"]}
    return Archive(boto3.client("s3", endpoint_url=given["s3"], region_name="us-east-1", config=config, **keys), bucket="anomaly")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    work(json.loads(sys.argv[1]))
