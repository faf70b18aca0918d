"""The fitted detector, which turns a photo into an answer."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from reference_detector.padim import Gaussians, anomaly_map, embedding, image_score
from reference_detector.picture import heatmap_png, regions_of
from reference_detector.schemas import Answer, Model, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reference_detector.calibration import Calibration
    from reference_detector.padim import Floats
    from reference_detector.photo import Photo

NAME = "padim-efficientnet-lite0"
ONNX = Path(__file__).parent / "backbone" / "efficientnet_lite0_stage5.onnx"
FEATURES = 40 + 112
"""Channels of stages 3 and 5."""


class Backbone:
    """The pretrained network up to its fifth stage, reduced to the channels in use. For any thread."""

    def __init__(self, channels: NDArray[np.intp]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # images are processed in parallel; more threads for each would only contend
        self._session = ort.InferenceSession(ONNX, options, providers=["CPUExecutionProvider"])
        self._channels = channels

    def features(self, photo: Photo) -> Floats:
        """Return the features at each position, as (positions, channels)."""
        fine, coarse = self._session.run(["stage3", "stage5"], {"pixels": photo.pixels[None, None]})
        return embedding(fine[0], coarse[0], self._channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A backbone with the Gaussians and the calibration of normal images. For any thread."""

    backbone: Backbone
    gaussians: Gaussians
    calibration: Calibration
    version: str
    fitted_images: int

    def detect(self, photo: Photo, *, heatmap: bool = True) -> Answer:
        """Judge one photo. One version gives the same photo the same score each time."""
        began = time.perf_counter()
        smooth = anomaly_map(self.gaussians.distances(self.backbone.features(photo)))
        score, threshold = image_score(smooth), self.calibration.threshold
        size = {"width_px": photo.width_px, "height_px": photo.height_px}
        found = score > threshold
        picture = base64.b64encode(heatmap_png(smooth, self.calibration, **size)).decode() if heatmap else None
        return Answer(
            score=score,
            z=self.calibration.robust_z(score),
            p_value=self.calibration.p_value(score),
            threshold=threshold,
            is_anomaly=found,
            label="anomalous" if found else "normal",
            regions=regions_of(smooth, threshold=threshold, **size) if found else [],
            heatmap=picture,
            model=Model(name=NAME, version=self.version),
            usage=Usage(pixels=photo.width_px * photo.height_px, inference_ms=(time.perf_counter() - began) * 1000),
        )
