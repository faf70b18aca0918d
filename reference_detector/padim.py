"""PaDiM (Defard et al. 2020): Gaussians of normal features at each position, and the distance of an image from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SHRINKAGE = 0.01
SMOOTHING_CELLS = 1.0
TOP_FRACTION = 0.01


def embedding(fine: Floats, coarse: Floats, channels: NDArray[np.intp]) -> Floats:
    """Return the chosen channels of two feature maps, the second half as large as the first, as (positions, channels)."""
    both = np.concatenate([fine, coarse.repeat(2, axis=1).repeat(2, axis=2)])[channels]
    neighbourhood: Floats = uniform_filter(both, size=3, axes=(1, 2))
    return neighbourhood.reshape(len(channels), -1).T


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussians:
    """The features of normal images: one Gaussian at each position of a square grid."""

    mean: Floats
    """(positions, channels)"""
    whitening: Floats
    """(positions, channels, channels): turns the covariance at each position into the identity."""

    @classmethod
    def fitted(cls, embeddings: Floats) -> Gaussians:
        """Fit to at least two normal images, given as (images, positions, channels)."""
        samples = embeddings.transpose(1, 0, 2)
        mean = samples.mean(axis=1)
        centred = samples - mean[:, None, :]
        covariance = centred.transpose(0, 2, 1) @ centred / (samples.shape[1] - 1)
        covariance += SHRINKAGE * np.eye(samples.shape[2], dtype=np.float32)  # with fewer images than channels it would be singular
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(mean=mean.astype(np.float32), whitening=whitening.astype(np.float32))

    def distances(self, image: Floats) -> Floats:
        """Return the Mahalanobis distance at each position of the grid, row by row."""
        white = (self.whitening @ (image - self.mean)[:, :, None])[:, :, 0]
        side = math.isqrt(len(white))
        lengths: Floats = np.sqrt((white**2).sum(axis=1))
        return lengths.reshape(side, side)


def anomaly_map(distances: Floats) -> Floats:
    """Return the distances, smoothed."""
    smooth: Floats = gaussian_filter(distances, SMOOTHING_CELLS)
    return smooth


def image_score(smooth: Floats) -> float:
    """Return the mean of the largest 1 % of an anomaly map, so that a small defect counts as much as a large one."""
    flat = smooth.ravel()
    count = max(1, round(TOP_FRACTION * flat.size))
    return float(np.partition(flat, -count)[-count:].mean())
