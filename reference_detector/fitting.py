"""Fits the detector to the data set's normal cells once, and stores the result in the data folder."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from reference_detector.calibration import Calibration
from reference_detector.detector import FEATURES, ONNX, Backbone, Detector
from reference_detector.padim import Gaussians, anomaly_map, image_score
from reference_detector.photo import read_photo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from reference_detector.dataset import Cell, Split
    from reference_detector.padim import Floats

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of images done and the total."""

CHANNELS = 64
SEED = 0
MAJOR = 1
"""Incremented when this code fits the same images differently."""
WORKERS = 2


def detector_for(split: Split, data: Path, *, progress: Progress = lambda _done, _total: None) -> Detector:
    """Return the detector fitted to *split*, which is read from *data*, or fitted now and written there.

    An exception that *progress* raises ends the fitting.
    """
    channels = np.sort(np.random.default_rng(SEED).choice(FEATURES, CHANNELS, replace=False))
    backbone = Backbone(channels)
    digest = digest_of(split)
    path = data / "padim.npz"
    state = _read(path, digest)
    if state is None:
        state = _fit(backbone, split, progress)
        _write(path, digest, state)
    gaussians, calibration = state
    version = f"{MAJOR}.{digest}"
    return Detector(backbone=backbone, gaussians=gaussians, calibration=calibration, version=version, fitted_images=len(split.fit))


def digest_of(split: Split) -> str:
    """Return twelve hex digits that change with each input of the fitted state."""
    parts = [str(MAJOR), str(CHANNELS), str(SEED), hashlib.sha256(ONNX.read_bytes()).hexdigest()]
    parts += ["fit", *sorted(cell.sha256 for cell in split.fit), "calibrate", *sorted(cell.sha256 for cell in split.calibrate)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _fit(backbone: Backbone, split: Split, progress: Progress) -> tuple[Gaussians, Calibration]:
    features = _with_progress(_features(backbone, (*split.fit, *split.calibrate)), len(split.fit) + len(split.calibrate), progress)
    gaussians = Gaussians.fitted(np.stack([next(features) for _cell in split.fit]))
    scores = [image_score(anomaly_map(gaussians.distances(image))) for image in features]
    return gaussians, Calibration(np.sort(np.array(scores)))


def _features(backbone: Backbone, cells: Iterable[Cell]) -> Iterator[Floats]:
    """Yield the features of each cell, in order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            yield from pool.map(lambda cell: backbone.features(read_photo(cell.path.read_bytes())), cells)
        finally:
            pool.shutdown(cancel_futures=True)


def _with_progress(features: Iterator[Floats], total: int, progress: Progress) -> Iterator[Floats]:
    for done, image in enumerate(features, start=1):
        progress(done, total)
        yield image


def _read(path: Path, digest: str) -> tuple[Gaussians, Calibration] | None:
    """Return the fitted state from the file, or None if it is missing, damaged or made from other inputs."""
    try:
        with path.open("rb") as file, np.load(file) as state:
            if state["digest"] != digest:
                return None
            gaussians = Gaussians(mean=state["mean"], whitening=state["whitening"])
            return gaussians, Calibration(state["scores"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as exc:
        log.warning("fitted state unreadable, fitting again file=%s error=%s", path.name, exc)
        return None


def _write(path: Path, digest: str, state: tuple[Gaussians, Calibration]) -> None:
    """Write the state atomically. A failure is only logged, as the next start fits again."""
    gaussians, calibration = state
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, digest=digest, mean=gaussians.mean, whitening=gaussians.whitening, scores=calibration.scores)
        partial.replace(path)
    except OSError as exc:
        log.warning("fitted state not written file=%s error=%s", path.name, exc)
