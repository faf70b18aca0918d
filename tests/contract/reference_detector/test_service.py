from __future__ import annotations

import base64
import dataclasses
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image

from reference_detector.calibration import Calibration
from reference_detector.dataset import Split, split
from reference_detector.detector import NAME, Backbone, Detector
from reference_detector.fitting import detector_for
from reference_detector.photo import read_photo
from reference_detector.service import Limits, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reference_detector.fitting import Progress
    from reference_detector.padim import Floats
    from reference_detector.photo import Photo

ROOT = Path(__file__).parents[3]
LIMITS = Limits(max_bytes=200_000, max_px=1_000_000)
PNG = {"Content-Type": "image/png"}
CELL = next(cell for cell in split().rest if cell.is_defective).path.read_bytes()


class GatedBackbone(Backbone):
    """Judges no image before its gate opens, and counts its calls."""

    def __init__(self, real: Backbone) -> None:
        self.real, self.gate, self.looks = real, threading.Event(), 0

    def features(self, photo: Photo) -> Floats:
        self.looks += 1
        assert self.gate.wait(60)
        return self.real.features(photo)


@contextmanager
def serving(load: Callable[[Progress], Detector], limits: Limits = LIMITS, on_failure: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Serve with *load* and return the address."""
    app = Service(load, limits, on_failure=on_failure).app()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A detector fitted to some of the cells."""
    whole = split()
    return detector_for(Split(fit=whole.fit[:90], calibrate=whole.calibrate[:60], rest=()), tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def url(detector: Detector) -> Iterator[str]:
    """The address of a service that is ready."""
    fitted = threading.Event()

    def load(progress: Progress) -> Detector:
        progress(1, 1)
        fitted.set()
        return detector

    with serving(load) as address:
        assert fitted.wait(60)
        while requests.get(f"{address}/readyz", timeout=60).status_code != 200:
            pass
        yield address


def detect(url: str, content: bytes = CELL, headers: dict[str, str] | None = None, query: str = "") -> requests.Response:
    return requests.post(f"{url}/v1/detect{query}", data=content, headers=PNG | (headers or {}), timeout=60)


def claiming(width: int, height: int) -> bytes:
    """Return a PNG whose header states a larger size."""
    header = b"IHDR" + struct.pack(">II", width, height) + CELL[24:29]
    return CELL[:12] + header + struct.pack(">I", zlib.crc32(header)) + CELL[33:]


# answers


def test_an_answer_has_every_field_of_the_contract(url: str, detector: Detector) -> None:
    answer = detect(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    said = answer.json()
    fields = {"score", "z", "p_value", "threshold", "is_anomaly", "label", "regions", "heatmap", "model", "usage"}
    assert set(said) == fields
    assert said["is_anomaly"] is (said["score"] > said["threshold"])
    assert said["label"] == "anomalous"
    assert said["p_value"] == detector.calibration.p_value(said["score"])
    assert said["z"] == pytest.approx(detector.calibration.robust_z(said["score"]))
    assert said["model"] == {"name": NAME, "version": detector.version}
    assert (said["usage"]["images"], said["usage"]["pixels"]) == (1, 300 * 300)
    assert said["usage"]["inference_ms"] > 0


def test_regions_lie_inside_the_image_and_the_worst_comes_first(url: str) -> None:
    regions = detect(url).json()["regions"]
    assert regions
    for box in regions:
        assert box["x"] >= 0 <= box["y"]
        assert box["x"] + box["width"] <= 300 >= box["y"] + box["height"]
        assert box["width"] > 0 < box["height"]
    assert regions == sorted(regions, key=lambda box: -box["score"])


def test_a_usual_image_has_no_regions(url: str) -> None:
    answers = (detect(url, cell.path.read_bytes()).json() for cell in split().fit[:5])
    usual = [answer for answer in answers if not answer["is_anomaly"]]
    assert usual
    assert all(answer["regions"] == [] and answer["label"] == "normal" for answer in usual)


def test_a_normal_image_has_no_regions_even_where_single_positions_pass_the_threshold(detector: Detector) -> None:
    photo = read_photo(CELL)
    just_above = Calibration(np.array([detector.detect(photo).score + 1e-3]))
    assert detector.detect(photo).regions
    assert dataclasses.replace(detector, calibration=just_above).detect(photo).regions == []


def test_the_heat_map_is_a_png_and_can_be_left_out(url: str) -> None:
    picture = Image.open(io.BytesIO(base64.b64decode(detect(url).json()["heatmap"])))
    assert (picture.format, picture.size) == ("PNG", (256, 256))
    assert "heatmap" not in detect(url, query="?heatmap=0").json()


def test_the_same_image_gets_the_same_score_alone_and_in_a_crowd(url: str) -> None:
    with ThreadPoolExecutor(32) as crowd:
        answers = list(crowd.map(lambda _n: detect(url, query="?heatmap=0"), range(64)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["score"] for answer in answers}) == 1


def test_the_model_card_has_the_fit_and_the_limits(url: str, detector: Detector) -> None:
    card = requests.get(f"{url}/v1/model", timeout=60).json()
    assert (card["name"], card["version"], card["threshold"]) == (NAME, detector.version, detector.calibration.threshold)
    assert (card["fitted_images"], card["calibration_images"]) == (90, 60)
    assert (card["max_bytes"], card["max_px"]) == (LIMITS.max_bytes, LIMITS.max_px)
    assert "PNG" in card["formats"]


# refusals


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ((b"", "image/png", ""), 400, "request_malformed"),
        ((CELL, "image/png", "?heatmap=perhaps"), 400, "request_malformed"),
        ((b"x" * 200_001, "image/png", ""), 413, "image_too_large"),
        ((b"x" * 20_000_000, "image/png", ""), 413, "image_too_large"),
        ((claiming(1001, 1000), "image/png", ""), 413, "image_too_many_pixels"),
        ((claiming(60_000, 60_000), "image/png", ""), 413, "image_too_many_pixels"),
        ((CELL, "application/json", ""), 415, "media_type_unsupported"),
        ((CELL, "", ""), 415, "media_type_unsupported"),
        ((b"<!doctype html>", "image/png", ""), 415, "media_type_unsupported"),
        ((CELL[: len(CELL) // 2], "image/png", ""), 422, "image_unreadable"),
        ((CELL[:2000] + b"damaged" * 500 + CELL[5500:], "image/png", ""), 422, "image_unreadable"),
    ],
)
def test_an_unusable_image_is_refused(url: str, asked: tuple[bytes, str, str], status: int, code: str) -> None:
    content, media_type, query = asked
    answer = detect(url, content, {"Content-Type": media_type}, query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"), [("GET", "/v1/detect", 405, "method_not_allowed"), ("GET", "/v2", 404, "not_found")]
)
def test_an_unknown_path_is_an_error_of_the_same_shape(url: str, method: str, path: str, status: int, code: str) -> None:
    answer = requests.request(method, url + path, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


# idempotency


def test_a_repeated_key_gets_the_same_answer_marked_as_replayed(url: str) -> None:
    first, second = (detect(url, headers={"Idempotency-Key": "again"}) for _time in range(2))
    assert first.content == second.content
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert {first.headers["Idempotency-Key"], second.headers["Idempotency-Key"]} == {"again"}


def test_a_key_with_another_image_is_refused_and_echoed(url: str) -> None:
    detect(url, headers={"Idempotency-Key": "once"})
    other = detect(url, split().fit[0].path.read_bytes(), {"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.headers["Idempotency-Key"] == "once"


def test_a_failure_is_not_replayed(url: str) -> None:
    statuses = [detect(url, content, {"Idempotency-Key": "mended"}).status_code for content in (CELL[:900], CELL)]
    assert statuses == [422, 200]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_empty_or_endless_key_is_malformed(url: str, key: str) -> None:
    assert detect(url, headers={"Idempotency-Key": key}).status_code == 400


def test_two_requests_with_one_key_at_the_same_time_are_one_look(detector: Detector) -> None:
    backbone = GatedBackbone(detector.backbone)
    with ready(dataclasses.replace(detector, backbone=backbone)) as address, ThreadPoolExecutor(2) as crowd:
        asked = [crowd.submit(detect, address, CELL, {"Idempotency-Key": "both"}) for _time in range(2)]
        backbone.gate.set()
        assert len({answer.result().content for answer in asked}) == 1
    assert backbone.looks == 1


# load and life


@contextmanager
def ready(detector: Detector, limits: Limits = LIMITS) -> Iterator[str]:
    with serving(lambda _progress: detector, limits) as address:
        while requests.get(f"{address}/readyz", timeout=60).status_code != 200:
            pass
        yield address


def test_more_than_the_queue_holds_gets_503_with_retry_after_and_the_others_are_served(detector: Detector) -> None:
    backbone = GatedBackbone(detector.backbone)
    limits = dataclasses.replace(LIMITS, workers=1, queue=1)
    with ready(dataclasses.replace(detector, backbone=backbone), limits) as address, ThreadPoolExecutor(3) as crowd:
        asked = [crowd.submit(detect, address) for _time in range(3)]
        refused, waiting = wait(asked, 60, FIRST_COMPLETED)
        answers = [answer.result() for answer in refused]
        backbone.gate.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
    assert [(answer.status_code, answer.json()["error"]["code"], answer.headers["Retry-After"]) for answer in answers] == [
        (503, "overloaded", "1")
    ]


def test_it_answers_while_it_fits_and_is_ready_afterwards(detector: Detector) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(progress: Progress) -> Detector:
        progress(7, 20)
        begun.set()
        assert go_on.wait(60)
        return detector

    with serving(load) as address:
        assert begun.wait(60)
        assert requests.get(f"{address}/healthz", timeout=60).json() == {"status": "ok"}
        for answer in (requests.get(f"{address}/readyz", timeout=60), requests.get(f"{address}/v1/model", timeout=60), detect(address)):
            assert (answer.status_code, answer.json()["error"]["code"], answer.headers["Retry-After"]) == (503, "not_ready", "1")
            assert "7 of 20" in answer.json()["error"]["message"]
        go_on.set()
        while (answer := requests.get(f"{address}/readyz", timeout=60)).status_code == 503:
            pass
        assert answer.json() == {"status": "ready"}


def test_a_fitting_that_fails_ends_the_service() -> None:
    failed = threading.Event()

    def load(_progress: Progress) -> Detector:
        raise RuntimeError("no such luck")

    with serving(load, on_failure=failed.set):
        assert failed.wait(60)


# the command


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def command(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "reference_detector", *arguments]
    return subprocess.Popen(line, cwd=ROOT, env=os.environ | environ, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_in_the_middle_of_fitting_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    with command("--port", str(free_port()), "--data", str(tmp_path)) as process:
        assert process.stderr
        assert any("fitting: 100 of 340" in line for line in process.stderr)
        process.send_signal(number)
        _out, rest = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert "ready" not in rest


def test_the_command_serves_and_stores_the_fitted_state(tmp_path: Path) -> None:
    port = free_port()
    with command("--port", str(port), "--data", str(tmp_path)) as process:
        assert process.stderr
        assert any("ready model=" in line for line in process.stderr)
        assert detect(f"http://127.0.0.1:{port}").json()["is_anomaly"] is True
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["padim.npz"]


def test_a_taken_port_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--port", str(port), "--data", str(tmp_path)) as process:
            _out, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert said.count("\n") == 1


def test_a_missing_data_set_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    package = tmp_path / "elpv_dataset"
    package.mkdir()
    (package / "__init__.py").touch()
    with command("--port", str(free_port()), "--data", str(tmp_path), PYTHONPATH=str(tmp_path)) as process:
        _out, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "elpv-dataset is not installed" in said
    assert said.count("\n") == 1


def test_a_data_folder_that_is_a_file_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with command("--port", str(free_port()), "--data", str(tmp_path / "file")) as process:
        _out, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot write its state to" in said
    assert said.count("\n") == 1
