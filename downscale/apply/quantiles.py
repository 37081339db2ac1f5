"""Quantiles of predictors by calendar month and cell, and the way from the quantiles of one source to those of another."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from downscale.pairs.normalise import DatedPairs

LEVELS = np.concatenate([[0.005, 0.01, 0.02], np.linspace(0.05, 0.95, 19), [0.98, 0.99, 0.995]])
"""Probabilities of the quantiles, closer towards the ends.

Beyond the first and the last a value is shifted as far as that one is: extremes keep their distance."""


def monthly_quantiles(cases: Sequence[tuple[DatedPairs, str]]) -> np.ndarray:
    """Quantiles (12, 25, C, H, W) float32 at LEVELS over the training days of some groups, pooled, January first.

    NaN in a month without a training day, and in a cell without a value. One month is in memory at a time.

    Args:
        cases: (group, "perfect" or "imperfect").
    """
    found: list[np.ndarray | None] = []
    for month in range(1, 13):
        maps = []
        for group, kind in cases:
            index = group.split("train")
            index = index[group.days[index] // 100 % 100 == month]
            if len(index):
                maps.append(group.predictors(kind, index))
        found.append(_quantiles(np.concatenate(maps)) if maps else None)
    empty = np.full(next(one.shape for one in found if one is not None), np.nan, np.float32)
    return np.stack([empty if one is None else one for one in found])


def offsets(values: np.ndarray, month: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What to add to values of the source so that their quantiles become those of the target.

    Between two quantiles the offset changes linearly, beyond the outermost it stays.

    Args:
        values: (n, C, H, W).
        month: (n,) 0 for January.
        source, target: (12, 25, C, H, W).

    Returns:
        (n, C, H, W) float64; NaN where a value or a quantile is missing.
    """
    result = np.empty(values.shape)
    for one in np.unique(month).tolist():
        some, edges = values[month == one], source[one].astype(np.float64)
        shift = target[one] - edges
        reached = np.zeros(some.shape, np.intp)
        for edge in edges:
            reached += some >= edge
        low, high = np.maximum(reached - 1, 0), np.minimum(reached, len(edges) - 1)
        first, last = (np.take_along_axis(edges, at, axis=0) for at in (low, high))
        width = last - first
        weight = np.where(width > 0, (some - first) / np.where(width > 0, width, 1.0), 0.0)
        before, after = (np.take_along_axis(shift, at, axis=0) for at in (low, high))
        result[month == one] = before + weight * (after - before)
    return result


def _quantiles(maps: np.ndarray) -> np.ndarray:
    if not np.isnan(maps).any():
        return np.quantile(maps, LEVELS, axis=0).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell without any value has NaN quantiles
        return np.nanquantile(maps, LEVELS, axis=0).astype(np.float32)
