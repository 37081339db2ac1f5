"""Quantiles and the Wasserstein distance from series sorted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CELLS_BYTES = 4 * 2**20
QQ_PROBABILITIES = (0.001, 0.01, 0.02, 0.05, *(round(0.1 * tenth, 1) for tenth in range(1, 10)), 0.95, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True, eq=False)
class Sorted:
    """Values of each cell in ascending order.

    Attributes:
        values: (time, cell), NaN last.
        counts: (cell,) finite values of each cell, or one number when no value is missing.
        shape: of the map.
    """

    values: np.ndarray
    counts: np.ndarray | int
    shape: tuple[int, ...]


def ascending(series: np.ndarray) -> Sorted:
    """Sort each cell of a series (time, ...); the series itself stays as it is, however it lies in memory."""
    found = ascending_cells(np.array(series.reshape(len(series), -1).T, order="C"), series.shape[1:])
    return Sorted(np.ascontiguousarray(found.values), found.counts, found.shape)


def ascending_cells(cells: np.ndarray, shape: tuple[int, ...]) -> Sorted:
    """Sort each row of cells (cell, time) in place; shape: of the map."""
    missing = np.isnan(cells)
    cells.sort(axis=-1)
    return Sorted(cells.T, cells.shape[1] - missing.sum(axis=1) if missing.any() else cells.shape[1], shape)


def quantiles(cells: Sorted, probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
    """Quantiles of each cell by linear interpolation between order statistics (Hyndman and Fan type 7).

    Returns:
        (probability, ...) in the unit of the series; NaN for a cell without values.
    """
    q = np.asarray(probabilities, dtype=np.float64)
    if isinstance(cells.counts, int) and not cells.counts:
        return np.full((len(q), *cells.shape), np.nan)
    last = np.maximum(cells.counts, 1) - 1
    place = q[:, None] * last
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, last)
    weight = (place - low).astype(cells.values.dtype)
    if isinstance(cells.counts, int):
        lower, upper = cells.values[low[:, 0]], cells.values[high[:, 0]]
    else:
        lower, upper = np.take_along_axis(cells.values, low, axis=0), np.take_along_axis(cells.values, high, axis=0)
    upper -= lower
    upper *= weight
    lower += upper
    return lower.reshape(len(q), *cells.shape)


def wasserstein(prediction: Sorted, reference: Sorted) -> np.ndarray:
    """Wasserstein-1 distance per cell, unit of the series: the integral of |F_p^-1(q) - F_r^-1(q)| over q from 0 to 1.

    Exact for the two samples (Panaretos and Zemel 2019, doi 10.1146/annurev-statistics-030718-104938): with as many values in both it is
    the mean of |p_(i) - r_(i)| over ranks. NaN for a cell without values.
    """
    p, r = (one.values.reshape(len(one.values), -1).T for one in (prediction, reference))
    n_p, n_r = (np.broadcast_to(one.counts, len(p)) for one in (prediction, reference))
    result = np.full(len(p), np.nan)
    if np.array_equal(n_p, n_r) and p.shape == r.shape:
        whole = bool((n_p == p.shape[1]).all())
        step = max(1, CELLS_BYTES // max(p.shape[1] * p.itemsize, 1))
        for start in range(0, len(p), step):
            some = slice(start, start + step)
            apart = np.abs(p[some] - r[some])
            with np.errstate(invalid="ignore"):
                result[some] = (apart if whole else np.nan_to_num(apart)).sum(axis=1, dtype=np.float64) / n_p[some]
    else:
        for n, m in {pair for pair in zip(n_p.tolist(), n_r.tolist(), strict=True) if min(pair)}:
            cells = np.flatnonzero((n_p == n) & (n_r == m))
            result[cells] = _between_steps(p[cells, :n], r[cells, :m])
    return result.reshape(prediction.shape)


def _between_steps(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(cell,) area between two quantile functions, steps of the widths 1/n and 1/m; p (cell, n) and r (cell, m) ascending."""
    n, m = p.shape[1], r.shape[1]
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return np.asarray(np.abs(p[:, edges[:-1] // m] - r[:, edges[:-1] // n]) @ (np.diff(edges) / (n * m)))
