"""How well each day's map is patterned: correlation over space, day by day, from sums over cells that add up over blocks of rows."""

from __future__ import annotations

import numpy as np

SUMS = ("n", "p", "r", "pp", "rr", "pr")
DAYS_AT_ONCE = 256
SMALLEST_VARIANCE = 1e-12
"""Of the mean square: what is below is rounding, and the field constant."""


def spatial_sums(prediction: np.ndarray, reference: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Area-weighted sums over the cells of each day.

    Args:
        prediction, reference: (time, y, x) working units; a cell counts on the days on which both are finite.
        area: (y, x) weights, zero outside the region.

    Returns:
        (6, time) float64: the weight, and the weighted sums of p, r, p^2, r^2 and p r.
    """
    result = np.zeros((len(SUMS), len(prediction)))
    inside = area.ravel() > 0
    w = area.ravel()[inside]
    for start in range(0, len(prediction), DAYS_AT_ONCE):
        days = slice(start, start + DAYS_AT_ONCE)
        p, r = (field[days].reshape(-1, area.size)[:, inside].astype(np.float64) for field in (prediction, reference))
        both = np.isfinite(p) & np.isfinite(r)
        if not both.all():
            p, r = np.where(both, p, 0.0), np.where(both, r, 0.0)
        result[:, days] = [both @ w, p @ w, r @ w, (p * p) @ w, (r * r) @ w, (p * r) @ w]
    return result


def pattern_correlation(sums: np.ndarray) -> np.ndarray:
    """Centred correlation over space of each day (time,) from spatial_sums; NaN where one of the two fields is constant."""
    n, p, r, pp, rr, pr = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = [square / n - (total / n) ** 2 for square, total in ((pp, p), (rr, r))]
        varies = (variances[0] > SMALLEST_VARIANCE * pp / n) & (variances[1] > SMALLEST_VARIANCE * rr / n)
        return np.asarray(np.where(varies, (pr / n - p * r / n**2) / np.sqrt(variances[0] * variances[1]), np.nan))


def spatial_correlation(prediction: np.ndarray, reference: np.ndarray, area: np.ndarray | None = None) -> np.ndarray:
    """Correlation over space of each day (time,) of two series (time, y, x); cells weigh alike where no area is given."""
    weights = np.ones(prediction.shape[1:]) if area is None else area
    return pattern_correlation(spatial_sums(prediction, reference, weights))
