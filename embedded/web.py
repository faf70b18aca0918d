"""The image host and the reference detector as child processes."""

from __future__ import annotations

import os
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import requests

from embedded.process import ROOT, Server
from embedded.state import LOOPBACK, ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class WebService(Server):
    """A Python module that listens on `--host` and `--port` and answers 200 on *ready_path* once it is ready."""

    def __init__(self, name: str, folder: Path, *, module: str, ready_path: str, options: Sequence[str | Path] = ()) -> None:
        super().__init__(name, folder, stop_s=5, ready_s=120)
        self._module = module
        self._ready_path = ready_path
        self._options = options

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> None:
        self.port = ports(self.folder / "ports.json", self.name)[self.name]
        address = ["--host", LOOPBACK, "--port", str(self.port)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
        self._child.start([sys.executable, "-m", self._module, *address, *self._options], cwd=ROOT, env=env)

    def ready(self) -> bool:
        self._child.check()
        with requests.Session() as session:
            session.trust_env = False  # it is on this machine: no proxy
            try:
                return session.get(f"{self.url}{self._ready_path}", timeout=2).status_code == HTTPStatus.OK
            except requests.RequestException:
                return False


def image_host(folder: Path) -> WebService:
    """Return a static file server for the demo's photos."""
    from reference_detector.dataset import data_folder  # noqa: PLC0415  # the photos are installed only where they are used

    images = data_folder()
    return WebService("image-host", folder, module="embedded.image_host", ready_path="/readyz", options=["--folder", images])


def reference_detector(folder: Path) -> WebService:
    """Return the reference detector, which keeps its trained model in *folder*."""
    data = folder.resolve() / "data"
    return WebService("reference-detector", folder, module="reference_detector", ready_path="/readyz", options=["--data", data])
