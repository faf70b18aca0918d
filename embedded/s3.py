"""SeaweedFS as a child process: an S3 server on the loopback interface with random keys and one bucket."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from embedded.errors import StartFailed
from embedded.process import Server
from embedded.state import LOOPBACK, ports, secret

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PORT_OPTIONS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
OPTIONS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
)
SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
"""Requests to the filer and to the volumes that SeaweedFS takes only from its own parts: without it, their ports read any object."""
LIMITS = {"GOMEMLIMIT": "160MiB", "GOGC": "50"}


class S3(Server):
    """An S3 server that keeps objects, keys and ports in *folder*."""

    region = "us-east-1"

    def __init__(self, folder: Path, *, bucket: str = "anomaly") -> None:
        super().__init__("s3", folder, stop_s=10)
        self.bucket = bucket
        self._client: S3Client | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    @property
    def access_key(self) -> str:
        return secret(self.folder / "access_key")

    @property
    def secret_key(self) -> str:
        return secret(self.folder / "secret_key")

    def client(self) -> S3Client:
        """Return a client for this server, with path addressing and without retries."""
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def start(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        security = self.folder / "security.toml"  # read from the working directory
        security.touch(mode=0o600)
        key = secret(self.folder / "jwt_key")
        security.write_text("".join(f'[{each}]\nkey = "{key}"\n' for each in SIGNED))
        chosen = ports(self.folder / "ports.json", *PORT_OPTIONS)
        self.port = chosen["s3.port"]
        self._client = None
        port_options = [f"-{name}={port}" for name, port in chosen.items()]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        command: list[str | Path] = [
            _weed(),
            "-logtostderr=true",
            "mini",
            f"-dir={data}",
            *OPTIONS,
            f"-bucket={self.bucket}",
            *port_options,
        ]
        self._child.start(command, cwd=self.folder, env=os.environ | LIMITS | keys)

    def ready(self) -> bool:
        self._child.check()
        self._client = self._client or self.client()
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError):
            return False
        return True


def _weed() -> Path:
    in_environment = Path(sys.executable).parent / "weed"
    found = in_environment if in_environment.exists() else shutil.which("weed")
    if found is None:
        raise StartFailed("there is no embedded S3 server for this machine; set AIRFLOW_CONN_ANOMALY_S3 to your own bucket")
    return Path(found)
