"""The weight of precipitation in the asymmetric loss: how rare an amount is where it falls, by a gamma distribution of each cell.

Doury et al. (2024, Clim. Dyn. 62, 8587) weigh the underestimation of an amount y by the square of its gamma distribution function.
One definition here: amounts above 1 mm/day, less that millimetre, of all training days together, location 0, maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammainc, polygamma

from downscale.pairs.normalise import TrainingPairs, blocks

WET_MM = 1.0
_STEPS = 30
_ENOUGH = 1e-13
_EQUAL = 1e-10


@dataclass(frozen=True)
class Gamma:
    """Gamma distributions of y - 1 mm on days above 1 mm, one for each cell.

    Attributes:
        shape: (Y, X) float64; NaN where fewer than two different amounts were seen (dry, or no truth).
        scale: (Y, X) float64, mm/day; NaN there too.
        days: (Y, X) int64, days above 1 mm.
    """

    shape: np.ndarray
    scale: np.ndarray
    days: np.ndarray

    def weight(self, amounts: np.ndarray) -> np.ndarray:
        """W = G(y - 1)^2 of amounts (..., Y, X) in mm/day, float64, 0 to 1.

        0 up to 1 mm and where a cell has no distribution; NaN where the amount is. G is the distribution function of the cell's
        own parameters: other cells never enter.
        """
        excess = np.asarray(amounts, dtype=np.float64) - WET_MM
        wet = np.isfinite(self.shape) & (excess > 0.0)
        shape, scale = (np.broadcast_to(one, excess.shape)[wet] for one in (self.shape, self.scale))
        result = np.where(np.isnan(excess), np.nan, 0.0)
        result[wet] = gammainc(shape, excess[wet] / scale) ** 2
        return result


def fit_gamma(groups: Sequence[TrainingPairs], target: int) -> Gamma:
    """Gamma distributions of one target over the training days of one or several pair groups, pooled.

    One pass; what is kept are the sums of x, ln x and 1 of each cell, x = y - 1 mm, which is all that the likelihood needs.

    Args:
        groups: each counts once.
        target: position among the targets; mm/day, NaN is skipped.
    """
    count: np.ndarray | float = 0.0
    total: np.ndarray | float = 0.0
    logs: np.ndarray | float = 0.0
    for group in groups:
        for index in blocks(group.split("train")):
            excess = group.target(index)[:, target].astype(np.float64) - WET_MM
            wet = excess > 0.0
            count = count + wet.sum(axis=0)
            total = total + np.where(wet, excess, 0.0).sum(axis=0)
            logs = logs + np.log(np.where(wet, excess, 1.0)).sum(axis=0)
    return from_sums(np.asarray(count), np.asarray(total), np.asarray(logs))


def from_sums(count: np.ndarray, total: np.ndarray, logs: np.ndarray) -> Gamma:
    """The distributions whose likelihood is greatest, from the number of amounts, their sums and the sums of their logarithms.

    The shape k solves ln k - digamma(k) = s, s = ln(mean x) - mean(ln x) > 0; the scale is the mean over k. Newton's steps in 1/k
    (Minka 2002, Estimating a Gamma distribution) from the start of Thom (1958, Mon. Wea. Rev. 86, 117).
    """
    number = np.maximum(count, 1)
    mean = total / number
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(mean) - logs / number
        known = (count > 1) & (spread > _EQUAL)
        s = np.where(known, spread, 1.0)
        k = _solve((3.0 - s + np.sqrt((s - 3.0) ** 2 + 24.0 * s)) / (12.0 * s), s)
    shape = np.where(known, k, np.nan)
    return Gamma(shape, mean / shape, np.asarray(count, dtype=np.int64))


def _solve(k: np.ndarray, s: np.ndarray) -> np.ndarray:
    for _ in range(_STEPS):
        inverse = 1.0 / k + (np.log(k) - digamma(k) - s) / (k**2 * (1.0 / k - polygamma(1, k)))
        following = 1.0 / inverse
        done = np.abs(following - k) <= _ENOUGH * k
        k = following
        if done.all():
            break
    return k
