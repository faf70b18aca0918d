"""Bombs against the process that `bin/run` starts: bounded time and memory, and images beside them are not held up."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import requests
from PIL import Image

from reference_detector.dataset import split
from reference_detector.decoding import SMALL_BYTES, is_small_png
from reference_detector.photo import read_photo
from tests.parts.image_bombs import bombs, jpeg, png, png_chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
CPU_S = 5.0
MEMORY_BYTES = 300_000_000
CELL = split().rest[0].path.read_bytes()
EXPENSIVE = {
    "jpeg 20 MB of fill bytes",
    "jpeg 20 MB of fill bytes without end",
    "png 15000 profiles",
    "bmp ends of lines",
}
"""Bombs that only the limits of a process end."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, str]]:
    """The process of a detector that is ready, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "reference_detector", "--port", str(port), "--data", str(tmp_path_factory.mktemp("data"))]
    with subprocess.Popen(line, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stderr
        assert any("ready model=" in line for line in process.stderr)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)


def detect(url: str, content: bytes) -> requests.Response:
    return requests.post(f"{url}/v1/detect?heatmap=0", data=content, headers={"Content-Type": "image/x"}, timeout=100)


def code_of(answer: requests.Response) -> str:
    return str(answer.json().get("error", {}).get("code", ""))


def processes(service: psutil.Process) -> Iterator[psutil.Process]:
    for process in [service, *service.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            yield process


def cpu_s(service: psutil.Process) -> float:
    """The processor time of the service, its processes and those that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes(service))


def resident_bytes(service: psutil.Process) -> int:
    return sum(process.memory_info().rss for process in processes(service))


@contextmanager
def peak_of(service: psutil.Process) -> Iterator[list[int]]:
    """The largest growth of memory while the block runs, sampled."""
    peak, ended, before = [0], threading.Event(), resident_bytes(service)

    def sample() -> None:
        while not ended.wait(0.02):
            with suppress(psutil.NoSuchProcess):
                peak[0] = max(peak[0], resident_bytes(service) - before)

    thread = threading.Thread(target=sample)
    thread.start()
    yield peak
    ended.set()
    thread.join()


@pytest.mark.timeout(1200)
def test_each_bomb_has_an_answer_in_bounded_time_and_memory(service: tuple[psutil.Process, str]) -> None:
    process, url = service
    score = detect(url, CELL).json()["score"]
    detect(url, jpeg())  # starts a process that decodes
    results: list[tuple[str, str, float, int]] = []
    for name, make, _ in bombs():
        content = make()
        with peak_of(process) as peak:
            before = cpu_s(process)
            answer = detect(url, content)
            results.append((name, code_of(answer), cpu_s(process) - before, peak[0] - len(content)))
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (name, answer.text)

    slowest, largest = max(results, key=lambda row: row[2]), max(results, key=lambda row: row[3])
    print(f"{len(results)} bombs; slowest {slowest[0]}: {slowest[2]:.2f} s; largest {largest[0]}: {largest[3] / 1e6:.0f} MB")  # noqa: T201
    assert slowest[2] < CPU_S, slowest
    assert largest[3] < MEMORY_BYTES, largest
    assert {name for name, code, _, _ in results if code == "image_too_expensive"} >= EXPENSIVE
    assert detect(url, CELL).json()["score"] == score


def test_images_are_judged_while_a_bomb_is_decoded(service: tuple[psutil.Process, str]) -> None:
    _, url = service
    bomb = jpeg(b"\xff" * 20_000_000)
    with ThreadPoolExecutor(1) as other:
        bad = other.submit(detect, url, bomb)
        good = [detect(url, CELL) for _ in range(10)]
        assert not bad.done()
        assert {answer.status_code for answer in good} == {200}
        assert code_of(bad.result()) == "image_too_expensive"


def test_a_jpeg_gets_the_score_of_the_same_pixels_in_a_png(service: tuple[psutil.Process, str]) -> None:
    _, url = service
    written, copied = io.BytesIO(), io.BytesIO()
    Image.effect_noise((300, 300), 50).save(written, "JPEG")
    with Image.open(written) as opened:
        opened.save(copied, "PNG")
    assert [is_small_png(content.getvalue()) for content in (written, copied)] == [False, True]

    first, second = (detect(url, content.getvalue()).json() for content in (written, copied))
    assert first["score"] == second["score"]
    assert first["usage"]["pixels"] == 90_000


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"tEXt", b"iTXt", b"IDAT", b"PLTE"])
def test_a_small_png_is_cheap_whatever_its_chunks_hold(kind: bytes) -> None:
    packed = b"x\0\0" + zlib.compress(bytes(999_999), 9) if kind in {b"iCCP", b"zTXt"} else b""
    chunk = png_chunk(kind, packed)
    content = png(chunk * ((SMALL_BYTES - 100) // len(chunk)))
    assert is_small_png(content)
    assert not is_small_png(content + bytes(SMALL_BYTES))
    assert not is_small_png(png(size=(4000, 1001), data=b""))

    began = time.process_time()
    with suppress(Exception):
        read_photo(content)
    assert time.process_time() - began < CPU_S / 2
