"""Weather regimes: principal components of daily anomalies of the large scale, grouped by k-means, and how stable the groups are.

Groups are real as far as other samples of days give the same ones (Michelangeli, Vautard and Legras 1995, J. Atmos. Sci. 52, 1237).
Stability is here the mean, over pairs of partitions found on resampled days, of the adjusted Rand index of the days they put together
(Hubert and Arabie 1985; Ben-Hur et al. 2002): 1 where all agree, 0 where they agree as two random partitions would. Red noise of the
same variance and memory says what chance would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

EXPLAINED = 0.95
MOST_COMPONENTS = 20
NUMBERS = (4, 5, 6, 7, 8)
RESAMPLES = 8
STARTS = 3
STABILITY_DAYS = 2000
BLOCK_DAYS = 30
LIMIT_QUANTILE = 0.995
NEW = 0
"""Number of a day that is like none of the regimes."""
DAYS_A_REGIME = 10


@dataclass(frozen=True, eq=False)
class Stability:
    """How far partitions of resampled days agree, for one number of regimes (1: they are the same); and of red noise."""

    number: int
    value: float
    noise: float


@dataclass(frozen=True, eq=False)
class Regimes:
    """Regimes of a training run, the most frequent first.

    Attributes:
        scale: (cells,) root of the cells' share of the area.
        middle: (cells,) mean of the scaled anomalies of the training days.
        components: (p, cells) orthonormal patterns of what they have besides.
        explained: share of the anomalies' variance that they hold.
        centres: (k, p).
        limit: distance of a day from its centre above which it belongs to none (0): 99.5th percentile of the training days.
    """

    scale: np.ndarray
    middle: np.ndarray
    components: np.ndarray
    explained: float
    centres: np.ndarray
    limit: float

    @property
    def number(self) -> int:
        """How many."""
        return len(self.centres)

    def assign(self, anomalies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Regime (n,) of each day, 1 to k, 0 for one that is like none of them; and its distance (n,) from the nearest centre: the root
        of the area-mean square of the difference of the maps, in the channel's unit.

        Args:
            anomalies: (n, cells).
        """
        scaled = anomalies * self.scale - self.middle
        scores = scaled @ self.components.T
        left = np.maximum((scaled**2).sum(axis=1) - (scores**2).sum(axis=1), 0.0)
        squared = ((scores[:, None] - self.centres[None]) ** 2).sum(axis=2)
        nearest = squared.argmin(axis=1)
        distance = np.sqrt(squared.min(axis=1) + left)
        return np.where(distance > self.limit, NEW, nearest + 1), distance


def fit_regimes(anomalies: np.ndarray, area: np.ndarray, number: int | str, seed: int = 0) -> tuple[Regimes, list[Stability]]:
    """Regimes of training days, and the stability of 4 to 8 of them (and of ``number``).

    Args:
        anomalies: (n, cells), at least ten days for each regime.
        area: (cells,) weights.
        number: of regimes; "auto": see most_stable.
        seed: of k-means and resamples.

    Raises:
        ValueError: too few days, or the maps never change.
    """
    wanted = sorted({*NUMBERS, *([number] if isinstance(number, int) else [])})
    scale = np.sqrt(area / area.sum())
    scaled = anomalies * scale
    if len(anomalies) < DAYS_A_REGIME * max(wanted) or not scaled.std() > 0:
        raise ValueError(f"{len(anomalies)} days are too few for {max(wanted)} regimes, or the maps never change")
    middle = scaled.mean(axis=0)
    components, explained = _components(scaled)
    scores = (scaled - middle) @ components.T
    with threadpool_limits(1):  # two threads on a busy core are a hundred times slower
        found = [_stability(scores, k, seed) for k in wanted]
        best = number if isinstance(number, int) else most_stable(found)
        groups = KMeans(best, n_init=5 * STARTS, random_state=seed).fit(scores)
    order = np.argsort(-np.bincount(groups.labels_, minlength=best), kind="stable")
    regimes = Regimes(scale, middle, components, explained, groups.cluster_centers_[order], np.inf)
    return replace(regimes, limit=float(np.quantile(regimes.assign(anomalies)[1], LIMIT_QUANTILE))), found


def most_stable(found: Sequence[Stability]) -> int:
    """The number with the highest stability among those above red noise, or among all where none is; the smaller of equal ones."""
    return max(found, key=lambda one: (one.value > one.noise, round(one.value, 3), -one.number)).number


def composites(anomalies: np.ndarray, regime: np.ndarray, number: int) -> np.ndarray:
    """(k, cells) mean anomaly of the days of each regime; NaN for one without days."""
    return np.stack(
        [
            anomalies[regime == one].mean(axis=0) if (regime == one).any() else np.full(anomalies.shape[1], np.nan)
            for one in range(1, number + 1)
        ]
    )


def _components(scaled: np.ndarray) -> tuple[np.ndarray, float]:
    """Leading components that hold 95 % of the variance, at most 20, and the share that they hold."""
    pca = PCA(min(MOST_COMPONENTS, *scaled.shape), svd_solver="covariance_eigh" if scaled.shape[1] <= len(scaled) else "full").fit(scaled)
    shares = np.cumsum(pca.explained_variance_ratio_)
    kept = min(int(np.searchsorted(shares, EXPLAINED)) + 1, len(shares))
    return pca.components_[:kept], float(shares[kept - 1])


def _stability(scores: np.ndarray, number: int, seed: int) -> Stability:
    generator = np.random.default_rng([seed, number])
    parts = scores, _red_noise(scores, min(len(scores), STABILITY_DAYS), generator)
    return Stability(number, *(_agreement(part, number, generator) for part in parts))


def _agreement(scores: np.ndarray, number: int, generator: np.random.Generator) -> float:
    """Mean adjusted Rand index of partitions, each of blocks of 30 days drawn with replacement, on the same at most 2,000 days."""
    some = scores[:: -(-len(scores) // STABILITY_DAYS)]
    blocks = -(-min(len(scores), STABILITY_DAYS) // BLOCK_DAYS)
    partitions = []
    for _ in range(RESAMPLES):
        starts = generator.integers(0, max(1, len(scores) - BLOCK_DAYS + 1), blocks)
        days = (starts[:, None] + np.arange(min(BLOCK_DAYS, len(scores)))).ravel()
        fitted = KMeans(number, n_init=STARTS, random_state=int(generator.integers(2**31))).fit(scores[days])
        partitions.append(fitted.predict(some))
    return float(np.mean([adjusted_rand_score(one, other) for one, other in combinations(partitions, 2)]))


def _red_noise(scores: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """(n, p) independent Gaussian series with the variance and the day-to-day memory of the scores."""
    spread = scores.std(axis=0)
    memory = np.array([np.corrcoef(one[1:], one[:-1])[0, 1] for one in scores.T]).clip(0.0, 0.99)
    series = generator.standard_normal((number, scores.shape[1]))
    for day in range(1, number):
        series[day] = memory * series[day - 1] + np.sqrt(1 - memory**2) * series[day]
    return series * spread
