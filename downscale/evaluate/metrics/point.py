"""Point metrics: (prediction, reference), both (time, y, x) in working units, to a map (y, x).

Every metric is a function of sums over days, so the same definition serves a plain call, a resample of years and a pass over
blocks of rows. A day counts where both fields are finite; a cell without such a day is NaN. Definitions: Maraun et al. (2015),
VALUE, doi 10.1002/2014EF000259; Wilks (2011), Statistical Methods in the Atmospheric Sciences, chapters 3 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from downscale.cf.calendar import month, season_phase
from downscale.evaluate.metrics.quantiles import ascending, wasserstein

Totals = Mapping[str, np.ndarray]
DESEASON_WINDOW_DAYS = 31
DESEASON_MIN_YEARS = 3
_BINS = 365
SUMS = ("n", "o", "p", "r", "pp", "rr", "pr", "dd", "ad")
MOMENTS = ("n", "o", "p", "r", "pp", "rr", "pr")
DRY_MM = 0.05


def paired_sums(
    prediction: np.ndarray, reference: np.ndarray, segments: Sequence[slice], names: Sequence[str] = SUMS
) -> dict[str, np.ndarray]:
    """Sums over the days of each segment, the raw material of all point metrics.

    Args:
        prediction, reference: (time, ...) working units; NaN is missing.
        segments: runs of days.
        names: the sums that are wanted.

    Returns:
        name -> (segment, ...) float64: n (days), o (n times the offset that p and r are relative to), p, r, pp, rr, pr, dd, ad.
    """
    valid = np.isfinite(prediction) & np.isfinite(reference)
    whole = bool(valid.all())
    offset = _offset(reference)
    result: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for segment in segments:
        p, r = prediction[segment] - offset, reference[segment] - offset
        if whole:
            n = np.full(offset.shape, float(len(p)))
        else:
            p, r = np.where(valid[segment], p, 0.0), np.where(valid[segment], r, 0.0)
            n = valid[segment].sum(axis=0, dtype=np.float64)
        for name in names:
            result[name].append(_sum(name, n, offset, p, r))
    return {name: np.stack(values) for name, values in result.items()}


def _sum(name: str, n: np.ndarray, offset: np.ndarray, p: np.ndarray, r: np.ndarray) -> np.ndarray:
    if name in ("n", "o"):
        return n if name == "n" else n * offset
    if name in ("dd", "ad"):
        difference = p - r
        return _dot(difference, difference) if name == "dd" else np.abs(difference).sum(axis=0)
    one, other = ({"p": p, "r": r}[letter] for letter in (name[0], name[-1]))
    return _dot(one, other) if len(name) == 2 else one.sum(axis=0)


def rebased(sums: Totals, offset: np.ndarray) -> dict[str, np.ndarray]:
    """Sums of paired_sums (segment, ...) relative to another offset (...): those of several blocks add up only with one offset."""
    n = sums["n"]
    step = np.where(n > 0, sums["o"] / np.maximum(n, 1.0), offset) - offset
    moved = {name: sums[name] + step * (sums[name[0]] + sums[name[-1]]) + n * step**2 for name in ("pp", "rr", "pr") if name in sums}
    moved |= {name: sums[name] + n * step for name in ("p", "r") if name in sums}
    return {**sums, **moved, "o": n * offset}


def _offset(reference: np.ndarray) -> np.ndarray:
    """A value near the mean of each cell (float64): sums of squares of what is left do not cancel."""
    finite = np.isfinite(reference)
    count = finite.sum(axis=0)
    total = reference.sum(axis=0, dtype=np.float64, where=finite)
    return np.where(count > 0, total / np.maximum(count, 1), 0.0)


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("t...,t...->...", one, other)


def _quietly(function: Callable[[Totals], np.ndarray]) -> Callable[[Totals], np.ndarray]:
    def silent(totals: Totals) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return function(totals)

    return silent


def _variance(totals: Totals, name: str) -> np.ndarray:
    variance = (totals[name * 2] - totals[name] ** 2 / totals["n"]) / totals["n"]
    scale = totals[name * 2] / totals["n"] + (totals["o"] / totals["n"]) ** 2
    return np.where(variance > 1e-12 * scale, variance, 0.0)


def _correlation(totals: Totals) -> np.ndarray:
    covariance = (totals["pr"] - totals["p"] * totals["r"] / totals["n"]) / totals["n"]
    spread = np.sqrt(_variance(totals, "p") * _variance(totals, "r"))
    return np.where(spread > 0, covariance / spread, np.nan)


def _std_ratio(totals: Totals) -> np.ndarray:
    reference = _variance(totals, "r")
    return np.where(reference > 0, np.sqrt(_variance(totals, "p") / reference), np.nan)


def _relative_bias(totals: Totals) -> np.ndarray:
    reference = totals["r"] + totals["o"]
    return np.where(reference / totals["n"] >= DRY_MM, 100.0 * (totals["p"] - totals["r"]) / reference, np.nan)


FROM_SUMS: dict[str, Callable[[Totals], np.ndarray]] = {
    "bias": _quietly(lambda t: (t["p"] - t["r"]) / t["n"]),
    "relative_bias": _quietly(_relative_bias),
    "mse": _quietly(lambda t: t["dd"] / t["n"]),
    "rmse": _quietly(lambda t: np.sqrt(t["dd"] / t["n"])),
    "mae": _quietly(lambda t: t["ad"] / t["n"]),
    "correlation": _quietly(_correlation),
    "std_ratio": _quietly(_std_ratio),
    "mean": _quietly(lambda t: (t["p"] + t["o"]) / t["n"]),
    "reference_mean": _quietly(lambda t: (t["r"] + t["o"]) / t["n"]),
    "std": _quietly(lambda t: np.where(t["n"] > 0, np.sqrt(_variance(t, "p")), np.nan)),
    "reference_std": _quietly(lambda t: np.where(t["n"] > 0, np.sqrt(_variance(t, "r")), np.nan)),
}


def _metric(name: str, prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    sums = paired_sums(prediction, reference, [slice(None)])
    return FROM_SUMS[name]({key: value[0] for key, value in sums.items()})


def bias(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean error, mean_t(p - r), working units."""
    return _metric("bias", prediction, reference)


def relative_bias(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Bias in % of the reference's mean, for precipitation; NaN where the reference has less than 0.05 mm/day."""
    return _metric("relative_bias", prediction, reference)


def rmse(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Root mean square error, sqrt(mean_t (p - r)^2), working units."""
    return _metric("rmse", prediction, reference)


def mae(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute error, mean_t |p - r|, working units."""
    return _metric("mae", prediction, reference)


def correlation(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pearson correlation in time; NaN where one of the two is constant."""
    return _metric("correlation", prediction, reference)


def std_ratio(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Ratio of standard deviations in time, sd(p) / sd(r); NaN where the reference is constant."""
    return _metric("std_ratio", prediction, reference)


def w1(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of the two distributions of each cell, working units; see quantiles.wasserstein."""
    valid = np.isfinite(prediction) & np.isfinite(reference)
    return wasserstein(ascending(np.where(valid, prediction, np.nan)), ascending(np.where(valid, reference, np.nan)))


def skill(mse: np.ndarray | float, baseline_mse: np.ndarray | float) -> np.ndarray:
    """Skill score 1 - MSE / MSE of a baseline, of area means; 1 is perfect, 0 the baseline, NaN for a perfect baseline."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(baseline_mse) > 0, 1.0 - np.asarray(mse) / np.asarray(baseline_mse), np.nan)


def deseasonalised(series: np.ndarray, days: np.ndarray, calendar: str, *, n_years: int) -> np.ndarray:
    """Anomalies from the series' own seasonal cycle.

    The cycle is the mean of each day of the year, smoothed over 31 days (circular, weighted by the number of days, so that gaps and
    winters-only series are right). With fewer than three years it is the mean of each month: a daily cycle would be mostly weather.

    Args:
        series: (time, ...) working units; NaN is missing.
        days: (time,) yyyymmdd; calendar: of the days.
        n_years: number of years in the series.

    Returns:
        (time, ...) in the dtype of the series.
    """
    if n_years < DESEASON_MIN_YEARS:
        bins, window = np.asarray(month(days), dtype=np.int64) - 1, 1
    else:
        bins, window = np.minimum((np.asarray(season_phase(days, calendar)) * _BINS).astype(np.int64), _BINS - 1), DESEASON_WINDOW_DAYS
    length = 12 if window == 1 else _BINS
    sums, counts = np.zeros((length, *series.shape[1:])), np.zeros((length, *series.shape[1:]))
    for number in np.unique(bins):
        chosen = series[bins == number]
        finite = np.isfinite(chosen)
        sums[number], counts[number] = chosen.sum(axis=0, dtype=np.float64, where=finite), finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cycle = (_circular(sums, window) / _circular(counts, window)).astype(series.dtype)
    return np.asarray(series - cycle[bins])


def _circular(values: np.ndarray, window: int) -> np.ndarray:
    """Running sum over a centred window of the first axis, circular."""
    half = window // 2
    padded = np.concatenate([values[len(values) - half :], values, values[:half]]) if half else values
    cumulative = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(padded, axis=0)])
    return cumulative[window:] - cumulative[:-window]
