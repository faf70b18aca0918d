"""An installation: database, bucket, image host and detector, and the connections that lead to them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from psycopg.conninfo import conninfo_to_dict

from anomaly.commands import main
from anomaly.errors import ImageNotFound
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    import pytest

    from embedded.s3 import S3
    from tests.parts.record_builders import RecordsDb

VERDICT = Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")
API_KEY = "Zx9-never-on-a-screen"
AIRFLOW_LOG = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z \[(?:info|warning) .*\n", re.MULTILINE)
"""Lines of Airflow's log on stdout. A command silences them, but not where another test of the process has imported Airflow before."""


def a_photo(kind: str) -> bytes:
    """A small image of a kind that Pillow knows."""
    out = io.BytesIO()
    Image.linear_gradient("L").save(out, kind)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Said:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self
        return json.loads(self.out)


class Installation:
    """A records database, a bucket, an image host and a detector, on this machine."""

    def __init__(self, db: RecordsDb, s3: S3, stub: HttpStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.db, self.s3, self.stub = db, s3, stub
        self.prefix = uuid.uuid4().hex
        self._monkeypatch, self._capsys = monkeypatch, capsys
        to = conninfo_to_dict(db.dsn)
        login = {"login": to["user"], "password": to["password"]}
        self.connect("anomaly_db", conn_type="postgres", host=to["host"], port=int(str(to["port"])), schema=to["dbname"], **login)
        extra = {"bucket": s3.bucket, "prefix": self.prefix, "endpoint_url": s3.endpoint_url, "region_name": s3.region}
        self.connect("anomaly_s3", conn_type="aws", login=s3.access_key, password=s3.secret_key, extra=extra)
        self.connect("anomaly_images", conn_type="http", extra={"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"]})
        self.detector("anomaly_detector")
        self.set("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")  # as the command sets it
        self.set("_AIRFLOW_PROCESS_CONTEXT", "server")  # as above
        self.set("AIRFLOW__CORE__PARALLELISM", "4")
        stub.at("/detect", VERDICT)

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def connect(self, conn_id: str, **parts: Any) -> None:
        self.set(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(parts))

    def detector(self, conn_id: str, **extra: Any) -> None:
        extra = {"dialect": "generic", "path": "/detect"} | extra
        self.connect(conn_id, conn_type="http", host="127.0.0.1", port=self.stub.port, password=API_KEY, extra=extra)

    def with_two_detectors(self) -> None:
        """Add a done record with results of padim@1 and padim@2, which differ, a quarantined one and a due one."""
        rescored, failed = self.db.claims(2)
        self.db.commit(rescored, an_answer(0.9))
        self.db.store.quarantine(failed, error=ImageNotFound("http://images/1: answered 404"), timings={})
        run = self.db.run("again")
        (again,) = self.db.open(self.db.claim(run, origin="done", size=1), run=run)
        self.db.commit(again, an_answer(0.1, is_anomaly=False, detector="padim@2"))
        self.add_image("/photo.png")

    def add_image(self, path: str) -> str:
        """Add a due record whose image the stub serves, and return its address."""
        self.stub.at(path, Reply(body=a_photo("PNG"), content_type="image/png"))
        url = self.stub.url(path)
        self.db.do("insert into anomaly.records (image_url, captured_at) values (%(url)s, '2026-01-01')", url=url)
        return url

    def put(self, key: str, body: bytes) -> str:
        """Put an object below the prefix of the archive, and return its address."""
        with contextlib.closing(self.s3.client()) as client:
            client.put_object(Bucket=self.s3.bucket, Key=f"{self.prefix}/{key}", Body=body)
        return f"s3://{self.s3.bucket}/{self.prefix}/{key}"

    def run(self, *arguments: str) -> Said:
        """Run a command in this process. Its output never has a secret."""
        self._capsys.readouterr()
        status = main(arguments)
        out, err = self._capsys.readouterr()
        for secret in (API_KEY, self.s3.secret_key, str(conninfo_to_dict(self.db.dsn)["password"])):
            assert secret not in out + err
        return Said(status, AIRFLOW_LOG.sub("", out), err)
