"""The diagnostics of the CORDEX ML-Bench as its evaluation code defines them (WCRP-CORDEX/ml-benchmark at 483d198), of fields in memory.

Fields are (time, y, x) in working units, truth and prediction on the same days, without missing days; a cell that lacks a value on any day
is NaN in every map. Seasons are months; years are calendar years also in winter, whose December thus joins the January before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import fft

from downscale.cf.calendar import month
from downscale.evaluate.indices import sdii
from downscale.evaluate.quantiles import ascending, quantiles

SEASONS: dict[str, tuple[int, ...]] = {
    "all": tuple(range(1, 13)),
    "winter": (12, 1, 2),
    "spring": (3, 4, 5),
    "summer": (6, 7, 8),
    "autumn": (9, 10, 11),
}
WET_MM = 1.0
SUMMER_DAY = 298.15
"""K: 25 degC. The benchmark's own default is 300 K, given beside it as su300."""


@dataclass(frozen=True)
class Diagnostic:
    """One result.

    Attributes:
        name: e.g. rmse_time, bias_txx, psd_pred.
        variable: tasmax, pr, or tasmax_pr.
        season: of SEASONS.
        values: a map (y, x), a spectrum (k,), or one number.
        scalar: the benchmark's reduction of it; None for what it does not reduce.
    """

    name: str
    variable: str
    season: str
    values: np.ndarray
    scalar: float | None


def diagnose(
    truth: Mapping[str, np.ndarray], prediction: Mapping[str, np.ndarray], days: np.ndarray, seasons: tuple[str, ...] = tuple(SEASONS)
) -> Iterator[Diagnostic]:
    """All diagnostics of tasmax (K) and pr (mm/day).

    Args:
        truth, prediction: variable -> (time, y, x).
        days: (time,) yyyymmdd.
        seasons: those wanted; one without days is left out.
    """
    for season in seasons:
        chosen = np.isin(month(days), SEASONS[season])
        if not chosen.any():
            continue
        some = {name: (np.asarray(truth[name][chosen]), np.asarray(prediction[name][chosen])) for name in truth}
        years = days[chosen] // 10_000
        for name, (reference, emulated) in some.items():
            yield from _errors(name, season, reference, emulated)
            yield from _indices(name, season, reference, emulated, years)
        if {"tasmax", "pr"} <= set(some):
            (t0, t1), (p0, p1) = some["tasmax"], some["pr"]
            difference = correlation(t1, p1) - correlation(t0, p0)
            yield Diagnostic("correlation_bias", "tasmax_pr", season, difference, _mean_of(np.abs(difference)))


def _errors(name: str, season: str, truth: np.ndarray, prediction: np.ndarray) -> Iterator[Diagnostic]:
    difference = prediction.astype(np.float64) - truth
    squares = np.square(difference)
    rmse = np.sqrt(squares.mean(axis=0))
    yield Diagnostic("rmse_time", name, season, rmse, _mean_of(rmse))
    yield _number("rmse_scalar", name, season, float(np.sqrt(np.nanmean(squares))))
    spectra = spectrum(truth), spectrum(prediction)
    yield Diagnostic("psd_truth", name, season, spectra[0], None)
    yield Diagnostic("psd_pred", name, season, spectra[1], None)
    yield _number("ralsd", name, season, ralsd(*spectra))
    spatial = np.abs(np.sort(prediction, axis=0).astype(np.float64) - np.sort(truth, axis=0)).mean(axis=0)
    yield Diagnostic("wasserstein_spatial", name, season, spatial, _mean_of(spatial))
    flat = [np.sort(field[:, np.isfinite(rmse)].ravel()).astype(np.float64) for field in (prediction, truth)]
    yield _number("wasserstein_scalar", name, season, float(np.abs(flat[0] - flat[1]).mean()) if len(flat[0]) else float("nan"))


def _indices(name: str, season: str, truth: np.ndarray, prediction: np.ndarray, years: np.ndarray) -> Iterator[Diagnostic]:
    whole = np.isfinite(truth).all(axis=0) & np.isfinite(prediction).all(axis=0)
    for index, function in INDICES[name].items():
        maps = [np.where(whole, function(field, years), np.nan) for field in (truth, prediction)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(maps[0] != 0, maps[1] / maps[0], np.nan)
        for kind, values in zip(("truth", "pred"), maps, strict=True):
            yield Diagnostic(f"index_{index}_{kind}", name, season, values, _mean_of(values))
        difference = maps[1] - maps[0]
        yield Diagnostic(f"bias_{index}", name, season, difference, _mean_of(np.abs(difference)))
        yield Diagnostic(f"relbias_{index}", name, season, ratio - 1.0, _mean_of(np.abs(ratio - 1.0)))
        yield Diagnostic(f"ratio_{index}", name, season, ratio, _mean_of(ratio))


def _number(name: str, variable: str, season: str, value: float) -> Diagnostic:
    return Diagnostic(name, variable, season, np.array(value), value)


def _mean_of(values: np.ndarray) -> float:
    """Plain mean over the cells that have a value, as the benchmark takes it: not weighted by area."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def spectrum(fields: np.ndarray) -> np.ndarray:
    """Mean over days of the power |FFT2|^2 of each whole field, averaged over rings of integer radius.

    The radius is the whole part of the distance from the middle of the shifted array, ((ny - 1) / 2, (nx - 1) / 2), corners included;
    nothing is detrended or tapered, and missing values count as 0.
    """
    ny, nx = fields.shape[1:]
    y, x = np.indices((ny, nx))
    ring = np.hypot(x - (nx - 1) / 2.0, y - (ny - 1) / 2.0).astype(np.int64).ravel()
    power = np.zeros((ny, nx))
    for field in fields:
        power += np.abs(fft.fft2(np.nan_to_num(field.astype(np.float64)))) ** 2
    mean = fft.fftshift(power).ravel() / len(fields)
    count = np.bincount(ring)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(ring, mean) / count)


def ralsd(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean over rings of (10 log10(P_truth / P_prediction))^2, dB^2; the benchmark takes no root."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.square(10.0 * np.log10(truth / prediction))))


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson correlation along the first axis, float64; NaN where one is constant."""
    a, b = (field.astype(np.float64) - field.mean(axis=0, dtype=np.float64) for field in (one, other))
    spread = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 0, (a * b).sum(axis=0) / spread, np.nan))


def _by_year(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The mean over years of something of each year's days."""

    def over_years(series: np.ndarray, years: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([function(series[years == year]) for year in np.unique(years)], axis=0, dtype=np.float64))

    return over_years


def longest_run(true: np.ndarray) -> np.ndarray:
    """Longest run of True along the first axis."""
    run = np.zeros(true.shape[1:], np.int64)
    longest = run.copy()
    for step in true:
        run = np.where(step, run + 1, 0)
        np.maximum(longest, run, out=longest)
    return longest


def _quantile(q: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda series, years: quantiles(ascending(series.astype(np.float64)), [q])[0]


def _interannual(series: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Standard deviation (n) of annual means."""
    return np.asarray(np.std([series[years == year].mean(axis=0, dtype=np.float64) for year in np.unique(years)], axis=0))


_COMMON: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": lambda series, years: np.asarray(series.mean(axis=0, dtype=np.float64)),
    "q02": _quantile(0.02),
    "q98": _quantile(0.98),
    "lag1_corr": lambda series, years: correlation(series[1:], series[:-1]),
    "interannual_var": _interannual,
}
INDICES: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "tasmax": {
        **_COMMON,
        "txx": _by_year(lambda days: days.max(axis=0)),
        "txn": _by_year(lambda days: days.min(axis=0)),
        "su": _by_year(lambda days: np.asarray((days > SUMMER_DAY).sum(axis=0))),
        "su300": _by_year(lambda days: np.asarray((days > 300.0).sum(axis=0))),
    },
    "pr": {
        **_COMMON,
        "rx1day": _by_year(lambda days: days.max(axis=0)),
        "sdii": lambda series, years: sdii(series, WET_MM),
        "cdd": _by_year(lambda days: longest_run(days < WET_MM)),
        "cwd": _by_year(lambda days: longest_run(days >= WET_MM)),
    },
}
"""Variable -> index -> its map from a series and the calendar year of each of its days."""
