"""Every metric by name: what it is, and one way to call it, with arrays in memory or with lazy ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr

from downscale.evaluate.metrics.definitions import Entry, find
from downscale.evaluate.metrics.indices import FROM_SUMS as INDEX_FROM_SUMS
from downscale.evaluate.metrics.indices import PERCENTILES, SUMMER_DAY_K, IndexSet, percentile
from downscale.evaluate.metrics.joint import joint_maps
from downscale.evaluate.metrics.point import FROM_SUMS, correlation, paired_sums, w1
from downscale.evaluate.metrics.series import SeriesBlock, matched
from downscale.evaluate.metrics.spatial import spatial_correlation
from downscale.evaluate.metrics.spectra import RadialSpectrum, effective_resolution_km, log_spectral_distance
from downscale.evaluate.metrics.yearly import by_year, weighted_years
from downscale.evaluate.selection import ALL_PERIODS, ALL_YEAR, Selection, TimeTable

Array = np.ndarray | xr.DataArray
SPECTRA_AT_ONCE = 256
_KITS = {
    **dict.fromkeys(("wet_day_frequency", "dry_days", "sdii", "cdd", "cwd"), IndexSet(1.0, None)),
    **{name: IndexSet(None, name) for name in ("rx1day", "txx", "tnx")},
    **{name: IndexSet(None, None, name) for name in ("txn", "tnn")},
    "su": IndexSet(None, None, None, SUMMER_DAY_K),
    **dict.fromkeys(("lag1", "interannual_std"), IndexSet(None, None)),
}


@dataclass(frozen=True)
class Case:
    """What a metric is asked with.

    Attributes:
        times: the day axis; None where it is not known.
        season: "ANN" or one of its seasons.
        area: (y, x) weights of cells, zero outside the region; None: alike.
        wet_day_mm: a wet day has at least this (mm/day).
        spacing: distance of cells along y and x, km; for spectra.
    """

    times: TimeTable | None = None
    season: str = ALL_YEAR
    area: np.ndarray | None = None
    wet_day_mm: float = 1.0
    spacing: tuple[float, float] = (1.0, 1.0)

    def selection(self) -> Selection:
        """The days of the season; ValueError when the day axis is not known or has no such day."""
        if self.times is None:
            raise ValueError("this metric, or this season, needs the days: give times=TimeTable(days, calendar)")
        wanted = ALL_PERIODS, self.season if len(self.times.seasons) > 1 else self.times.seasons[0]
        found = next((one for one in self.times.selections if (one.period, one.season) == wanted), None)
        if found is None:
            raise ValueError(f"there is no day in {self.season}: the days have {', '.join(self.times.seasons)}")
        return found


Over = Literal["time", "space", "all"]
Function = Callable[[np.ndarray, np.ndarray, Case], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric that can be called.

    Attributes:
        entry: name, formula, unit, range, perfect value and source.
        over: what it reduces: "time" gives a map, "space" a number for each day, "all" one number, from the mean of the days' spectra.
        function: of two arrays (time, ...) and a case.
    """

    entry: Entry
    over: Over
    function: Function = field(repr=False)

    def __call__(self, prediction: Array, reference: Array | None = None, **case: Any) -> Array:
        """The metric of a prediction against a reference.

        Args:
            prediction, reference: (time, y, x), or any dimensions after the time; NaN is missing, and a day counts where both have a
                value. An index of one series needs no reference. DataArrays have a dimension ``time``, whose coordinate gives the days;
                those that Dask holds stay lazy, and are worked on in their own chunks over space (over time for a metric over space).
            case: fields of Case: times, season, area, wet_day_mm, spacing.

        Returns:
            what the arguments are: an array without the reduced dimensions, float64.
        """
        if isinstance(prediction, xr.DataArray):
            return self._labelled(prediction, prediction if reference is None else reference, case)
        other = prediction if reference is None else reference
        return self._plain(prediction, np.asarray(other), Case(**case))

    def _plain(self, prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        if prediction.shape != reference.shape:
            raise ValueError(f"{self.entry.name}: the prediction has the shape {prediction.shape}, the reference {reference.shape}")
        return np.asarray(self.function(prediction, reference, case), dtype=np.float64)

    def _labelled(self, prediction: xr.DataArray, reference: Array, case: dict[str, Any]) -> xr.DataArray:
        if "times" not in case and "time" in prediction.coords:
            case = {**case, "times": _days_of(prediction)}
        where = Case(**case)
        if self.over == "all":
            return self._spectral(prediction, reference, where).rename(self.entry.name)
        core = ["time"] if self.over == "time" else [str(dim) for dim in prediction.dims if dim != "time"]

        def reduced(p: np.ndarray, r: np.ndarray) -> np.ndarray:
            if self.over == "time":
                return self._plain(np.moveaxis(p, -1, 0), np.moveaxis(r, -1, 0), where)
            return self._plain(p, r, where)

        found = xr.apply_ufunc(
            reduced,
            prediction,
            reference,
            input_core_dims=[core, core],
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={"allow_rechunk": True},
        )
        return found.rename(self.entry.name)

    def _spectral(self, prediction: xr.DataArray, reference: Array, case: Case) -> xr.DataArray:
        """Spectra of days first, in chunks over time; then one number of their means."""
        core = [str(dim) for dim in prediction.dims if dim != "time"]
        spectrum = RadialSpectrum((prediction.sizes[core[0]], prediction.sizes[core[1]]), case.spacing)
        rows = slice(None) if case.season == ALL_YEAR else case.selection().rows
        options: dict[str, Any] = {"dask": "parallelized", "output_dtypes": [np.float64]}
        means = [
            xr.apply_ufunc(
                spectrum.rings,
                one.isel(time=rows),
                input_core_dims=[core],
                output_core_dims=[["ring"]],
                dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": {"ring": len(spectrum.wavenumber)}},
                **options,
            ).mean("time")
            for one in (prediction, xr.DataArray(reference, dims=prediction.dims))
        ]
        return xr.apply_ufunc(
            lambda p, r: np.asarray(_SPECTRAL[self.entry.name](spectrum, p, r)), *means, input_core_dims=[["ring"], ["ring"]], **options
        )


_SPECTRAL: dict[str, Callable[[RadialSpectrum, np.ndarray, np.ndarray], float]] = {
    "log_spectral_distance": lambda spectrum, p, r: log_spectral_distance(p, r),
    "effective_resolution": lambda spectrum, p, r: effective_resolution_km(spectrum.wavenumber, p, r),
}


def _of_spectra(name: str) -> Function:
    def function(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        spectra = []
        for fields in (prediction, reference):
            spectra.append(RadialSpectrum((fields.shape[1], fields.shape[2]), case.spacing))
            for start in range(0, len(fields), SPECTRA_AT_ONCE):
                spectra[-1].add(fields[start : start + SPECTRA_AT_ONCE])
        return np.asarray(_SPECTRAL[name](spectra[0], spectra[0].power, spectra[1].power))

    return _seasonal(function)


def _days_of(array: xr.DataArray) -> TimeTable:
    date = array["time"].dt
    days = date.year.values * 10_000 + date.month.values * 100 + date.day.values
    return TimeTable(np.asarray(days, dtype=np.int64), str(date.calendar))


def _seasonal(function: Function) -> Function:
    """The function on the days of the season alone."""

    def chosen(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        if case.season == ALL_YEAR:
            return function(prediction, reference, case)
        rows = case.selection().rows
        return function(prediction[rows], reference[rows], case)

    return chosen


def _of_sums(name: str) -> Function:
    def function(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        sums = paired_sums(prediction, reference, [slice(0, len(prediction))])
        return FROM_SUMS[name]({key: value[0] for key, value in sums.items()})

    return _seasonal(function)


def _deseasonalised(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
    rows, table = case.selection().rows, case.times
    assert table is not None
    p, r = matched(prediction.astype(np.float32), SeriesBlock(reference.astype(np.float32), table, IndexSet(None, None)))
    return correlation(p.anomalies[rows], r.anomalies[rows])


def _index(name: str) -> Callable[[np.ndarray, Case], np.ndarray]:
    """An index of one series, by the sums of its years."""

    def function(series: np.ndarray, case: Case) -> np.ndarray:
        selection, table, kit = case.selection(), case.times, _KITS[name]
        assert table is not None
        indices = IndexSet(case.wet_day_mm, None) if kit.wet_day_mm is not None else kit
        yearly = by_year(SeriesBlock(series, table, indices).sums, table.membership(selection), table.linked)
        sums = weighted_years(yearly, np.ones((1, len(selection.years))), selection.strata)
        return INDEX_FROM_SUMS[name]({key: value[0] for key, value in sums.items()})

    return function


def _percentile(q: float) -> Callable[[np.ndarray, Case], np.ndarray]:
    return lambda series, case: percentile(series if case.season == ALL_YEAR else series[case.selection().rows], q)


def _shared(prediction: np.ndarray, reference: np.ndarray) -> list[np.ndarray]:
    """Both, NaN where one of them is."""
    both = np.isfinite(prediction) & np.isfinite(reference)
    return [one if both.all() else np.where(both, one, np.nan) for one in (prediction, reference)]


def _itself(index: Callable[[np.ndarray, Case], np.ndarray]) -> Function:
    return lambda prediction, reference, case: index(_shared(prediction, reference)[0], case)


def _bias_of(index: Callable[[np.ndarray, Case], np.ndarray]) -> Function:
    def function(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        p, r = _shared(prediction, reference)
        return index(p, case) - index(r, case)

    return function


def _ratio_of(index: Callable[[np.ndarray, Case], np.ndarray]) -> Function:
    def function(prediction: np.ndarray, reference: np.ndarray, case: Case) -> np.ndarray:
        above, below = (index(one, case) for one in _shared(prediction, reference))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(below > 0, above / below, np.nan)

    return function


def _joint(name: str) -> Function:
    """The prediction is temperature and the reference precipitation: of one and the same series of days."""
    return _seasonal(lambda temperature, precipitation, case: joint_maps(temperature, precipitation, case.wet_day_mm)[name])


def _absolute(function: Function) -> Function:
    return lambda prediction, reference, case: np.abs(function(prediction, reference, case))


def _functions() -> dict[str, tuple[Over, Function]]:
    over_time: dict[str, Function] = {name: _of_sums(name) for name in FROM_SUMS if not name.startswith("reference_")}
    over_time["correlation_deseasonalised"] = _deseasonalised
    over_time["w1"] = _seasonal(lambda prediction, reference, case: w1(prediction, reference))
    indices = {name: _index(name) for name in _KITS} | {name: _percentile(q) for name, q in PERCENTILES.items()}
    for name, index in indices.items():
        over_time |= {name: _itself(index), f"{name}_bias": _bias_of(index)}
    over_time["interannual_std_ratio"] = _ratio_of(indices["interannual_std"])
    over_time |= {name: _joint(name) for name in ("temperature_correlation", "hot_wet_days", "hot_dry_days")}
    over_time |= {f"abs_{name}": _absolute(function) for name, function in over_time.items() if name.endswith("bias")}
    spatial = _seasonal(lambda prediction, reference, case: spatial_correlation(prediction, reference, case.area))
    found: dict[str, tuple[Over, Function]] = {name: ("time", function) for name, function in over_time.items()}
    return {**found, "spatial_correlation": ("space", spatial), **{name: ("all", _of_spectra(name)) for name in _SPECTRAL}}


def _entry(name: str) -> Entry:
    found = find(name)
    if found is None:
        raise KeyError(name)
    return found


METRICS: dict[str, Metric] = {name: Metric(_entry(name), over, function) for name, (over, function) in _functions().items()}
"""Name -> metric, of all that are found from two series; those of more than two (skill, change signals) are in definitions.ENTRIES."""
