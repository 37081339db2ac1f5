"""Climate indices of one series: (time, y, x) in working units to a map (y, x).

Percentiles of all days; wet-day frequency, dry days, mean wet-day intensity (SDII), Rx1day, CDD and CWD for precipitation; TXx, TXn and
summer days for tasmax, TNx and TNn for tasmin: Zhang et al. (2011), doi 10.1002/wcc.147, with the wet-day threshold as an option.
Indices of a year (or of the season of a year) are means over years. Lag-1 and interannual standard deviation for every variable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.point import Totals
from downscale.evaluate.metrics.quantiles import ascending, quantiles
from downscale.evaluate.metrics.spells import longest_spell, spell_sums
from downscale.variables import Variable

PERCENTILES = {"p02": 0.02, "p50": 0.50, "p98": 0.98, "p99": 0.99, "p99_5": 0.995}
SUMMER_DAY_K = 298.15
EVERY = ("lag1", "interannual_std")
"""Indices of every variable, in a set that has any."""


@dataclass(frozen=True)
class IndexSet:
    """The indices that make sense for a variable.

    Attributes:
        wet_day_mm: a wet day has at least this (mm/day); None when the variable is no precipitation.
        maximum, minimum: names of the means over years of each year's highest and lowest value, or None.
        hot_k: a summer day is above this (K), or None.
    """

    wet_day_mm: float | None
    maximum: str | None
    minimum: str | None = None
    hot_k: float | None = None

    @classmethod
    def of(cls, variable: Variable, wet_day_mm: float) -> IndexSet:
        """The set of a row of the variable table."""
        if variable.standard_name == "precipitation_flux":
            return cls(wet_day_mm, "rx1day")
        if variable.standard_name != "air_temperature":
            return cls(None, None)
        if "time: maximum" in variable.cell_methods:
            return cls(None, "txx", "txn", SUMMER_DAY_K)
        return cls(None, "tnx", "tnn") if "time: minimum" in variable.cell_methods else cls(None, None)

    @property
    def names(self) -> list[str]:
        """Indices made of sums, extremes and spells (percentiles come beside them)."""
        wet = ["wet_day_frequency", "dry_days", "sdii", "cdd", "cwd"] if self.wet_day_mm is not None else []
        extremes = [name for name in (self.maximum, self.minimum) if name]
        return [*wet, *extremes, *(["su"] if self.hot_k is not None else []), *EVERY]


def index_sums(
    series: np.ndarray, valid: np.ndarray | None, segments: Sequence[slice], indices: IndexSet, follows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What the indices need of each segment of days.

    Args:
        series: (time, ...) working units.
        valid: (time, ...) days that count; None: all.
        segments: runs of consecutive days within one year.
        indices: which ones.
        follows: (time,) True where a day comes right after the one before it; None: everywhere but on the first day.

    Returns:
        name -> (segment, ...): n, total; wet, amount, dry.*, wet.* (spells) for precipitation; top, bottom (NaN without a day); hot;
        lag.*: see metrics.paired_sums, of each day and the one before it inside the segment, and link.* of the segment's first day.
    """
    result: dict[str, list[np.ndarray]] = {"n": [], "total": []}
    for segment in segments:
        values, there = series[segment], True if valid is None else valid[segment]
        n = np.full(values.shape[1:], float(len(values))) if valid is None else valid[segment].sum(axis=0, dtype=np.float64)
        found = {"n": n, "total": values.sum(axis=0, dtype=np.float64, where=there)}
        if indices.wet_day_mm is not None:
            wet = (values >= indices.wet_day_mm) & there
            found |= {"wet": wet.sum(axis=0, dtype=np.float64), "amount": values.sum(axis=0, dtype=np.float64, where=wet)}
        if indices.maximum:
            found["top"] = _extreme(values, there, np.fmax, -np.inf)
        if indices.minimum:
            found["bottom"] = _extreme(values, there, np.fmin, np.inf)
        if indices.hot_k is not None:
            found["hot"] = ((values > indices.hot_k) & there).sum(axis=0, dtype=np.float64)
        for name, value in found.items():
            result.setdefault(name, []).append(value)
    sums = {name: np.stack(values) for name, values in result.items()}
    if indices.wet_day_mm is not None:
        wet = series >= indices.wet_day_mm
        for name, holds in (("wet", wet), ("dry", ~wet if valid is None else ~wet & valid)):
            sums |= {f"{name}.{part}": value for part, value in spell_sums(holds, segments).items()}
    return sums | _lag_sums(series, segments, follows)


def _extreme(values: np.ndarray, there: np.ndarray | bool, largest: np.ufunc, start: float) -> np.ndarray:
    found = largest.reduce(values, axis=0, initial=start, where=there).astype(np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _lag_sums(series: np.ndarray, segments: Sequence[slice], follows: np.ndarray | None) -> dict[str, np.ndarray]:
    """Sums over pairs of neighbouring days: inside each segment, and of its first day with the day before where that one is there."""
    inside = [slice(segment.start, max(segment.stop - 1, segment.start)) for segment in segments]
    across = [
        slice(start - 1, start) if start > 0 and (follows is None or bool(follows[start])) else slice(0, 0)
        for start in (segment.start for segment in segments)
    ]
    sums = metrics.paired_sums(series[1:], series[:-1], [*inside, *across], metrics.MOMENTS)
    n = len(segments)
    return {f"{part}.{name}": value[where] for part, where in (("lag", slice(n)), ("link", slice(n, None))) for name, value in sums.items()}


def _divide(over: str, under: str) -> Callable[[Totals], np.ndarray]:
    def ratio(totals: Totals) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(totals[under] > 0, totals[over] / totals[under], np.nan)

    return ratio


def _dry_days(totals: Totals) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals["years"] > 0, (totals["n"] - totals["wet"]) / totals["years"], np.nan)


def _lag1(totals: Totals) -> np.ndarray:
    return metrics.FROM_SUMS["correlation"]({name: totals[f"lag.{name}"] for name in metrics.MOMENTS})


FROM_SUMS: dict[str, Callable[[Totals], np.ndarray]] = {
    "wet_day_frequency": _divide("wet", "n"),
    "dry_days": _dry_days,
    "sdii": _divide("amount", "wet"),
    "cdd": _divide("cdd", "years"),
    "cwd": _divide("cwd", "years"),
    "rx1day": _divide("top", "years"),
    "txx": _divide("top", "years"),
    "txn": _divide("bottom", "years"),
    "tnx": _divide("top", "years"),
    "tnn": _divide("bottom", "years"),
    "su": _divide("hot", "years"),
    "lag1": _lag1,
    "interannual_std": lambda totals: np.sqrt(totals["interannual"]),
}


def mean(series: np.ndarray) -> np.ndarray:
    """Mean over days, working units; NaN without a finite day."""
    finite = np.isfinite(series)
    with np.errstate(divide="ignore", invalid="ignore"):
        return series.sum(axis=0, dtype=np.float64, where=finite) / finite.sum(axis=0)


def percentile(series: np.ndarray, q: float) -> np.ndarray:
    """Quantile ``q`` (0 to 1) over days, working units."""
    return quantiles(ascending(series), [q])[0]


def wet_day_frequency(series: np.ndarray, wet_day_mm: float = 1.0) -> np.ndarray:
    """Share of days with at least ``wet_day_mm`` (1)."""
    return _plain("wet_day_frequency", series, wet_day_mm)


def sdii(series: np.ndarray, wet_day_mm: float = 1.0) -> np.ndarray:
    """Mean precipitation on wet days, all years pooled (mm/day); NaN without a wet day."""
    return _plain("sdii", series, wet_day_mm)


def dry_days(series: np.ndarray, year: np.ndarray, wet_day_mm: float = 1.0) -> np.ndarray:
    """Mean over years of the number of days below ``wet_day_mm``, days; year (time,)."""
    return _by_year(lambda values: np.where(np.isfinite(values).any(axis=0), (values < wet_day_mm).sum(axis=0), np.nan), series, year)


def cdd(series: np.ndarray, year: np.ndarray, wet_day_mm: float = 1.0) -> np.ndarray:
    """Mean over years of the longest run of days below ``wet_day_mm``, days; year (time,) of consecutive days."""
    return _spell(lambda values: values < wet_day_mm, series, year)


def cwd(series: np.ndarray, year: np.ndarray, wet_day_mm: float = 1.0) -> np.ndarray:
    """Mean over years of the longest run of days with at least ``wet_day_mm``, days; year (time,) of consecutive days."""
    return _spell(lambda values: values >= wet_day_mm, series, year)


def _spell(holds: Callable[[np.ndarray], np.ndarray], series: np.ndarray, year: np.ndarray) -> np.ndarray:
    return _by_year(lambda values: np.where(np.isfinite(values).any(axis=0), longest_spell(holds(values)), np.nan), series, year)


def annual_maximum(series: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Mean over years of each year's highest value: TXx of tasmax (K), Rx1day of pr (mm/day); year (time,)."""
    return _by_year(lambda values: np.fmax.reduce(values, axis=0), series, year)


def annual_minimum(series: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Mean over years of each year's lowest value: TXn of tasmax, TNn of tasmin (K); year (time,)."""
    return _by_year(lambda values: np.fmin.reduce(values, axis=0), series, year)


def summer_days(series: np.ndarray, year: np.ndarray, above_k: float = SUMMER_DAY_K) -> np.ndarray:
    """Mean over years of the number of days above 25 degC, days; year (time,)."""
    return _by_year(lambda values: np.where(np.isfinite(values).any(axis=0), (values > above_k).sum(axis=0), np.nan), series, year)


def lag1(series: np.ndarray) -> np.ndarray:
    """Pearson correlation of each day with the day before, of consecutive days (time, ...); NaN for a constant series."""
    return metrics.correlation(series[1:], series[:-1])


def interannual_std(series: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Standard deviation (n - 1) of yearly means, working units; NaN with fewer than two years; year (time,)."""
    means = np.stack([mean(series[year == one]) for one in np.unique(year)])
    n = np.isfinite(means).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        centred = means - np.where(np.isfinite(means), means, 0.0).sum(axis=0) / n
        return np.asarray(np.where(n > 1, np.sqrt(np.nansum(centred**2, axis=0) / (n - 1)), np.nan))


def _by_year(function: Callable[[np.ndarray], np.ndarray], series: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Mean over years of something of each year's days; years without a day are left out, NaN without any."""
    values = np.stack([np.asarray(function(series[year == one]), dtype=np.float64) for one in np.unique(year)])
    valid = np.isfinite(values)
    return _divide("values", "years")({"values": np.where(valid, values, 0.0).sum(axis=0), "years": valid.sum(axis=0)})


def _plain(name: str, series: np.ndarray, wet_day_mm: float) -> np.ndarray:
    valid = np.isfinite(series)
    sums = index_sums(series, None if valid.all() else valid, [slice(0, len(series))], IndexSet(wet_day_mm, None))
    return FROM_SUMS[name]({key: value[0] for key, value in sums.items()})
