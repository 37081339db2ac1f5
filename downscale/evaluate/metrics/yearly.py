"""From sums of segments to sums of years, and from years to a whole selection or to its resamples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from downscale.evaluate.metrics.spells import PARTS, longest_of_years

EXTREMES = {"top": np.fmax, "bottom": np.fmin}
SPELLS = {"dry": "cdd", "wet": "cwd"}
ROUNDING = 1e-9


def by_year(part: Mapping[str, np.ndarray], members: np.ndarray, linked: np.ndarray) -> dict[str, np.ndarray]:
    """Sums of each year.

    Args:
        part: sums of segments: of metrics.paired_sums or indices.index_sums.
        members: (year, segment) True where a segment belongs to a year.
        linked: (segment,) True where a segment begins the day after the one before it ends.

    Returns:
        name -> (year, ...) float64: what adds up; top and bottom, cdd and cwd (0 in a year without a day); years, 1 where a year has a
        day; mean, the mean of the year (0 without a day).
    """
    result = {}
    for name, value in part.items():
        if "." not in name and name not in EXTREMES:
            result[name] = _added(value, members)
        elif name in EXTREMES:
            extreme = np.stack([EXTREMES[name].reduce(value[inside], axis=0) for inside in members])
            result[name] = np.where(np.isfinite(extreme), extreme, 0.0)
    for spell, name in SPELLS.items():
        if f"{spell}.longest" in part:
            result[name] = longest_of_years({key: part[f"{spell}.{key}"] for key in PARTS}, members, linked)
    if "lag.n" in part:
        result |= _lagged(part, members, linked)
    if "total" in part:
        result["years"] = (result["n"] > 0).astype(np.float64)
        result["mean"] = result["total"] / np.maximum(result["n"], 1.0)
    return result


def _added(value: np.ndarray, members: np.ndarray) -> np.ndarray:
    return np.stack([value[inside].sum(axis=0) for inside in members])


def _lagged(part: Mapping[str, np.ndarray], members: np.ndarray, linked: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over neighbouring days; a pair across two segments counts where both are selected, in the year of its second day."""
    chosen = np.asarray(members.any(axis=0))
    across = members & linked & np.concatenate([[False], chosen[:-1]])
    names = [name.removeprefix("lag.") for name in part if name.startswith("lag.")]
    return {f"lag.{name}": _added(part[f"lag.{name}"], members) + _added(part[f"link.{name}"], across) for name in names}


def weighted_years(part: Mapping[str, np.ndarray], weights: np.ndarray, strata: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Weighted sums over years.

    Args:
        part: name -> (year, ...), see by_year.
        weights: (resample, year).
        strata: (year,) contiguous period of each year; None: one period.

    Returns:
        name -> (resample, ...), and where yearly means are known ``interannual``: their variance inside the periods, NaN where no period
        has two years. Degrees of freedom are the sum of weights less that of squared weights over it, n - 1 where all are 1: a year
        that is drawn twice brings no new deviation.
    """
    result = {name: np.tensordot(weights, value, axes=1) for name, value in part.items() if name != "mean"}
    if "mean" in part:
        result["interannual"] = _interannual(part["mean"], part["years"], weights, strata)
    return result


def _interannual(mean: np.ndarray, years: np.ndarray, weights: np.ndarray, strata: np.ndarray | None) -> np.ndarray:
    period = np.zeros(len(mean), np.int64) if strata is None else strata
    squares, freedom = (np.zeros((len(weights), *mean.shape[1:])) for _ in range(2))
    for number in np.unique(period):
        inside = np.asarray(period == number)
        there, w = years[inside], weights[:, inside]
        centre = (there * mean[inside]).sum(axis=0) / np.maximum(there.sum(axis=0), 1.0)
        away = there * (mean[inside] - centre)
        n = np.tensordot(w, there, axes=1)
        squares += np.tensordot(w, away**2, axes=1) - np.tensordot(w, away, axes=1) ** 2 / np.maximum(n, 1.0)
        left = n - np.tensordot(w**2, there, axes=1) / np.maximum(n, 1.0)
        freedom += np.where(left > ROUNDING, left, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(freedom > 0, np.maximum(squares, 0.0) / freedom, np.nan)
