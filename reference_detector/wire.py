"""What goes over the wire; `docs/reference-detector.md` says it in prose."""

from __future__ import annotations

from pydantic import BaseModel


class Region(BaseModel):
    """A box around something unusual, in pixels of the image as it was sent."""

    x: int
    y: int
    width: int
    height: int
    score: float


class Model(BaseModel):
    """What looked at the image."""

    name: str
    version: str


class ModelCard(Model):
    """The model, and how it was fitted."""

    fitted_images: int
    calibration_images: int
    threshold: float
    score_unit: str = "mean Mahalanobis distance of the most unusual 1 % of positions"
    formats: list[str]
    max_bytes: int
    max_px: int


class Usage(BaseModel):
    """What the answer took."""

    images: int = 1
    pixels: int
    inference_ms: float


class Answer(BaseModel):
    """What the detector says of one image."""

    score: float
    z: float
    p_value: float
    threshold: float
    is_anomaly: bool
    label: str
    regions: list[Region]
    heatmap: str | None = None
    """A PNG in base64."""
    model: Model
    usage: Usage


class Error(BaseModel):
    """Why there is no answer."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is no success."""

    error: Error
