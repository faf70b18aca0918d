"""What a score means, judged by the scores of normal images that were not fitted."""

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
        """The score that 2 % of normal images pass."""
        return float(np.quantile(self.scores, QUANTILE))

    @property
    def median(self) -> float:
        return float(np.median(self.scores))

    def robust_z(self, score: float) -> float:
        """How many robust standard deviations a score lies above the median of normal images."""
        spread = float(np.median(np.abs(self.scores - self.median))) * MAD_TO_STD
        return (score - self.median) / max(spread, 1e-9)

    def p_value(self, score: float) -> float:
        """The conformal p-value: the share of normal images that score as high, the asked one counted among them.

        Never zero. For normal images it is at most x with a probability of at most x.
        """
        as_high = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + as_high) / (1 + len(self.scores))
