"""Smoothing on a grid."""

from __future__ import annotations

import numpy as np


def smooth3(fields: np.ndarray) -> np.ndarray:
    """Moving average over 3 x 3 cells of fields (..., y, x), as Doury et al. (2023, Clim. Dyn. 60, 1751) smooth their predictors.

    At edges, and beside missing values (NaN), the mean of the cells that are there; a missing cell stays missing. Sums in
    float64, result in the dtype that came in (integers come out as float64).
    """
    fields = np.asarray(fields)
    values = fields.astype(np.float64)
    valid = ~np.isnan(values)
    total = _sum3(np.where(valid, values, 0.0))
    count = _sum3(valid.astype(np.float64))
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=valid)
    return mean.astype(fields.dtype if np.issubdtype(fields.dtype, np.floating) else np.float64)


def _sum3(values: np.ndarray) -> np.ndarray:
    """Sums over 3 x 3 cells, zeros beyond the edges."""
    for axis in (-2, -1):
        ends = [(0, 0)] * values.ndim
        ends[axis] = (1, 1)
        padded = np.moveaxis(np.pad(values, ends), axis, 0)
        values = np.moveaxis(padded[:-2] + padded[1:-1] + padded[2:], 0, axis)
    return values
