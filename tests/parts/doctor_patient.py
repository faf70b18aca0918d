"""An installation for the doctor to examine."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict

from anomaly.maintenance.doctor import Doctor
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    import pytest

    from embedded.s3 import S3

VERDICT = Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")
API_KEY = "Zx9-never-on-a-screen"


class Patient:
    """A database, a bucket and a detector, and the connections that lead there."""

    def __init__(self, database: str, s3: S3, stub: HttpStub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.s3, self.stub = database, s3, stub
        self.prefix = uuid.uuid4().hex
        self._monkeypatch = monkeypatch
        self.set_database(database)
        self.set_bucket()
        self.set_detector()
        self.set("AIRFLOW__CORE__PARALLELISM", "4")
        self.set("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")  # as the command sets it
        stub.at("/detect", VERDICT)

    def set(self, name: str, value: str | None) -> None:
        if value is None:
            self._monkeypatch.delenv(name, raising=False)
        else:
            self._monkeypatch.setenv(name, value)

    def set_database(self, dsn: str, **extra: Any) -> None:
        to = conninfo_to_dict(dsn)
        self._connection(
            "DB",
            conn_type="postgres",
            host=to["host"],
            port=int(str(to["port"])),
            login=to["user"],
            password=to["password"],
            schema=to["dbname"],
            extra=extra,
        )

    def set_bucket(self, *, password: str | None = None, **extra: Any) -> None:
        made = {"bucket": self.s3.bucket, "prefix": self.prefix, "endpoint_url": self.s3.endpoint_url, "region_name": self.s3.region}
        self._connection("S3", conn_type="aws", login=self.s3.access_key, password=password or self.s3.secret_key, extra=made | extra)

    def set_detector(self, **extra: Any) -> None:
        extra = extra or {"dialect": "generic", "path": "/detect"}
        self._connection("DETECTOR", conn_type="http", host="127.0.0.1", port=self.stub.port, password=API_KEY, extra=extra)

    def set_images(self, **extra: Any) -> None:
        self._connection("IMAGES", conn_type="http", extra=extra)

    def _connection(self, name: str, **parts: Any) -> None:
        self.set(f"AIRFLOW_CONN_ANOMALY_{name}", json.dumps(parts))

    def bad(self, **doctor: Any) -> list[str]:
        """Return the failed checks. No finding contains a password."""
        said = self.said(**doctor)
        return [line for line in said if line.startswith("BAD")]

    def see(self, **doctor: Any) -> list[str]:
        """Return the lines that a person should look at, although nothing fails."""
        return [line for line in self.said(**doctor) if line.startswith("see")]

    def said(self, environ: dict[str, str] | None = None, **doctor: Any) -> list[str]:
        lines = [str(finding) for finding in Doctor(environ or {}, **doctor).findings()]
        for secret in (API_KEY, self.s3.secret_key, str(conninfo_to_dict(self.database)["password"])):
            assert secret not in "\n".join(lines)
        return lines

    def objects(self) -> list[str]:
        found = self.s3.client().list_objects_v2(Bucket=self.s3.bucket, Prefix=self.prefix).get("Contents", [])
        return [each["Key"] for each in found]
