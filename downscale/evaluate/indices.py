"""Climate indices of one series: (time, y, x) in working units to a map (y, x).

P98 and P99 of all days; wet-day frequency, mean wet-day intensity (SDII) and Rx1day as in Zhang et al. (2011), doi 10.1002/wcc.147,
with the wet-day threshold as an option; TXx and Rx1day are means over years of the highest value of each year (or season of a year).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.metrics import Totals
from downscale.evaluate.quantiles import ascending, quantiles
from downscale.variables import Variable

PERCENTILES = {"p98": 0.98, "p99": 0.99}


@dataclass(frozen=True)
class IndexSet:
    """The indices that make sense for a variable.

    Attributes:
        wet_day_mm: a wet day has at least this (mm/day); None when the variable is no precipitation.
        maximum: name of the annual maximum index, or None.
    """

    wet_day_mm: float | None
    maximum: str | None

    @classmethod
    def of(cls, variable: Variable, wet_day_mm: float) -> IndexSet:
        """The set of a row of the variable table."""
        if variable.standard_name == "precipitation_flux":
            return cls(wet_day_mm, "rx1day")
        return cls(None, "txx" if "time: maximum" in variable.cell_methods else None)

    @property
    def names(self) -> list[str]:
        """Indices made of sums and annual maxima (percentiles come beside them)."""
        wet = ["wet_day_frequency", "sdii"] if self.wet_day_mm is not None else []
        return wet + ([self.maximum] if self.maximum else [])


def index_sums(series: np.ndarray, valid: np.ndarray | None, segments: Sequence[slice], indices: IndexSet) -> dict[str, np.ndarray]:
    """What the indices need of each segment of days.

    Args:
        series: (time, ...) working units.
        valid: (time, ...) days that count; None: all.
        segments: runs of days within one year.
        indices: which ones.

    Returns:
        name -> (segment, ...) float64: n, wet (count) and amount (sum on wet days) for precipitation, top (maximum; NaN without a day).
    """
    result: dict[str, list[np.ndarray]] = {"n": []}
    filled = series if valid is None else np.where(valid, series, -np.inf)
    for segment in segments:
        values = filled[segment]
        n = np.full(values.shape[1:], float(len(values))) if valid is None else valid[segment].sum(axis=0, dtype=np.float64)
        result["n"].append(n)
        if indices.wet_day_mm is not None:
            wet = values >= indices.wet_day_mm
            result.setdefault("wet", []).append(wet.sum(axis=0, dtype=np.float64))
            result.setdefault("amount", []).append(values.sum(axis=0, dtype=np.float64, where=wet))
        if indices.maximum:
            top = values.max(axis=0).astype(np.float64)
            result.setdefault("top", []).append(np.where(np.isfinite(top), top, np.nan))
    return {name: np.stack(values) for name, values in result.items()}


def _divide(over: str, under: str) -> Callable[[Totals], np.ndarray]:
    def ratio(totals: Totals) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(totals[under] > 0, totals[over] / totals[under], np.nan)

    return ratio


FROM_SUMS: dict[str, Callable[[Totals], np.ndarray]] = {
    "wet_day_frequency": _divide("wet", "n"),
    "sdii": _divide("amount", "wet"),
    "txx": _divide("top", "top_years"),
    "rx1day": _divide("top", "top_years"),
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


def _plain(name: str, series: np.ndarray, wet_day_mm: float) -> np.ndarray:
    valid = np.isfinite(series)
    sums = index_sums(series, None if valid.all() else valid, [slice(None)], IndexSet(wet_day_mm, None))
    return FROM_SUMS[name]({key: value[0] for key, value in sums.items()})


def annual_maximum(series: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Mean over years of each year's highest value: TXx of tasmax (K), Rx1day of pr (mm/day).

    Args:
        series: (time, y, x) working units.
        year: (time,) year of each day.
    """
    with np.errstate(invalid="ignore"):
        tops = np.stack([np.fmax.reduce(series[year == one], axis=0) for one in np.unique(year)]).astype(np.float64)
    valid = np.isfinite(tops)
    return _divide("top", "top_years")({"top": np.where(valid, tops, 0.0).sum(axis=0), "top_years": valid.sum(axis=0)})
