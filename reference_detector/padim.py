"""PaDiM: a Gaussian of normal features at each position, and how far an image is from it (Defard et al. 2020)."""

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
    """The chosen channels of two feature maps, the second of half the first's size, as (positions, channels)."""
    both = np.concatenate([fine, coarse.repeat(2, axis=1).repeat(2, axis=2)])[channels]
    neighbourhood: Floats = uniform_filter(both, size=3, axes=(1, 2))
    return neighbourhood.reshape(len(channels), -1).T


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussians:
    """What normal looks like: one Gaussian at each position of a square grid."""

    mean: Floats
    """(positions, channels)"""
    whitening: Floats
    """(positions, channels, channels): makes the covariance at each position the identity."""

    @classmethod
    def fitted(cls, embeddings: Floats) -> Gaussians:
        """Fit to normal images, given as (images, positions, channels); needs two of them at least."""
        samples = embeddings.transpose(1, 0, 2)
        mean = samples.mean(axis=1)
        centred = samples - mean[:, None, :]
        covariance = centred.transpose(0, 2, 1) @ centred / (samples.shape[1] - 1)
        covariance += SHRINKAGE * np.eye(samples.shape[2], dtype=np.float32)  # fewer images than channels would be singular
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(mean=mean.astype(np.float32), whitening=whitening.astype(np.float32))

    def distances(self, image: Floats) -> Floats:
        """The Mahalanobis distance at each position of the grid, row by row."""
        white = (self.whitening @ (image - self.mean)[:, :, None])[:, :, 0]
        side = math.isqrt(len(white))
        lengths: Floats = np.sqrt((white**2).sum(axis=1))
        return lengths.reshape(side, side)


def anomaly_map(distances: Floats) -> Floats:
    """Distances without their speckle."""
    smooth: Floats = gaussian_filter(distances, SMOOTHING_CELLS)
    return smooth


def image_score(smooth: Floats) -> float:
    """The mean of the largest 1 % of an anomaly map: a small defect counts as much as a large one."""
    flat = smooth.ravel()
    count = max(1, round(TOP_FRACTION * flat.size))
    return float(np.partition(flat, -count)[-count:].mean())
