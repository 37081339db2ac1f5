"""How far vectors are from those of a training: Mahalanobis distance in the space of their principal components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

COMPONENTS = 50
QUANTILE = 0.995
_RIDGE = 1e-3
_FLAT = 1e-6
_RANK = 1e-8
_ROWS_A_COMPONENT = 10


@dataclass(frozen=True)
class Distance:
    """Distance of vectors (n, F) with numbers (n, K) from the training days.

    The vectors become z-scores of the training days (0 where a value is missing, or never changed in training), these their leading
    principal components. Components and z-scores of the numbers make one vector v of m entries, each of variance 1 in training, and
    D^2 = (v - centre)' (S + 0.001 I)^-1 (v - centre) + r^2 with S the covariance of v. r is what the components leave of the day: the
    logarithm of its mean square, as a z-score of the held-out days, 0 where it is less than theirs. For Gaussian data without a rest D^2
    has the chi-square distribution with m degrees of freedom.

    Attributes:
        mean, scale: (F,) of the z-scores (x - mean) * scale; scale 0 where nothing changed.
        components: (F, k), each divided by the standard deviation of its scores.
        variances: (k,) of the scores.
        number_mean, number_scale: (K,) as mean and scale.
        centre: (m,) training mean of v.
        whitening: (m, m), v - centre times this has unit covariance.
        rest: (2,) mean and 1 / standard deviation of the logarithm of what is left; the second is 0 where the components leave nothing.
        threshold: (1,) the 99.5th percentile of D on held-out days, or on those of the fit should that be larger: few days are fitted
            too closely.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    number_mean: np.ndarray
    number_scale: np.ndarray
    centre: np.ndarray
    whitening: np.ndarray
    rest: np.ndarray
    threshold: np.ndarray

    def __call__(self, vectors: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """D of each day (n,), float64."""
        joined, rest = self._joined(vectors, numbers)
        whitened = (joined - self.centre) @ self.whitening
        return np.sqrt((whitened**2).sum(axis=1) + np.maximum((rest - self.rest[0]) * self.rest[1], 0.0) ** 2)

    @property
    def freedom(self) -> int:
        """Degrees of freedom m."""
        return len(self.centre)

    def _joined(self, vectors: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v (n, m) and the logarithm of what the components leave (n,)."""
        scores = _scaled(vectors, self.mean, self.scale)
        leading = scores @ self.components
        left = (scores**2).sum(axis=1) - (leading**2 * self.variances).sum(axis=1)
        rest = np.log(np.maximum(left / max(np.count_nonzero(self.scale), 1), _RANK))
        varying = self.number_scale > 0
        return np.concatenate([leading, _scaled(numbers, self.number_mean, self.number_scale)[:, varying]], axis=1), rest

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {f"{prefix}.{item.name}": np.ascontiguousarray(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], prefix: str) -> Distance:
        """From the arrays that ``tensors`` gave; KeyError where one is missing."""
        return cls(**{item.name: tensors[f"{prefix}.{item.name}"] for item in fields(cls)})


def fit_distance(training: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], *, most: int = COMPONENTS) -> Distance:
    """Fit the distance on training days, and its threshold on held-out days.

    Args:
        training: vectors (n, F) and numbers (n, K); NaN in vectors is missing.
        held_out: the same of days that were not trained on, at least two.
        most: components; fewer where there are fewer than ten training days for each.
    """
    mean, scale = _moments(training[0])
    scores = _scaled(training[0], mean, scale)
    directions, variances = _principal(scores, min(most, max(1, len(scores) // _ROWS_A_COMPONENT)))
    number_mean, number_scale = _moments(training[1])
    nothing = np.zeros(0)
    found = Distance(
        mean, scale, directions / np.sqrt(variances), variances, number_mean, number_scale, nothing, nothing, np.zeros(2), nothing
    )
    joined = found._joined(*training)[0]
    centre = joined.mean(axis=0)
    covariance = (joined - centre).T @ (joined - centre) / len(joined)
    lower = cholesky(covariance + _RIDGE * np.eye(len(covariance)), lower=True)
    whitening = solve_triangular(lower, np.eye(len(lower)), lower=True).T
    rest = found._joined(*held_out)[1]
    leaves = np.median(rest) > np.log(_FLAT) and rest.std() > _FLAT
    parts = {item.name: getattr(found, item.name) for item in fields(found)}
    parts |= {"centre": centre, "whitening": whitening, "rest": np.array([rest.mean(), 1 / rest.std() if leaves else 0.0])}
    parts["threshold"] = np.array([max(np.quantile(Distance(**parts)(*days), QUANTILE) for days in (training, held_out))])
    return Distance(**parts)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / standard deviation of each column over its values; 0 for both where there are none or they never change."""
    valid = np.isfinite(values)
    count = np.maximum(valid.sum(axis=0), 1)
    mean = np.where(valid, values, 0.0).sum(axis=0, dtype=np.float64) / count
    std = np.sqrt((np.where(valid, values - mean, 0.0) ** 2).sum(axis=0) / count)
    changes = std > _FLAT * np.abs(mean)
    return mean, np.where(changes, 1.0 / np.where(changes, std, 1.0), 0.0)


def _scaled(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.nan_to_num((values.astype(np.float64) - mean) * scale, nan=0.0)


def _principal(scores: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (F, k) and variances (k,) of the leading principal components of z-scores (n, F), the largest first."""
    days, size = scores.shape
    wanted = min(wanted, days, size)
    if size <= days:
        values, vectors = eigh(scores.T @ scores / days, subset_by_index=(size - wanted, size - 1))
    else:
        values, vectors = eigh(scores @ scores.T / days, subset_by_index=(days - wanted, days - 1))
        vectors = scores.T @ (vectors / np.sqrt(np.maximum(values, _RANK) * days))
    kept = values > max(_RANK * values[-1], _RANK)
    return vectors[:, kept][:, ::-1].copy(), values[kept][::-1].copy()
