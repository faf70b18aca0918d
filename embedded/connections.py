"""Airflow connections to the embedded servers, as values of `AIRFLOW_CONN_…`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from embedded.web import WebService

DATABASE, DEMO_DATABASE = "anomaly", "demo"


def to_postgres(server: Postgres, database: str = DATABASE) -> str:
    return server.dsn(database)


def to_s3(server: S3) -> str:
    extra = {
        "bucket": server.bucket,
        "prefix": "",
        "endpoint_url": server.endpoint_url,
        "region_name": server.region,
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    return json.dumps({"conn_type": "aws", "login": server.access_key, "password": server.secret_key, "extra": extra})


def to_detector(service: WebService) -> str:
    return json.dumps({"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": service.port, "extra": {"dialect": "reference"}})


def to_images(origin: str) -> str:
    """Allow images from one server of this machine, and from no other address of a private network."""
    return json.dumps({"conn_type": "http", "extra": {"hosts": [origin], "allow_networks": ["127.0.0.0/8"]}})
