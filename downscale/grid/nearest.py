"""Nearest-neighbour weights: each target cell takes the source cell whose centre is nearest on the sphere."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from downscale.errors import InputDataError
from downscale.grid.grid import Grid
from downscale.grid.interpolate import bilinear_weights
from downscale.grid.polygons import edge_normals, point_tree, unit_vectors
from downscale.grid.weights import Weights

_TIE = 1e-12
_INSIDE = -1e-12
_POINTS_AT_ONCE = 4096


def nearest_weights(source: Grid, target: Grid) -> Weights:
    """Weights 1 from the source cell with the nearest centre (great circle), and none where the target's centre is in no source cell.

    Of centres that are equally near the first in the source's order is taken.

    Raises:
        InputDataError: where the source's cells end cannot be known: it has neither axes nor corners (G08).
    """
    inside = centres_inside(source, target)
    points = unit_vectors(target.lat, target.lon).reshape(-1, 3)[inside.ravel()]
    column = _nearest(unit_vectors(source.lat, source.lon).reshape(-1, 3), points)
    rows = np.concatenate([[0], np.cumsum(inside.ravel())])
    matrix = csr_array((np.ones(len(column)), column, rows), shape=(inside.size, source.lat.size))
    return Weights(matrix, source.shape, target.shape, "nearest", inside.astype(np.float64))


def centres_inside(source: Grid, target: Grid) -> np.ndarray:
    """(Ny, Nx) True where the centre of a target cell lies in a cell of the source, its edges included.

    Raises:
        InputDataError: the source has neither axes nor corners (G08).
    """
    if source.axes is not None and (source.is_latlon or source.crs is not None):
        return bilinear_weights(source, target).coverage > 0.0
    if source.lat_corners is None:
        raise InputDataError(
            "nearest neighbours need to know where the source's cells end, and this grid has neither axes nor corners",
            where=source.place,
            hint="give bounds or vertices in the file, or projected axes with a grid mapping",
        )
    return _in_polygons(source.corner_vectors().reshape(-1, 4, 3), unit_vectors(target.lat, target.lon).reshape(-1, 3)).reshape(
        target.shape
    )


def _nearest(centres: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Index (n,) of the centre nearest to each point, the lowest of equally near ones."""
    if not len(points):
        return np.empty(0, dtype=np.int64)
    count = min(4, len(centres))
    distance, index = (values.reshape(len(points), count) for values in point_tree(centres).query(points, k=count))
    return np.where(distance <= distance[:, :1] + _TIE, index, len(centres)).min(axis=1).astype(np.int64)


def _in_polygons(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """True (m,) for points (m, 3) in one of the convex polygons (n, 4, 3)."""
    centre = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(axis=1)
    normals, tree, found = edge_normals(corners), point_tree(centre), np.zeros(len(points), dtype=bool)
    for start in range(0, len(points), _POINTS_AT_ONCE):
        part = points[start : start + _POINTS_AT_ONCE]
        near = point_tree(part).sparse_distance_matrix(tree, 1.001 * float(radius.max()), output_type="ndarray")
        point, cell = near["i"], near["j"]
        within = (np.einsum("pek,pk->pe", normals[cell], part[point]) >= _INSIDE).all(axis=1)
        found[start + point[within]] = True
    return found
