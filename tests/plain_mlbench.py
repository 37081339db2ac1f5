"""The ML-Bench diagnostics written out cell by cell and day by day, as their definitions say: what the fast engine is held against."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.stats import wasserstein_distance

MONTHS = {"all": range(1, 13), "winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11)}


def plain_scores(truth, prediction, days):
    """(diagnostic, variable, season) -> map, spectrum or number; a cell that lacks a value on any day is NaN."""
    result = {}
    month, year = days // 100 % 100, days // 10_000
    whole = {name: np.isfinite(truth[name]).all(axis=0) & np.isfinite(prediction[name]).all(axis=0) for name in truth}
    for season, months in MONTHS.items():
        chosen = np.isin(month, list(months))
        if not chosen.any():
            continue
        own = year[chosen]
        for name in truth:
            x0, x1 = truth[name][chosen].astype(float), prediction[name][chosen].astype(float)
            _field(result, (name, season), x0, x1, whole[name])
            for index, function in _indices(name).items():
                maps = [_per_cell(partial(function, year=own), x, whole[name]) for x in (x0, x1)]
                _index(result, index, (name, season), *maps)
        if {"tasmax", "pr"} <= set(truth):
            both = whole["tasmax"] & whole["pr"]
            parts = []
            for number, fields in enumerate((truth, prediction)):
                pair = np.stack([fields["tasmax"][chosen], fields["pr"][chosen]], axis=-1).astype(float)
                parts.append(_per_cell(lambda series: _pearson(series[:, 0], series[:, 1]), pair, both))
                result[f"correlation_x{number}", "tasmax_pr", season] = parts[-1]
            result["correlation_bias", "tasmax_pr", season] = parts[1] - parts[0]
    return result


def _field(result, key, x0, x1, whole):
    squares = (x1 - x0) ** 2
    result["rmse_time", *key] = np.where(whole, np.sqrt(np.mean(squares, axis=0)), np.nan)
    result["rmse_scalar", *key] = np.sqrt(np.nanmean(squares)) if np.isfinite(squares).any() else np.nan
    spectra = [_spectrum(x) for x in (x0, x1)]
    result["psd_truth", *key], result["psd_pred", *key] = spectra
    with np.errstate(divide="ignore", invalid="ignore"):
        result["ralsd", *key] = np.mean((10 * np.log10(spectra[0] / spectra[1])) ** 2)
    apart = np.full(whole.shape, np.nan)
    for y, x in np.argwhere(whole):
        apart[y, x] = wasserstein_distance(x0[:, y, x], x1[:, y, x])
    result["wasserstein_spatial", *key] = apart
    flat = [x[:, whole].ravel() for x in (x0, x1)]
    result["wasserstein_scalar", *key] = wasserstein_distance(*flat) if whole.any() else np.nan


def _spectrum(fields):
    ny, nx = fields.shape[1:]
    sums, counts = {}, {}
    power = np.mean([np.abs(np.fft.fftshift(np.fft.fft2(np.nan_to_num(day)))) ** 2 for day in fields], axis=0)
    for y in range(ny):
        for x in range(nx):
            ring = int(np.sqrt((y - (ny - 1) / 2) ** 2 + (x - (nx - 1) / 2) ** 2))
            sums[ring] = sums.get(ring, 0.0) + power[y, x]
            counts[ring] = counts.get(ring, 0) + 1
    return np.array([sums.get(ring, np.nan) / counts.get(ring, 1) for ring in range(max(sums) + 1)])


def _index(result, index, key, truth, prediction):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(truth != 0, prediction / truth, np.nan)
    result[f"index_{index}_truth", *key], result[f"index_{index}_pred", *key] = truth, prediction
    result[f"bias_{index}", *key], result[f"ratio_{index}", *key] = prediction - truth, ratio
    result[f"relbias_{index}", *key] = ratio - 1


def _per_cell(function, fields, whole):
    found = np.full(whole.shape, np.nan)
    for y, x in np.argwhere(whole):
        found[y, x] = function(fields[:, y, x])
    return found


def _indices(name):
    common = {
        "mean": lambda x, year: np.mean(x),
        "q02": lambda x, year: np.quantile(x, 0.02),
        "q98": lambda x, year: np.quantile(x, 0.98),
        "lag1_corr": lambda x, year: _pearson(x[1:], x[:-1]),
        "interannual_var": lambda x, year: np.std(_yearly(np.mean, x, year)),
    }
    if name == "tasmax":
        return common | {
            "txx": lambda x, year: np.mean(_yearly(np.max, x, year)),
            "txn": lambda x, year: np.mean(_yearly(np.min, x, year)),
            "su": lambda x, year: np.mean(_yearly(lambda some: np.sum(some > 298.15), x, year)),
            "su300": lambda x, year: np.mean(_yearly(lambda some: np.sum(some > 300.0), x, year)),
        }
    if name != "pr":
        return common
    return common | {
        "rx1day": lambda x, year: np.mean(_yearly(np.max, x, year)),
        "sdii": lambda x, year: np.mean(x[x >= 1.0]) if (x >= 1.0).any() else np.nan,
        "cdd": lambda x, year: np.mean(_yearly(lambda some: _longest(some < 1.0), x, year)),
        "cwd": lambda x, year: np.mean(_yearly(lambda some: _longest(some >= 1.0), x, year)),
    }


def _yearly(function, series, year):
    return [function(series[year == one]) for one in np.unique(year)]


def _longest(true):
    best = run = 0
    for one in true:
        run = run + 1 if one else 0
        best = max(best, run)
    return best


def _pearson(one, other):
    return np.corrcoef(one, other)[0, 1] if len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0 else np.nan
