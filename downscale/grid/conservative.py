"""First-order conservative weights between any two grids with corners, every cell edge a great circle (as ESMF takes them)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from downscale.grid.grid import Grid
from downscale.grid.polygons import clip_polygons, edge_normals, polygon_areas
from downscale.grid.weights import Weights

NEGLIGIBLE = 1e-13
_TARGETS_AT_ONCE = 1024
_PAIRS_AT_ONCE = 60_000


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells of a grid in a row: corners (n, 4, 3), centre (n, 3), radius (n,) as a chord, area (n,) in steradian."""

    corners: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, grid: Grid) -> _Cells:
        corners = grid.corner_vectors().reshape(-1, 4, 3)
        centre = corners.mean(axis=1)
        centre /= np.linalg.norm(centre, axis=1, keepdims=True)
        radius = np.linalg.norm(corners - centre[:, None, :], axis=2).max(axis=1)
        return cls(corners, centre, radius, polygon_areas(corners))


def conservative_weights(source: Grid, target: Grid) -> Weights:
    """Weights of the area-weighted mean over the source cells that a target cell overlaps (first order; Jones 1999).

    The matrix holds the overlap areas in steradian by exact clipping of spherical polygons. Cells must be convex; any
    curvilinear grid, cells at or over a pole, and either longitude convention will do.

    Raises:
        InputDataError: one of the grids has no corners (G08).
    """
    overlap = overlap_areas(source, target)
    covered = np.asarray(overlap.sum(axis=1)).reshape(target.shape)
    return Weights(overlap, source.shape, target.shape, "conservative", covered / target.areas())


def overlap_areas(source: Grid, target: Grid) -> csr_array:
    """Areas in steradian (n_target, n_source) that source and target cells share; overlaps below rounding are left out."""
    source_cells, target_cells = _Cells.of(source), _Cells.of(target)
    normals = edge_normals(target_cells.corners)
    rows, columns, areas = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for t, s in _candidates(source_cells, target_cells):
        area = _overlaps(source_cells, target_cells, normals, t, s)
        kept = np.flatnonzero(area > NEGLIGIBLE * np.minimum(source_cells.area[s], target_cells.area[t]))
        rows.append(t[kept])
        columns.append(s[kept])
        areas.append(area[kept])
    shape = (len(target_cells.area), len(source_cells.area))
    return csr_array(coo_array((np.concatenate(areas), (np.concatenate(rows), np.concatenate(columns))), shape=shape))


def _candidates(source: _Cells, target: _Cells) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (target, source) whose circumscribed circles meet, a bounded number at a time."""
    tree = cKDTree(source.centre)
    largest = source.radius.max()
    for start in range(0, len(target.area), _TARGETS_AT_ONCE):
        part = slice(start, start + _TARGETS_AT_ONCE)
        reach = target.radius[part].max() + largest
        near = cKDTree(target.centre[part]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        t, s = near["i"] + start, near["j"]
        meet = near["v"] <= target.radius[t] + source.radius[s]
        t, s = t[meet], s[meet]
        for first in range(0, len(t), _PAIRS_AT_ONCE):
            piece = slice(first, first + _PAIRS_AT_ONCE)
            yield t[piece], s[piece]


def _overlaps(source: _Cells, target: _Cells, normals: np.ndarray, t: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Overlap areas (P,) of the pairs: none or all where the source cell's circle settles it, else by clipping."""
    inside, outside = np.ones(len(t), dtype=bool), np.zeros(len(t), dtype=bool)
    centre, radius = source.centre[s], source.radius[s]
    for edge in range(4):
        distance = np.einsum("pk,pk->p", centre - target.corners[t, edge], normals[t, edge])
        inside &= distance > radius
        outside |= distance < -radius
    area = np.where(inside, source.area[s], 0.0)
    open_pairs = np.flatnonzero(~inside & ~outside)
    if open_pairs.size:
        t, s = t[open_pairs], s[open_pairs]
        area[open_pairs] = polygon_areas(clip_polygons(source.corners[s], target.corners[t], normals[t]))
    return area
