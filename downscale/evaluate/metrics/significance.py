"""Where a bias is more than chance: a t test of yearly biases at each cell, and the false discovery rate over the map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from downscale.evaluate.blocks import FieldScores
from downscale.evaluate.metrics.bootstrap import BOOTSTRAP_MIN_YEARS

FALSE_DISCOVERY_RATE = 0.10


def bias_p_value(years: Mapping[str, np.ndarray], strata: np.ndarray) -> np.ndarray:
    """Two-sided p-value of the mean over years of the yearly mean error being zero.

    Args:
        years: sums of each year (year, ...), see metrics.paired_sums; years without a day are left out.
        strata: (year,) contiguous period of each; the spread is that inside the periods.

    Returns:
        (...), NaN with fewer than ten years or without any spread.
    """
    there = years["n"] > 0
    bias = np.where(there, (years["p"] - years["r"]) / np.maximum(years["n"], 1.0), 0.0)
    squares, freedom = np.zeros(bias.shape[1:]), np.zeros(bias.shape[1:])
    for number in np.unique(strata):
        inside = strata == number
        n = there[inside].sum(axis=0)
        mean = bias[inside].sum(axis=0) / np.maximum(n, 1)
        squares += (there[inside] * (bias[inside] - mean) ** 2).sum(axis=0)
        freedom += np.maximum(n - 1, 0)
    n = there.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = bias.sum(axis=0) / n / np.sqrt(squares / freedom / n)
        return np.asarray(np.where((n >= BOOTSTRAP_MIN_YEARS) & (squares > 0), 2.0 * stats.t.sf(np.abs(t), freedom), np.nan))


def significant(p_values: np.ndarray, rate: float = FALSE_DISCOVERY_RATE) -> np.ndarray:
    """Which p-values are discoveries: at most ``rate`` of them are expected to be false (Benjamini and Hochberg 1995).

    For maps the rate should be twice the level of a single test, as neighbours go together: Wilks 2016, doi 10.1175/BAMS-D-15-00267.1.
    NaN is no discovery.
    """
    found = np.isfinite(p_values)
    ordered = np.sort(p_values[found])
    below = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(len(ordered), 1))
    limit = ordered[below[-1]] if len(below) else -1.0
    return np.asarray(found & (np.where(found, p_values, 2.0) <= limit))


def significance_maps(fields: Mapping[str, FieldScores], area: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """VARIABLE__bias__SEASON__PERIOD__significant -> map (1, 0, NaN outside the region or without a p-value) and unit."""
    result = {}
    for name, found in fields.items():
        for (season, period), p_values in found.p_values.items():
            inside = np.where(area > 0, p_values, np.nan)
            marks = np.where(np.isfinite(inside), significant(inside), np.nan)
            result[f"{name}__bias__{season}__{period}__significant"] = (marks, "1")
    return result
