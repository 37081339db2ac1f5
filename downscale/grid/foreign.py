"""Weights of a file brought to two given grids: put into the grids' order of cells, and made into overlap areas."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from downscale.errors import InputDataError
from downscale.grid.cells import Edges
from downscale.grid.grid import Grid
from downscale.grid.nearest import centres_inside
from downscale.grid.polygons import degrees_apart, point_tree, unit_vectors
from downscale.grid.weight_files import StoredWeights, read_stored
from downscale.grid.weights import Weights

log = logging.getLogger(__name__)
_SAME_DEG = 1e-4
_SUM = 1e-6
_ALMOST_ALL = 0.99
_FULL = 1.0 + 1e-4
_NEIGHBOURS = (
    ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
)
Coverage = Callable[[Edges], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Order:
    """Cells of a grid in the order of a file: ``place[i]`` is the grid's cell that the file's cell i is."""

    place: np.ndarray
    words: str


def file_weights(path: Path, source: Grid, target: Grid, *, method: str = "conservative", coverage: Coverage) -> Weights:
    """Weights from a file of ESMF, xESMF or CDO, or of our own, for two grids.

    Args:
        path: the file.
        source, target: the grids as they are used here.
        method: taken where the file does not say what it holds.
        coverage: gives the covered fraction (Ny, Nx) of the target cells by geometry, for the file's kind of edges; called only where
            the file does not tell it.

    Raises:
        InputDataError: no weight file, other sizes, other places, or another method than is asked for.
        EnvironmentMissingError: written by a newer version.
    """
    stored = read_stored(path)
    if stored.method not in (None, method):
        raise InputDataError(
            f"the file holds {stored.method} weights, and {method} ones are asked for", where=str(path), hint=f"ask for {stored.method}"
        )
    matrix = stored.matrix(source, target)
    source_order = _order(stored.source_centres, source, f"{path}, source grid")
    target_order = _order(stored.target_centres, target, f"{path}, target grid")
    if source_order is None or target_order is None:
        source_order, target_order = _by_place(matrix, source, target, source_order, target_order, path)
    for order in (source_order, target_order):
        if order.words:
            log.info("%s: %s", path, order.words)
    return _as_weights(stored, _ordered(matrix, source_order, target_order), target_order, source, target, method, coverage)


def _order(centres: tuple[np.ndarray, np.ndarray] | None, grid: Grid, where: str) -> _Order | None:
    """The order of the file's cells, by their centres; None where the file has none."""
    if centres is None:
        return None
    theirs, ours = unit_vectors(*centres), unit_vectors(grid.lat, grid.lon).reshape(-1, 3)
    slack = np.deg2rad(_SAME_DEG)
    for words, place in _flips(grid).items():
        if np.linalg.norm(theirs - ours[place], axis=1).max() <= slack:
            return _Order(place, words)
    distance, place = point_tree(ours).query(theirs)
    if distance.max() > slack or len(np.unique(place)) != len(place):
        raise InputDataError(
            f"the weights were made for another grid: cell centres lie up to {np.rad2deg(distance.max()):.3g} degree apart",
            where=f"{where} | here: {grid.place}",
            hint="use weights that were made for this grid, or engine: builtin",
        )
    return _Order(place, "cells in another order in the file, matched by their places")


def _flips(grid: Grid) -> dict[str, np.ndarray]:
    cells = np.arange(grid.lat.size).reshape(grid.shape)
    return {"": cells.ravel(), "rows upside down in the file": cells[::-1].ravel()}


def _by_place(
    matrix: csr_array, source: Grid, target: Grid, source_order: _Order | None, target_order: _Order | None, path: Path
) -> tuple[_Order, _Order]:
    """Orders in which each target cell takes its value from where it lies; rows upside down are tried too."""
    sources = [source_order] if source_order else [_Order(place, words) for words, place in _flips(source).items()]
    targets = [target_order] if target_order else [_Order(place, words) for words, place in _flips(target).items()]
    shares = []
    for one, other in product(sources, targets):
        share = _share_in_place(_ordered(matrix, one, other), source, target)
        if share >= _ALMOST_ALL:
            turned = [
                f"{end}: {order.words}" for end, order in (("source", one), ("target", other)) if order.words not in ("", "as they are")
            ]
            return _Order(one.place, "; ".join(turned)), _Order(other.place, "")
        shares.append(share)
    raise InputDataError(
        f"the weights were made for other grids: {1.0 - max(shares):.0%} of the target cells would take their values from elsewhere",
        where=f"{path} | from: {source.summary} | to: {target.summary}",
        hint="use weights that were made for these grids in this order of rows and columns, or engine: builtin",
    )


def _share_in_place(matrix: csr_array, source: Grid, target: Grid) -> float:
    """Share of the mapped target cells whose sources' mean place is not farther from them than a cell of either grid."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    mapped = total > 0.0
    mean = (matrix @ unit_vectors(source.lat, source.lon).reshape(-1, 3))[mapped] / total[mapped, None]
    apart = np.linalg.norm(mean - unit_vectors(target.lat, target.lon).reshape(-1, 3)[mapped], axis=1)
    reach = _cell_size(source) + _cell_size(target)
    return float(np.mean(apart <= np.deg2rad(reach))) if mapped.any() else 0.0


def _cell_size(grid: Grid) -> float:
    """The larger of the median distances in degrees between neighbours along rows and along columns."""
    rows, columns = (degrees_apart(grid.lat[a], grid.lon[a], grid.lat[b], grid.lon[b]) for a, b in _NEIGHBOURS)
    return max((float(np.median(distance)) for distance in (rows, columns) if distance.size), default=180.0)


def _ordered(matrix: csr_array, source: _Order, target: _Order) -> csr_array:
    back = [np.argsort(order.place) for order in (target, source)]
    return csr_array(matrix[back[0]][:, back[1]])


def _as_weights(
    stored: StoredWeights, matrix: csr_array, order: _Order, source: Grid, target: Grid, method: str, coverage: Coverage
) -> Weights:
    total = np.asarray(matrix.sum(axis=1)).ravel()
    if method != "conservative":
        mapped = total > _SUM
        if method == "nearest":
            mapped &= centres_inside(source, target).ravel()
        factor, covered, norm = np.divide(1.0, total, out=np.zeros_like(total), where=mapped), mapped.astype(np.float64), None
    else:
        covered = _covered(stored, total, order, target, coverage)
        areas = target.areas(stored.edges).ravel() if stored.target_area is None else stored.target_area[np.argsort(order.place)]
        factor, norm = np.divide(covered * areas, total, out=np.zeros_like(total), where=total > 0.0), stored.norm
    scaled = matrix.copy()
    scaled.data = scaled.data * np.repeat(factor, np.diff(scaled.indptr))
    scaled.eliminate_zeros()
    return Weights(scaled, source.shape, target.shape, method, covered.reshape(target.shape), norm or "fracarea", stored.engine)


def _covered(stored: StoredWeights, total: np.ndarray, order: _Order, target: Grid, coverage: Coverage) -> np.ndarray:
    """Covered fraction of each target cell: as stated, else as the rows add up, else by geometry; 0 where nothing maps."""
    if stored.fraction is not None:
        covered = stored.fraction[np.argsort(order.place)]
    elif stored.norm == "destarea" or (np.abs(total[total > 0.0] - 1.0) > _SUM).any():
        covered = total
    elif target.lat_corners is None and (total > 0.0).all():
        covered = np.ones(len(total))
        log.warning("%s does not say how far cells are covered, and corners are unknown: taken as wholly covered", stored.path)
    else:
        covered = coverage(stored.edges).ravel()
        log.info("%s does not say how far cells are covered: taken from the grids", stored.path)
    covered = np.where(total > 0.0, covered, 0.0)
    if covered.max() > _FULL or covered.min() < 0.0:
        raise InputDataError(
            f"the weights say that {covered.max():.6g} of a target cell is covered", where=str(stored.path), hint="make the weights again"
        )
    return covered
