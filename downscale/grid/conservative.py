"""First-order conservative weights between any two grids with corners, cell edges as ESMF takes them or as CDO does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array, kron

from downscale.errors import InputDataError
from downscale.grid.cells import Boxes, Edges, Pieces
from downscale.grid.grid import Grid
from downscale.grid.parallels import areas_between, zone_areas
from downscale.grid.polygons import clip_polygons, point_tree, polygon_areas
from downscale.grid.weights import Weights

NEGLIGIBLE = 1e-13
_OPPOSITE = 1e-12
_TARGETS_AT_ONCE = 1024
_PAIRS_AT_ONCE = 60_000


def conservative_weights(source: Grid, target: Grid, *, edges: Edges = "great_circle") -> Weights:
    """Weights of the area-weighted mean over the source cells that a target cell overlaps (first order; Jones 1999).

    The matrix holds the overlap areas in steradian by exact clipping of spherical polygons. Cells must be convex; any
    curvilinear grid, cells at or over a pole, and either longitude convention will do.

    Args:
        source, target: the grids, both with corners.
        edges: "great_circle": every cell edge is one, as ESMF takes them. "parallels": the cells of a longitude-latitude grid lie
            between parallels, as CDO's gencon takes them; other grids have great circles. Conservation holds with `Grid.areas`
            of the same convention.

    Raises:
        InputDataError: one of the grids has no corners (G08), or cells so wide that great circles do not bound them.
    """
    overlap, area = _overlaps_of_grids(source, target, edges)
    covered = np.asarray(overlap.sum(axis=1)) / area
    return Weights(overlap, source.shape, target.shape, "conservative", covered.reshape(target.shape))


def overlap_areas(source: Grid, target: Grid, *, edges: Edges = "great_circle") -> csr_array:
    """Areas in steradian (n_target, n_source) that source and target cells share; overlaps below rounding are left out."""
    return _overlaps_of_grids(source, target, edges)[0]


def _overlaps_of_grids(source: Grid, target: Grid, edges: Edges) -> tuple[csr_array, np.ndarray]:
    """The areas (n_target, n_source) that cells share, and those of the target cells (n_target,)."""
    corners = source.corners(), target.corners()
    first, second = (Boxes.of(*each) if edges == "parallels" else None for each in corners)
    if first is not None and second is not None:
        sizes = first.areas, second.areas
        return _kept(_box_overlaps(first, second), *sizes), sizes[1]
    pieces = (
        _polygons(source) if first is None else Pieces.of_boxes(first),
        _polygons(target) if second is None else Pieces.of_boxes(second),
    )
    sizes = pieces[0].cell_areas(source.lat.size), pieces[1].cell_areas(target.lat.size)
    if first is not None:
        return _kept(_piece_overlaps(pieces[1], pieces[0], sizes[1], sizes[0]).T, *sizes), sizes[1]
    return _kept(_piece_overlaps(pieces[0], pieces[1], *sizes), *sizes), sizes[1]


def _polygons(grid: Grid) -> Pieces:
    """The cells with great circles between their corners; refused where these do not bound a cell, as those of half the globe."""
    pieces = Pieces.of_polygons(grid.corner_vectors().reshape(-1, 4, 3))
    wide = pieces.polygon[pieces.radius > 1.0]
    opposite = ((wide + np.roll(wide, -1, axis=1)) ** 2).sum(axis=-1).min(axis=1, initial=4.0) < _OPPOSITE
    bad = int((pieces.area <= 0.0).sum() + opposite.sum())
    if bad:
        raise InputDataError(
            f"{bad} of {grid.lat.size} cells cannot be bounded by great circles: they are half the globe wide, or wound clockwise",
            where=grid.place,
            hint="take edges: parallels for a longitude-latitude grid of such wide cells, or narrower cells",
        )
    return pieces


def _kept(overlap: coo_array, source: np.ndarray, target: np.ndarray) -> csr_array:
    """The overlaps of a source and a target cell summed, without those below rounding of the smaller of the two."""
    matrix = csr_array(overlap)
    matrix.sum_duplicates()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    matrix.data[matrix.data <= NEGLIGIBLE * np.minimum(source[matrix.indices], target[row])] = 0.0
    matrix.eliminate_zeros()
    return matrix


def _box_overlaps(source: Boxes, target: Boxes) -> coo_array:
    """Areas that boxes share: the product of what rows and columns share."""
    low = np.maximum(target.south[:, None], source.south)
    rows = np.where((high := np.minimum(target.north[:, None], source.north)) > low, zone_areas(low, high), 0.0)
    columns = np.zeros((len(target.west), len(source.west)))
    first = 360.0 * np.floor((target.west[:, None] - source.west) / 360.0)
    for turn in (first, first + 360.0):
        west, east = source.west + turn, source.east + turn
        columns += np.maximum(np.minimum(target.east[:, None], east) - np.maximum(target.west[:, None], west), 0.0)
    product = kron(coo_array(rows), coo_array(np.deg2rad(columns)), format="coo")
    return coo_array((product.data, (target.cell[product.coords[0]], source.cell[product.coords[1]])), shape=product.shape)


def _piece_overlaps(subject: Pieces, clipper: Pieces, subject_size: np.ndarray, clipper_size: np.ndarray) -> coo_array:
    """Areas (n_clipper_cells, n_subject_cells) that polygons share with pieces of another grid; given the cells' areas."""
    rows, columns, areas = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for c, s in _candidates(subject, clipper):
        area = _overlaps(subject, clipper, c, s)
        row, column = clipper.owner[c], subject.owner[s]
        kept = np.flatnonzero(area > 0.0)
        rows.append(row[kept])
        columns.append(column[kept])
        areas.append(area[kept])
    shape = (len(clipper_size), len(subject_size))
    return coo_array((np.concatenate(areas), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _candidates(subject: Pieces, clipper: Pieces) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (clipper, subject) whose circumscribed circles meet, a bounded number at a time."""
    tree = point_tree(subject.centre)
    largest = subject.radius.max()
    for start in range(0, len(clipper.area), _TARGETS_AT_ONCE):
        part = slice(start, start + _TARGETS_AT_ONCE)
        reach = clipper.radius[part].max() + largest
        near = point_tree(clipper.centre[part]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        c, s = near["i"] + start, near["j"]
        meet = near["v"] <= clipper.radius[c] + subject.radius[s]
        c, s = c[meet], s[meet]
        for first in range(0, len(c), _PAIRS_AT_ONCE):
            piece = slice(first, first + _PAIRS_AT_ONCE)
            yield c[piece], s[piece]


def _overlaps(subject: Pieces, clipper: Pieces, c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Overlap areas (P,) of the pairs: none, or all of one of them, where circles around them settle it, else by clipping."""
    within, apart = _settled(clipper, subject, c, s)
    area = np.where(within, subject.area[s], 0.0)
    unsettled = ~within & ~apart
    smaller = np.flatnonzero(unsettled & (clipper.radius[c] < subject.radius[s]))
    if smaller.size:
        within, apart = _settled(subject, clipper, s[smaller], c[smaller])
        area[smaller] = np.where(within, clipper.area[c[smaller]], 0.0)
        unsettled[smaller] = ~within & ~apart
    rest = np.flatnonzero(unsettled)
    if rest.size:
        c, s = c[rest], s[rest]
        clipped = clip_polygons(subject.polygon[s], clipper.points[c], clipper.normals[c])
        low, high = clipper.low, clipper.high
        area[rest] = polygon_areas(clipped) if low is None or high is None else areas_between(clipped, low[c], high[c])
    return area


def _settled(outer: Pieces, inner: Pieces, o: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether (P,) the circle around the inner piece lies wholly within the outer one, and whether wholly beyond one of its sides."""
    within, apart = _against_parallels(outer, inner, o, i)
    centre, radius = inner.centre[i], inner.radius[i]
    for edge in range(outer.normals.shape[1]):
        distance = np.einsum("pk,pk->p", centre, outer.normals[:, edge][o]) - outer.offsets[:, edge][o]
        within &= distance > radius
        apart |= distance < -radius
    return within, apart


def _against_parallels(outer: Pieces, inner: Pieces, o: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with regard to the parallels alone that bound the outer piece."""
    if outer.low is None or outer.high is None:
        return np.ones(len(o), dtype=bool), np.zeros(len(o), dtype=bool)
    south, north = (latitudes[i] for latitudes in inner.reach)
    low, high = outer.low[o], outer.high[o]
    within = ((south > low) | (low <= -90.0)) & ((north < high) | (high >= 90.0))
    return within, (north < low) | (south > high)
