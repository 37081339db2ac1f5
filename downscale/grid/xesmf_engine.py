"""Weights by xESMF, where it and esmpy are installed (conda only), in the form of our own.

Written against the source of xESMF 0.9.2: ``Regridder(ds_in, ds_out, method, periodic=...)`` takes datasets with ``lon``, ``lat`` and,
for conservative methods, the nodes ``lon_b``, ``lat_b`` of one more row and column; its ``weights`` are a sparse matrix of the target's by
the source's cells, both counted row by row.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from downscale.errors import ConfigError, EnvironmentMissingError, InputDataError
from downscale.grid.domain import goes_around
from downscale.grid.grid import Grid
from downscale.grid.nearest import centres_inside
from downscale.grid.polygons import unit_vectors
from downscale.grid.weights import Weights

if TYPE_CHECKING:
    import xarray as xr

METHODS = {"conservative": "conservative", "bilinear": "bilinear", "nearest": "nearest_s2d"}
_APART = 1e-9


def load_xesmf() -> Any:
    """The module xesmf.

    Raises:
        EnvironmentMissingError: it or esmpy cannot be imported.
    """
    try:
        importlib.import_module("netCDF4")  # before esmpy: both bring an HDF5 library, and the other order crashes
        importlib.import_module("esmpy")
        return importlib.import_module("xesmf")
    except ImportError as error:
        raise EnvironmentMissingError(
            f"engine xesmf needs xESMF and esmpy: {str(error).splitlines()[0]}",
            hint="esmpy comes with conda only: conda env create -f environment.yml; or use engine builtin, whose weights are the same",
        ) from error


def has_xesmf() -> bool:
    """Whether xESMF can be imported here."""
    try:
        load_xesmf()
    except EnvironmentMissingError:
        return False
    return True


def xesmf_weights(source: Grid, target: Grid, method: str = "conservative") -> Weights:
    """Weights by ESMF, every edge a great circle; the same object as the built-in engine's.

    Conservative weights come from ESMF normalised by the target's areas: a row adds up to the covered fraction of its cell. They are
    multiplied by those areas. Nearest neighbours are taken inside the source's cells only, as the built-in engine does.

    Raises:
        EnvironmentMissingError: xESMF or esmpy is not installed.
        InputDataError: corners are not known (G08), or neighbouring cells do not share them.
        ConfigError: an unknown method.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}'", hint=f"use one of: {', '.join(METHODS)}")
    xesmf = load_xesmf()
    corners, around = method == "conservative", method != "conservative" and goes_around(source)
    regridder = xesmf.Regridder(_dataset(source, corners), _dataset(target, corners), METHODS[method], periodic=around)
    sparse = regridder.weights.data
    row, column = np.asarray(sparse.coords)
    matrix = csr_array(coo_array((np.asarray(sparse.data, dtype=np.float64), (row, column)), shape=(target.lat.size, source.lat.size)))
    total = np.asarray(matrix.sum(axis=1)).reshape(target.shape)
    if method == "conservative":
        return Weights(_scaled(matrix, target.areas()), source.shape, target.shape, method, total, engine="xesmf")
    mapped = (total > 0.0) & (centres_inside(source, target) if method == "nearest" else True)
    matrix = _scaled(matrix, np.divide(1.0, total, out=np.zeros_like(total), where=mapped))
    return Weights(matrix, source.shape, target.shape, method, mapped.astype(np.float64), engine="xesmf")


def _scaled(matrix: csr_array, factors: np.ndarray) -> csr_array:
    """The matrix with each row multiplied by its target cell's factor, zeros left out."""
    result = matrix.copy()
    result.data = result.data * np.repeat(factors.ravel(), np.diff(result.indptr))
    result.eliminate_zeros()
    return result


def _dataset(grid: Grid, corners: bool) -> xr.Dataset:
    """Centres, and nodes where corners are needed, as xESMF reads them."""
    import xarray as xr

    dataset = xr.Dataset({"lat": (("y", "x"), grid.lat), "lon": (("y", "x"), grid.lon)})
    if corners:
        lat, lon = nodes(grid)
        dataset["lat_b"], dataset["lon_b"] = (("y_b", "x_b"), lat), (("y_b", "x_b"), lon)
    return dataset


def nodes(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (ny + 1, nx + 1) of the points where cells meet.

    Raises:
        InputDataError: corners are not known (G08), or cells do not share theirs.
    """
    lat, lon = grid.corners("xESMF's conservative method")
    towards_x, towards_y = _along(grid, lat, lon)
    shape = grid.shape[0] + 1, grid.shape[1] + 1
    node_lat, node_lon = np.full(shape, np.nan), np.full(shape, np.nan)
    for up, rows in ((1.0, slice(1, None)), (-1.0, slice(0, -1))):
        for right, columns in ((1.0, slice(1, None)), (-1.0, slice(0, -1))):
            which = (right * towards_x + up * towards_y).argmax(axis=-1)[..., None]
            for values, corner in ((node_lat, lat), (node_lon, lon)):
                values[rows, columns] = np.take_along_axis(corner, which, axis=-1)[..., 0]
    _require_shared(grid, node_lat, node_lon)
    return node_lat, node_lon


def _along(grid: Grid, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each corner (ny, nx, 4) lies from its centre along the columns and along the rows, in cells."""
    if min(grid.shape) < 2:
        raise InputDataError("xESMF needs two rows and two columns at least", where=grid.place, hint="use engine builtin")
    if grid.is_latlon:
        steps = _signs(grid.lat[1, 0] - grid.lat[0, 0]), _signs(grid.lon[0, 1] - grid.lon[0, 0])
        offset = lat - grid.lat[..., None], lon - grid.lon[..., None]
        return steps[1] * _unit(offset[1]), steps[0] * _unit(offset[0])
    centre = unit_vectors(grid.lat, grid.lon)
    offset_3d = unit_vectors(lat, lon) - centre[..., None, :]
    parts = []
    for axis in (1, 0):
        step = np.gradient(centre, axis=axis)
        step /= np.linalg.norm(step, axis=-1, keepdims=True) ** 2
        parts.append(np.einsum("yxvk,yxk->yxv", offset_3d, step))
    return parts[0], parts[1]


def _signs(step: float) -> float:
    return float(np.copysign(1.0, step))


def _unit(offset: np.ndarray) -> np.ndarray:
    return offset / np.maximum(np.abs(offset).max(axis=-1, keepdims=True), 1e-300)


def _require_shared(grid: Grid, lat: np.ndarray, lon: np.ndarray) -> None:
    """Nothing when every cell's corners are the four nodes around it."""
    node = unit_vectors(lat, lon)
    around = np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]], axis=2)
    corners = grid.corner_vectors()
    gap = np.linalg.norm(around[..., :, None, :] - corners[..., None, :, :], axis=-1)
    furthest = np.maximum(gap.min(axis=-1), gap.min(axis=-2)).max(axis=-1)
    apart = furthest > _APART
    if apart.any():
        raise InputDataError(
            f"xESMF needs cells that share their corners: {int(apart.sum())} of {apart.size} do not, "
            f"by up to {np.rad2deg(furthest.max()):.2g} degree",
            where=grid.place,
            hint="use engine builtin, which takes each cell by its own corners",
        )
