"""Turns an anomaly map into regions and a heat map for a person."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects, label

from reference_detector.schemas import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reference_detector.calibration import Calibration
    from reference_detector.padim import Floats

HEATMAP_SIDE_PX = 256
LEVELS = 32
RAMP = ((70, 15, 110, 0), (225, 60, 70, 150), (255, 235, 120, 225))
"""Colours (red, green, blue, alpha) at even steps: transparent at the median, red at the threshold, yellow far above it."""


def regions_of(smooth: Floats, *, threshold: float, width_px: int, height_px: int) -> list[Region]:
    """Return boxes around the areas above the threshold, in pixels of the original image, the highest score first."""
    labelled, _count = label(smooth > threshold)
    x_px, y_px = width_px / smooth.shape[1], height_px / smooth.shape[0]
    regions = []
    for number, (rows, columns) in enumerate(find_objects(labelled), start=1):
        inside = smooth[rows, columns][labelled[rows, columns] == number]
        left, top = round(columns.start * x_px), round(rows.start * y_px)
        width, height = round(columns.stop * x_px) - left, round(rows.stop * y_px) - top
        regions.append(Region(x=left, y=top, width=width, height=height, score=float(inside.max())))
    return sorted(regions, key=lambda region: -region.score)


def heatmap_png(smooth: Floats, calibration: Calibration, *, width_px: int, height_px: int) -> bytes:
    """Return a transparent PNG with the image's proportions, to overlay on it. A colour means the same distance in each image."""
    low, middle = calibration.median, calibration.threshold
    level = np.clip((smooth - low) / max(middle - low, 1e-9) / 2, 0, 1)
    scale = min(1.0, HEATMAP_SIDE_PX / max(width_px, height_px))
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    grown = Image.fromarray((level * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture = Image.fromarray(np.asarray(grown) // (256 // LEVELS)).convert("P")
    colours = _colours()
    picture.putpalette(colours[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=colours[:, 3].tobytes(), optimize=True)
    return file.getvalue()


def _colours() -> NDArray[np.uint8]:
    at, anchors = np.linspace(0, len(RAMP) - 1, LEVELS), np.arange(len(RAMP))
    return np.stack([np.interp(at, anchors, channel) for channel in zip(*RAMP, strict=True)], axis=1).astype(np.uint8)
