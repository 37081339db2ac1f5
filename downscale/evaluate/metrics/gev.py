"""Return levels from block maxima: the generalised extreme value distribution by L-moments.

L-moments from unbiased probability weighted moments (Hosking 1990, doi 10.1111/j.2517-6161.1990.tb01775.x), parameters by the
approximation of Hosking, Wallis and Wood (1985, doi 10.1080/00401706.1985.10488049), good to 9e-4 in the shape. The shape k has Hosking's
sign: below zero the upper tail is heavy (k is c of scipy.stats.genextreme).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

MIN_BLOCKS = 10
REACH = 4
"""Longest return period in multiples of the number of blocks."""
_EULER = 0.5772156649015329


@dataclass(frozen=True, eq=False)
class Gev:
    """Location, scale (both in the unit of the maxima) and shape k (1), arrays of one shape."""

    location: np.ndarray
    scale: np.ndarray
    shape: np.ndarray

    def level(self, years: float) -> np.ndarray:
        """The level that is exceeded once in so many years on average."""
        reduced = -np.log(1.0 - 1.0 / years)
        flat = np.abs(self.shape) < 1e-6
        shape = np.where(flat, 1.0, self.shape)
        return np.asarray(self.location + self.scale * np.where(flat, -np.log(reduced), (1.0 - reduced**shape) / shape))


def l_moments(maxima: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, L-scale and L-skewness over the first axis; fewer than three values, or a NaN among them: NaN."""
    n = len(maxima)
    if n < 3:
        return (np.full(maxima.shape[1:], np.nan),) * 3
    ordered = np.sort(maxima.astype(np.float64), axis=0)
    j = np.arange(n).reshape(-1, *[1] * (maxima.ndim - 1))
    b0 = ordered.mean(axis=0)
    b1 = (ordered * j).sum(axis=0) / (n * (n - 1))
    b2 = (ordered * j * (j - 1)).sum(axis=0) / (n * (n - 1) * (n - 2))
    scale = 2 * b1 - b0
    with np.errstate(divide="ignore", invalid="ignore"):
        return b0, scale, (6 * b2 - 6 * b1 + b0) / scale


def fit_gev(maxima: np.ndarray) -> Gev:
    """GEV of block maxima (block, ...), unit kept; NaN where a block is missing or all blocks are equal."""
    mean, l_scale, skewness = l_moments(maxima)
    with np.errstate(divide="ignore", invalid="ignore"):
        varies = l_scale > 1e-9 * np.maximum(np.abs(mean), 1e-9)
        c = 2.0 / (3.0 + skewness) - np.log(2.0) / np.log(3.0)
        shape = np.where(varies, np.clip(7.8590 * c + 2.9554 * c**2, -0.9, 0.9), np.nan)
        flat = np.abs(shape) < 1e-6
        k = np.where(flat, 1.0, shape)
        gamma = special.gamma(1.0 + k)
        scale = np.where(flat, l_scale / np.log(2.0), l_scale * k / ((1.0 - 2.0**-k) * gamma))
        location = mean - np.where(flat, scale * _EULER, scale * (1.0 - gamma) / k)
    return Gev(location, scale, shape)


def same_distribution(samples: Sequence[np.ndarray]) -> float:
    """p-value of the k-sample Anderson-Darling test, between 0.001 and 0.25 (Scholz and Stephens 1987, doi 10.2307/2288805).

    Args:
        samples: two or more of (n,); NaN is returned where one has fewer than two values, or all values are equal.
    """
    finite = [sample[np.isfinite(sample)] for sample in samples]
    if len(finite) < 2 or min(len(sample) for sample in finite) < 2 or len(np.unique(np.concatenate(finite))) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(stats.anderson_ksamp(finite).pvalue)
