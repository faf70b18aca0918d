"""Calibrates scores by those of normal images that are not in the fitted set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILE = 0.98
MAD_TO_STD = 1.4826
"""The standard deviation of a normal distribution in units of its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scores of held-out normal images, in ascending order."""

    scores: NDArray[np.float64]

    @property
    def threshold(self) -> float:
        """The score that 2 % of normal images exceed."""
        return float(np.quantile(self.scores, QUANTILE))

    @property
    def median(self) -> float:
        return float(np.median(self.scores))

    def robust_z(self, score: float) -> float:
        """Return the distance of a score from the median of normal images, in robust standard deviations."""
        spread = float(np.median(np.abs(self.scores - self.median))) * MAD_TO_STD
        return (score - self.median) / max(spread, 1e-9)

    def p_value(self, score: float) -> float:
        """Return the conformal p-value: the share of normal images with this score or a higher one, this image included.

        It is never 0. For a normal image, it is at most x with a probability of at most x.
        """
        as_high = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + as_high) / (1 + len(self.scores))
