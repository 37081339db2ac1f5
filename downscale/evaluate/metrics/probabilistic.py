"""Scores of an ensemble against one reference: (member, ...) and (...) in working units, to one number for each of the places (...).

A place where the reference or any member is missing is NaN. A single member is refused: it has no spread, and its scores would be
those of a field without uncertainty. Definitions: Ferro (2014), doi 10.1002/qj.2270 (fair CRPS); Fortin et al. (2014),
doi 10.1175/JHM-D-14-0008.1 (spread and skill); Hamill (2001), doi 10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2 (ranks);
Murphy (1973), doi 10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2 (parts of the Brier score).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from downscale.errors import InputDataError

DRESSING_QUANTILES = 20
FOLDS = 5
MOST_BINS = 10


def check_members(number: int, where: str = "") -> None:
    """Refuse fewer than two members (exit 4)."""
    if number < 2:
        raise InputDataError(
            f"{number} member{'s' if number != 1 else ''}: probabilistic scores need two or more",
            where=where,
            hint="apply with apply.members (seeds, samples or dropout), number: 2 or more",
        )


def complete(members: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Places where the reference and every member have a value."""
    return np.asarray(np.isfinite(reference) & np.isfinite(members).all(axis=0))


def fair_crps(members: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Fair CRPS, mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1)), working units; it can be below zero.

    Its mean does not depend on the number of members as long as these are draws from one distribution.
    """
    check_members(len(members))
    return _crps(members, reference, len(members) * (len(members) - 1))


def _crps(members: np.ndarray, reference: np.ndarray, pairs: int) -> np.ndarray:
    """CRPS where the mean difference of members is the sum over all pairs divided by ``pairs``; members need no order."""
    ascending = np.sort(members, axis=0)
    number = len(members)
    error, spread = np.zeros(reference.shape), np.zeros(reference.shape)
    for place, values in enumerate(ascending):
        error += np.abs(values - reference, dtype=np.float64)
        spread += (2 * place + 1 - number) * values.astype(np.float64)
    return np.where(complete(members, reference), error / number - spread / pairs, np.nan)


def spread_skill(variance: np.ndarray | float, squared_error: np.ndarray | float, members: int) -> np.ndarray:
    """sqrt((M + 1) / M * variance / squared error of the ensemble mean), of means over days and cells; 1 for a reliable ensemble.

    Args:
        variance: mean of the members' variance (n - 1).
        squared_error: mean squared error of the ensemble mean; zero gives NaN.
        members: their number M.
    """
    check_members(members)
    variance, squared_error = np.asarray(variance, dtype=np.float64), np.asarray(squared_error, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squared_error > 0, np.sqrt((members + 1) / members * variance / squared_error), np.nan)


def rank_counts(members: np.ndarray, reference: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
    """(rank,) weight of the places at which the reference has each rank among the members, 0 below all of them, M above.

    A tie is shared evenly over its ranks; incomplete places have no part.

    Args:
        members, reference: (member, ...) and (...).
        weight: of the places, of a shape that fits.
    """
    check_members(len(members))
    valid = complete(members, reference)
    below, equal = (members < reference).sum(axis=0)[valid], (members == reference).sum(axis=0)[valid]
    share = np.broadcast_to(weight, valid.shape)[valid] / (equal + 1.0)
    length = len(members) + 2
    steps = np.bincount(below, share, length) - np.bincount(below + equal + 1, share, length)
    return np.asarray(np.maximum(np.cumsum(steps)[:-1], 0.0))


def rank_distance(frequency: np.ndarray) -> np.ndarray:
    """Chi-square distance of rank frequencies (..., rank) from flat ones, K sum_k (f_k - 1/K)^2; 0: flat, K - 1: all in one rank."""
    number = frequency.shape[-1]
    return np.asarray(number * np.square(frequency - 1.0 / number).sum(axis=-1))


def flatness(yearly: np.ndarray) -> float:
    """p-value of a flat rank histogram, from the rank frequencies of each year (year, rank); NaN below three years.

    A chi-square test with the number of independent cases that the scatter of the years tells: cells and days are not independent. With V
    the covariance of the mean frequencies over years, N = (1 - 1/K) / trace(V); the ranks of a year go together (a year in which members
    are too cold empties all low ranks), so that the histogram has a = trace(V)^2 / trace(V V) degrees of freedom instead of K - 1, and as
    V is known from n years only, chi2 / (K - 1) is held against F(a, a (n - 1)) (Rao and Scott 1981, doi 10.1080/01621459.1981.10477633,
    second-order correction; Thomas and Rao 1987, J. Am. Stat. Assoc. 82, 630).
    """
    n, number = yearly.shape
    if n < 3:
        return float("nan")
    covariance = np.cov(yearly, rowvar=False) / n
    trace = float(np.trace(covariance))
    if not np.isfinite(trace) or trace <= 0:
        return float("nan")
    cases = (1.0 - 1.0 / number) / trace
    freedom = trace**2 / float(np.sum(covariance**2))
    return float(stats.f.sf(cases * rank_distance(yearly.mean(axis=0)) / (number - 1), freedom, freedom * (n - 1)))


def probability(members: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Share of the members at or above a threshold (1)."""
    return np.asarray((members >= threshold).mean(axis=0, dtype=np.float64))


def probability_bins(members: int) -> int:
    """Number of bins of a reliability diagram: one for each possible share of members, eleven at most."""
    return min(members, MOST_BINS) + 1


def bin_of(forecast: np.ndarray, bins: int) -> np.ndarray:
    """Bin of a probability: the nearest of 0, 1 / (bins - 1), ..., 1."""
    return np.rint(forecast * (bins - 1)).astype(np.int64)


def brier_parts(forecast: np.ndarray, observed: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty of binned probabilities; Brier score = reliability - resolution + uncertainty.

    Args:
        forecast, observed: (bin,) mean probability and observed frequency; NaN in an empty bin.
        weight: (bin,) of the bin; all zero gives NaN.
    """
    if not weight.sum() > 0:
        return (float("nan"),) * 3
    share, used = weight / weight.sum(), weight > 0
    mean = float((share * np.where(used, observed, 0.0)).sum())
    reliability = float((share * np.where(used, np.square(forecast - observed), 0.0)).sum())
    resolution = float((share * np.where(used, np.square(observed - mean), 0.0)).sum())
    return reliability, resolution, mean * (1.0 - mean)


def dressed_crps(reference: np.ndarray, estimate: np.ndarray, fold: np.ndarray, group: np.ndarray, *, non_negative: bool) -> np.ndarray:
    """CRPS of an estimate with the climatology of its residuals around it, working units.

    A day's distribution is the estimate plus 20 quantiles (at (k - 1/2) / 20) of the residuals reference - estimate of the same place
    and group (season) in all folds (blocks of years) but its own.

    Args:
        reference, estimate: (time, ...).
        fold: (time,) number of the block of years; with one fold all is NaN.
        group: (time,) season.
        non_negative: values below zero become zero.
    """
    result = np.full(reference.shape, np.nan)
    q = (np.arange(DRESSING_QUANTILES) + 0.5) / DRESSING_QUANTILES
    for one in np.unique(group):
        for left_out in np.unique(fold[group == one]):
            mine, others = (group == one) & (fold == left_out), (group == one) & (fold != left_out)
            if others.any():
                residuals = reference[others].astype(np.float64) - estimate[others]
                result[mine] = _dressed(reference[mine], estimate[mine], _quantiles(residuals, q), non_negative)
    return result


def _quantiles(values: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(quantile, ...) of (time, ...); NaN days are left out."""
    if not np.isnan(values).any():
        return np.quantile(values, q, axis=0)
    present = np.isfinite(values).any(axis=0)
    result = np.full((len(q), *values.shape[1:]), np.nan)
    result[:, present] = np.nanquantile(values[:, present], q, axis=0)
    return result


def _dressed(reference: np.ndarray, estimate: np.ndarray, residuals: np.ndarray, non_negative: bool) -> np.ndarray:
    number = len(residuals)
    error, spread = np.zeros(reference.shape), np.zeros(reference.shape)
    for place, residual in enumerate(residuals):
        values = estimate + residual
        if non_negative:
            values = np.maximum(values, 0.0)
        error += np.abs(values - reference)
        spread += (2 * place + 1 - number) * values
    return error / number - spread / number**2


def year_folds(year: np.ndarray) -> np.ndarray:
    """(time,) number of the block of years of each day: five blocks of neighbouring years, fewer where there are fewer years."""
    distinct, position = np.unique(year, return_inverse=True)
    folds = min(FOLDS, len(distinct))
    return np.asarray(np.arange(len(distinct)) * folds // max(len(distinct), 1))[position]
