"""Bilinear weights from a grid with axes to the cell centres of any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from downscale.errors import InputDataError
from downscale.grid.corners import axis_edges
from downscale.grid.grid import Axes, Grid
from downscale.grid.projection import from_lonlat, is_rotated
from downscale.grid.weights import Weights

_SNAP = 1e-9
_FULL_TURN = 360.0


@dataclass(frozen=True, eq=False)
class _Bracket:
    """Per point: the axis indices on either side, the share of the upper one, and whether the point lies in a cell at all."""

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray
    inside: np.ndarray


def bilinear_weights(source: Grid, target: Grid) -> Weights:
    """Weights of bilinear interpolation, in the source's own axis coordinates, to the target's cell centres.

    Between the outermost centres and the outer cell edges the nearest row or column is taken; outside the cells there is no
    weight (NaN). Longitudes count modulo 360, and a source around the whole globe has no seam.

    Raises:
        InputDataError: the source has no axes, or projected axes without a grid mapping (G07).
    """
    axes = _usable_axes(source)
    y, x = _in_axes(source, axes, target)
    rows = _bracket(axes.y, y.ravel(), _axis_ends(source, axes, 0), turns=False)
    columns = _bracket(axes.x, x.ravel(), _axis_ends(source, axes, 1), turns=_in_degrees(source))
    matrix = _combine(rows, columns, source.shape)
    coverage = (rows.inside & columns.inside).astype(np.float64).reshape(target.shape)
    return Weights(matrix, source.shape, target.shape, "bilinear", coverage)


def _usable_axes(source: Grid) -> Axes:
    if source.axes is None or (source.crs is None and not source.is_latlon):
        raise InputDataError(
            "bilinear interpolation needs the source's axes: lat/lon, or projected axes with a grid mapping",
            where=source.place,
            hint="give rlat/rlon or y/x and the grid mapping in the file, or use conservative remapping",
        )
    return source.axes


def _in_degrees(source: Grid) -> bool:
    return source.crs is None or is_rotated(source.crs)


def _in_axes(source: Grid, axes: Axes, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Target centres (Ny, Nx) as y and x of the source's axes."""
    if source.crs is None:
        return target.lat, target.lon
    x, y = from_lonlat(source.crs, target.lon, target.lat, axes.units)
    return y, x


def _axis_ends(source: Grid, axes: Axes, which: int) -> tuple[float, float]:
    """Lowest and highest outer cell edge along the y (0) or x (1) axis."""
    if source.is_latlon and source.lat_corners is not None and source.lon_corners is not None:
        edges = (source.lat_corners, source.lon_corners)[which]
    else:
        edges = axis_edges((axes.y, axes.x)[which])
    return float(edges.min()), float(edges.max())


def _bracket(centres: np.ndarray, points: np.ndarray, ends: tuple[float, float], *, turns: bool) -> _Bracket:
    """Where points (n,) lie among the axis values; with `turns` both are angles modulo 360 degrees."""
    order = np.argsort(centres)
    values = centres[order]
    low, high = ends
    slack = _SNAP * (high - low)
    if turns:
        points = low - slack + np.mod(points - low + slack, _FULL_TURN)
    if turns and high - low > _FULL_TURN - 1e-3:
        points = np.where(points < values[0], points + _FULL_TURN, points)
        values, order = np.append(values, values[0] + _FULL_TURN), np.append(order, order[0])
        inside = np.isfinite(points)
    else:
        inside = (points >= low - slack) & (points <= high + slack)
    points = np.where(inside, points, values[0])
    if len(values) == 1:
        index = np.zeros(len(points), dtype=np.int64)
        return _Bracket(index, index, np.zeros(len(points)), inside)
    at = np.clip(np.searchsorted(values, points, side="right") - 1, 0, len(values) - 2)
    share = np.clip((points - values[at]) / (values[at + 1] - values[at]), 0.0, 1.0)
    share = np.where(np.abs(share - np.round(share)) < _SNAP, np.round(share), share)
    return _Bracket(order[at], order[at + 1], share, inside)


def _combine(rows: _Bracket, columns: _Bracket, shape: tuple[int, int]) -> csr_array:
    """The (n, ny * nx) matrix of the products of row and column shares, zeros left out."""
    inside = rows.inside & columns.inside
    target, source, weight = [], [], []
    for row, row_share in ((rows.lower, 1.0 - rows.share), (rows.upper, rows.share)):
        for column, column_share in ((columns.lower, 1.0 - columns.share), (columns.upper, columns.share)):
            product = np.where(inside, row_share * column_share, 0.0)
            used = np.flatnonzero(product)
            target.append(used)
            source.append(row[used] * shape[1] + column[used])
            weight.append(product[used])
    entries = np.concatenate(weight), (np.concatenate(target), np.concatenate(source))
    return csr_array(coo_array(entries, shape=(len(inside), shape[0] * shape[1])))
