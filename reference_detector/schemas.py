"""Schemas of requests and answers; `docs/reference-detector.md` describes them."""

from __future__ import annotations

from pydantic import BaseModel


class Region(BaseModel):
    """A box around an anomaly, in pixels of the sent image."""

    x: int
    y: int
    width: int
    height: int
    score: float


class Model(BaseModel):
    """The model that judged the image."""

    name: str
    version: str


class ModelCard(Model):
    """The model, its fit and its limits."""

    fitted_images: int
    calibration_images: int
    threshold: float
    score_unit: str = "mean Mahalanobis distance of the most unusual 1 % of positions"
    formats: list[str]
    max_bytes: int
    max_px: int


class Usage(BaseModel):
    """The effort for the answer."""

    images: int = 1
    pixels: int
    inference_ms: float


class Answer(BaseModel):
    """The verdict on one image."""

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
    """The reason for a failed request."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of an answer with an error status."""

    error: Error
