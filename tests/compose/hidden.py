"""Searches for passwords and keys of .env in the images, the output of the services and the logs of the tasks."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from typing import IO, TYPE_CHECKING

from tests.compose.stack import ROOT, Failed, Server, expect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IMAGES = ("anomaly/airflow:local", "anomaly/reference:local")
SEEN = (ROOT / "constraints.txt").read_bytes()
"""The content of a file in both images. A search that does not find it would not find a password."""
MIB = 1024 * 1024


def in_images(server: Server) -> str:
    """Search all layers, also files that a later layer hides, and the history with its commands and variables."""
    secrets = {name: value.encode() for name, value in server.secrets().items()}
    size = 0
    for image in IMAGES:
        found: set[str] = set()
        for part in _parts(_saved(image), {**secrets, "the marker": SEEN}, found):
            size += part
        expect("the marker" in found, f"the search in {image} does not find what is there")
        expect(found == {"the marker"}, f"{image} holds {found}")
    return f"none of {len(secrets)} passwords and keys in {size / MIB:.0f} MiB of layers and history of {len(IMAGES)} images"


def in_logs(server: Server) -> str:
    secrets = server.secrets()
    del secrets["SERVER_S3_ACCESS_KEY"]  # not secret: SeaweedFS prints this id at its start, and requests send it in clear text
    printed = server.compose("--profile", "*", "logs", "--no-color")
    expect("the server is prepared" in printed, "the services' logs are not those of this server")
    expect(not (told := [name for name, value in secrets.items() if value in printed]), f"the services' logs hold {told}")
    expect(_files_with(server, ["record committed"]) != [], "the tasks' logs are not there")
    expect(not (files := _files_with(server, list(secrets.values()))), f"a password or key is in {files}")
    return f"none in {len(printed.splitlines())} lines of the services, and none in the files of airflow-logs"


def _files_with(server: Server, texts: list[str]) -> list[str]:
    search = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--file=-", "/opt/airflow/logs"]
    ended = server.ended("exec", "--no-TTY", "scheduler", *search, given="\n".join(texts))
    if ended.returncode not in {0, 1}:  # 1: no match
        raise Failed(f"the tasks' logs could not be searched: {ended.stderr}")
    return ended.stdout.splitlines()


def _parts(content: Iterable[bytes], wanted: dict[str, bytes], found: set[str]) -> Iterator[int]:
    """Yield the size of each part; add the names of the texts found to *found*, also texts that span two parts."""
    buffer, overlap = b"", max(map(len, wanted.values())) - 1
    for part in content:
        buffer += part
        found.update(name for name, text in wanted.items() if text in buffer)
        buffer = buffer[-overlap:]
        yield len(part)


def _saved(image: str) -> Iterator[bytes]:
    """Yield the content of the image's files, unpacked."""
    with (
        subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving,  # noqa: S603, S607  # a constant command
        tarfile.open(fileobj=saving.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if file := archive.extractfile(member):
                yield from _unpacked(io.BufferedReader(file))  # type: ignore[arg-type]  # any stream of bytes works
    if saving.returncode:
        raise Failed(f"docker save {image} ended with {saving.returncode}")


def _unpacked(file: io.BufferedReader) -> Iterator[bytes]:
    content: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
    while part := content.read(MIB):
        yield part
