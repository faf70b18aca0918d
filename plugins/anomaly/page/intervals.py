"""Exact 95 % intervals for a share that is estimated from reviews in several strata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TAIL = 0.025
"""Probability beyond each end of an interval."""
STEPS_MAX = 200
TOLERANCE = 1e-13
_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Records among which those that were reviewed are as good as drawn at random."""

    records: int
    reviewed: int
    hits: int
    """Reviewed records that have the property whose share is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareEstimate:
    """An estimated share of records, with its interval."""

    value: float | None
    """None without a review."""
    low: float
    high: float
    reviewed: int


UNKNOWN = ShareEstimate(value=None, low=0.0, high=1.0, reviewed=0)


def share(strata: Sequence[Stratum]) -> ShareEstimate:
    """Return the share of hits among all records of the strata, with an interval that covers it with a probability of at least 95 %.

    With one stratum it is the exact binomial interval of Clopper and Pearson (1934, Biometrika 26:404-413), whose ends are quantiles of
    beta distributions. With several, the distributions of the ends are added, weighted by the records of each stratum, as by Fay,
    Proschan and Brittain (2015, Biometrics 71:146-156); the sum is replaced by the beta distribution of the same mean and variance.
    A stratum without a review may have any share, from 0 at the lower end to 1 at the upper one.
    """
    records = sum(each.records for each in strata)
    known = [each for each in strata if each.reviewed and each.records]
    seen = sum(each.records for each in known)
    if not seen:
        return UNKNOWN
    weights = [each.records / seen for each in known]
    value = sum(weight * each.hits / each.reviewed for weight, each in zip(weights, known, strict=True))
    low = _quantile_of_sum(TAIL, weights, [(each.hits, each.reviewed - each.hits + 1) for each in known])
    high = _quantile_of_sum(1 - TAIL, weights, [(each.hits + 1, each.reviewed - each.hits) for each in known])
    part = seen / records
    return ShareEstimate(value=value, low=part * low, high=part * high + (1 - part), reviewed=sum(each.reviewed for each in known))


def _quantile_of_sum(probability: float, weights: Sequence[float], parameters: Sequence[tuple[float, float]]) -> float:
    """Return a quantile of a weighted sum of beta variables, by the beta distribution of the same mean and variance."""
    if len(parameters) == 1:
        return beta_quantile(probability, *parameters[0])
    mean = sum(weight * a / (a + b) for weight, (a, b) in zip(weights, parameters, strict=True))
    variance = sum(weight**2 * a * b / ((a + b) ** 2 * (a + b + 1)) for weight, (a, b) in zip(weights, parameters, strict=True))
    if not variance:
        return mean
    size = mean * (1 - mean) / variance - 1
    return beta_quantile(probability, mean * size, (1 - mean) * size)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return a quantile of the beta distribution, by Newton's method within an interval that is halved where that would leave it.

    With *a* = 0 it is 0, with *b* = 0 it is 1.
    """
    if a <= 0 or b <= 0:
        return 0.0 if a <= 0 else 1.0
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(STEPS_MAX):
        error = beta_probability(x, a, b) - probability
        low, high = (low, x) if error > 0 else (x, high)
        slope = math.exp(_log_density(x, a, b))
        following = x - error / slope if slope else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= TOLERANCE * x:
            return following
        x = following
    return x


def beta_probability(x: float, a: float, b: float) -> float:
    """Return the probability that a beta variable is at most *x*: the regularized incomplete beta function.

    It is the continued fraction 8.17.22 of the Digital Library of Mathematical Functions, evaluated by Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other side converges fast
        return 1 - beta_probability(1 - x, b, a)
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or _TINY)
    fraction = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + term * d) or _TINY)
            c = (1 + term / c) or _TINY
            fraction *= c * d
        if abs(c * d - 1) < TOLERANCE:
            break
    return math.exp(_log_density(x, a, b)) * x * (1 - x) / a * fraction


def _log_density(x: float, a: float, b: float) -> float:
    if not 0 < x < 1:
        return -math.inf
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)
