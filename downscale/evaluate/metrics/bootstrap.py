"""95 % intervals from whole years: days are not independent, years nearly are.

Ten years or more, and three in every contiguous period: Student's t with the spread of 1,000 resamples of whole years, about the estimate
minus what the resamples are above it on average, so that scores that grow with sampling noise, as mean |bias|, are not shifted. A resample
draws one year less than the period has and gives each the weight n / (n - 1): then its spread is right with few years, too (Rao and Wu
1988, doi 10.1080/01621459.1988.10478591). Otherwise: Student's t with the delete-one-year jackknife (for a mean this is the t interval
over the yearly values; Efron and Tibshirani 1993, chapter 11). Quantile scores always take the jackknife: a resample would need a sort
of its own. Years are resampled within each contiguous period, so that a change of climate between two test periods is no uncertainty.
The degrees of freedom are the years less the periods. Fewer than three years, or a period of one: no interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.series import (
    PairTotals,
    SeriesBlock,
    deleted_years,
    matched,
    pair_totals,
    quantile_scores,
    sum_scores,
    with_absolute,
)
from downscale.evaluate.selection import Selection, TimeTable

RESAMPLES = 1000
BOOTSTRAP_MIN_YEARS = 10
BOOTSTRAP_MIN_OF_PERIOD = 3
MIN_YEARS = 3
COVERAGE = 0.95
NON_NEGATIVE = (
    "mse",
    "rmse",
    "mae",
    "std_ratio",
    "w1",
    "sdii",
    "rx1day",
    "wet_day_frequency",
    "dry_days",
    "cdd",
    "cwd",
    "su",
    "interannual_std",
    "interannual_std_ratio",
)
CELLS_AT_ONCE = 128


@dataclass(frozen=True)
class Interval:
    """Bounds of a 95 % interval, and how they were found ("bootstrap", "jackknife-t") or why there are none."""

    lower: float
    upper: float
    method: str


def no_interval(reason: str) -> Interval:
    """NaN bounds with the reason."""
    return Interval(float("nan"), float("nan"), f"none: {reason}")


@dataclass(frozen=True, eq=False)
class Resampling:
    """Weights of the years. Row 0 is the plain estimate.

    Attributes:
        weights: (1 + resamples, n_years).
        strata: (n_years,) or, with the jackknife, of the deleted year.
        method: "bootstrap" or "jackknife-t".
    """

    weights: np.ndarray
    strata: np.ndarray
    method: str

    @property
    def freedom(self) -> int:
        """Degrees of freedom: years less periods."""
        return len(self.strata) - len(np.unique(self.strata))

    def interval(self, draws: np.ndarray, *, estimate: float | None = None, non_negative: bool = False) -> Interval:
        """The interval of a statistic.

        Args:
            draws: (1 + resamples,) statistic under each row of the weights.
            estimate: centre when the draws are of a sample of grid points; default: draws[0].
            non_negative: cut at zero.
        """
        centre = float(draws[0]) if estimate is None else estimate
        replicas = draws[1:]
        if not np.isfinite(centre) or not np.isfinite(replicas).any():
            return no_interval("no value")
        if self.method == "bootstrap":
            centre -= float(np.nanmean(replicas) - draws[0])
            error = float(np.nanstd(replicas))
        else:
            error = _jackknife_error(replicas - draws[0], self.strata)
        half = float(stats.t.ppf(0.5 + COVERAGE / 2, self.freedom)) * error
        lower, upper = centre - half, centre + half
        return Interval(max(lower, 0.0) if non_negative else lower, upper, self.method)

    def p_value(self, interval: Interval) -> float:
        """Two-sided p-value of zero from an interval that was not cut: below 0.05 where the interval leaves zero out."""
        centre, half = (interval.upper + interval.lower) / 2, (interval.upper - interval.lower) / 2
        if not np.isfinite(half):
            return float("nan")
        if half <= 0:
            return 1.0 if centre == 0 else 0.0
        return float(2 * stats.t.sf(abs(centre) / half * stats.t.ppf(0.5 + COVERAGE / 2, self.freedom), self.freedom))


def _jackknife_error(deviations: np.ndarray, strata: np.ndarray) -> float:
    """Standard error from deviations of replicas from the estimate, not from their mean: of two years either may leave the same."""
    _, number, size = np.unique(strata, return_inverse=True, return_counts=True)
    return float(np.sqrt(np.sum((1 - 1 / size[number]) * deviations**2)))


def why_not(strata: np.ndarray) -> str:
    """The reason against an interval, or an empty string."""
    if len(strata) < MIN_YEARS:
        return f"{len(strata)} year{'s' if len(strata) != 1 else ''}"
    return "a period of one year" if np.unique(strata, return_counts=True)[1].min() < 2 else ""


def jackknife(strata: np.ndarray) -> Resampling:
    """Delete each year once; the other years of its period stand in for it."""
    n = len(strata)
    weights = np.ones((n + 1, n))
    for year in range(n):
        same = strata == strata[year]
        weights[year + 1, same] = same.sum() / (same.sum() - 1)
        weights[year + 1, year] = 0.0
    return Resampling(weights, strata, "jackknife-t")


def resampling(strata: np.ndarray, seed: int = 0) -> Resampling:
    """Bootstrap from ten years on with three in every stratum, else jackknife; years are drawn within their stratum.

    Args:
        strata: (n_years,) period of each year; see why_not for what it must hold.
        seed: of the resamples.
    """
    if len(strata) < BOOTSTRAP_MIN_YEARS or np.unique(strata, return_counts=True)[1].min() < BOOTSTRAP_MIN_OF_PERIOD:
        return jackknife(strata)
    generator = np.random.default_rng(seed)
    weights = np.ones((RESAMPLES + 1, len(strata)))
    for number in np.unique(strata):
        inside = np.flatnonzero(strata == number)
        n = len(inside)
        weights[1:, inside] = generator.multinomial(n - 1, np.full(n, 1 / n), size=RESAMPLES) * (n / (n - 1))
    return Resampling(weights, strata, "bootstrap")


def mean_interval(yearly: np.ndarray) -> Interval:
    """The interval of the mean of yearly values (n_years,)."""
    strata = np.zeros(len(yearly), np.int64)
    if reason := why_not(strata):
        return no_interval(reason)
    scheme = resampling(strata)
    return scheme.interval(scheme.weights @ yearly / scheme.weights.sum(axis=1))


Draws = dict[str, tuple[Resampling, np.ndarray]]


def area_mean_draws(
    prediction: np.ndarray, reference: np.ndarray, table: TimeTable, indices: IndexSet, area: np.ndarray
) -> dict[tuple[str, str], Draws]:
    """Area means of all scores under resampled years.

    Args:
        prediction, reference: (time, cell) of a sample of grid points; weather is coherent in space, a few hundred tell the spread of
        the mean.
        table: the day axis.
        indices: of the variable.
        area: (cell,) weights.

    Returns:
        (season, period) -> metric -> resampling and (1 + resamples,) area means; selections without an interval are absent.
    """
    p, r = matched(prediction, SeriesBlock(reference, table, indices))
    totals = pair_totals(p, r)
    result: dict[tuple[str, str], Draws] = {}
    for selection in table.selections:
        if why_not(selection.strata):
            continue
        scheme, deletion = resampling(selection.strata), jackknife(selection.strata)
        sums = _sum_draws(totals.years(table, selection), selection, scheme, indices, area)
        deleted = _quantile_draws(p.values, r.values, table, selection, area)
        result[selection.season, selection.period] = {name: (scheme, values) for name, values in sums.items()} | {
            name: (deletion, values) for name, values in deleted.items()
        }
    return result


def _sum_draws(years: PairTotals, selection: Selection, scheme: Resampling, indices: IndexSet, area: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (1 + resamples,), some cells at a time."""
    means: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(area), CELLS_AT_ONCE):
        some = slice(start, start + CELLS_AT_ONCE)
        part = PairTotals(*({name: value[:, some] for name, value in one.items()} for one in years.parts))
        for name, value in with_absolute(sum_scores(part.weighted(scheme.weights, selection.strata), indices)).items():
            sums = means.setdefault(name, [np.zeros(len(scheme.weights)), np.zeros(len(scheme.weights))])
            for total, more in zip(sums, _area_sums(value, area[some]), strict=True):
                total += more
    return {name: _ratio(total, weight) for name, (total, weight) in means.items()}


def _quantile_draws(p: np.ndarray, r: np.ndarray, table: TimeTable, selection: Selection, area: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (1 + years,), each year left out once."""
    collected: dict[str, list[float]] = {}
    year = table.year_of(selection)
    for pair in zip(*(deleted_years(series[selection.rows], year) for series in (p, r)), strict=True):
        for name, value in with_absolute(quantile_scores(*pair)).items():
            collected.setdefault(name, []).append(float(_ratio(*_area_sums(value[None], area))[0]))
    return {name: np.array(values) for name, values in collected.items()}


def _area_sums(values: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of (resample, cell) values times area, and the area, over cells that have a value."""
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0) @ area, finite @ area


def _ratio(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / weight)
