"""Weight files that other programs read: ESMF's layout (xESMF's ``weights=``, ESMF, NCO) and SCRIP's (CDO's ``remap``).

In ESMF's layout both grids stand in the file too, in the groups ``source`` and ``target``, which those programs pass over; SCRIP's is
written as NetCDF-3, as CDO writes it itself, and holds centres and corners only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
from scipy.sparse import coo_array

from downscale import __version__
from downscale.config.folders import to_disk
from downscale.errors import DownscaleError
from downscale.grid.cells import Edges
from downscale.grid.grid import Grid
from downscale.grid.weight_files import VERSION
from downscale.grid.weights import Norm, Weights

Layout = Literal["esmf", "scrip"]
_CDO_METHODS = {
    "conservative": "Conservative remapping using clipping on sphere",
    "bilinear": "Bilinear remapping",
    "nearest": "Nearest neighbor",
}
_ESMF_METHODS = {"conservative": "Conservative remapping", "bilinear": "Bilinear remapping", "nearest": "Nearest source to destination"}


def write_weights(path: Path, weights: Weights, source: Grid, target: Grid, *, norm: Norm = "fracarea", edges: Edges = "great_circle",
                  layout: Layout = "esmf") -> None:  # fmt: skip
    """Write weights to a NetCDF-4 file under ``PATH.partial``, then rename it. Cells count row by row, from 1, in the grids' order.

    Args:
        path: the file; one that exists is replaced.
        weights, source, target: what is written.
        norm: fracarea: the numbers of a row add up to 1; destarea: to the covered fraction of its cell.
        edges: of the cells, noted in the file.
        layout: esmf (S, row, col ...) or scrip (remap_matrix, src_address, dst_address ...).

    Raises:
        ConfigError: destarea of weights that are not conservative.
        DownscaleError: the file cannot be written; nothing is left.
    """
    links = coo_array(_normalised(weights, norm))
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with netCDF4.Dataset(partial, "w", format="NETCDF4" if layout == "esmf" else "NETCDF3_64BIT_OFFSET") as file:
            file.setncatts(_attributes(weights, norm, edges, layout))
            (_put_esmf if layout == "esmf" else _put_scrip)(file, weights, links, source, target, edges)
            for name, grid in (("source", source), ("target", target)) if layout == "esmf" else ():
                grid.to_coordinates().write(file.createGroup(name))
        to_disk(partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise DownscaleError(f"cannot write the weights: {reason}", where=str(path), hint="check the folder and the free space") from error
    finally:
        partial.unlink(missing_ok=True)


def _normalised(weights: Weights, norm: Norm) -> Any:
    matrix = weights.rows()
    if weights.chosen_norm(norm) == "destarea":
        matrix.data = matrix.data * np.repeat(weights.coverage.ravel(), np.diff(matrix.indptr))
    return matrix


def _attributes(weights: Weights, norm: Norm, edges: Edges, layout: Layout) -> dict[str, Any]:
    names = _ESMF_METHODS if layout == "esmf" else _CDO_METHODS
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "title": "Weights of downscale",
        "conventions": "NCAR-CSM" if layout == "esmf" else "SCRIP",
        "map_method": names[weights.method],
        "normalization": norm,
        "history": f"{now}: written by downscale {__version__}",
        "downscale_weights": np.int32(VERSION),
        "downscale_method": weights.method,
        "downscale_norm": norm,
        "downscale_edges": edges,
        "downscale_engine": weights.engine,
    }


def _put_esmf(file: netCDF4.Dataset, weights: Weights, links: coo_array, source: Grid, target: Grid, edges: Edges) -> None:
    file.createDimension("n_s", links.nnz)
    _put(file, "S", ("n_s",), links.data, {"long_name": "weight of the source cell col in the target cell row"})
    _put(file, "col", ("n_s",), (links.col + 1).astype(np.int32), {"long_name": "source cell, from 1, row by row"})
    _put(file, "row", ("n_s",), (links.row + 1).astype(np.int32), {"long_name": "target cell, from 1, row by row"})
    for end, grid, which in (("a", source, "src"), ("b", target, "dst")):
        file.createDimension(f"n_{end}", grid.lat.size)
        file.createDimension(f"{which}_grid_rank", 2)
        _put(file, f"{which}_grid_dims", (f"{which}_grid_rank",), np.array(grid.shape[::-1], np.int32), {})
        for name, values in (("yc", grid.lat), ("xc", grid.lon)):
            _put(file, f"{name}_{end}", (f"n_{end}",), values.ravel(), {"units": "degrees"})
        if grid.lat_corners is not None and grid.lon_corners is not None:
            file.createDimension(f"nv_{end}", 4)
            for name, values in (("yv", grid.lat_corners), ("xv", grid.lon_corners)):
                _put(file, f"{name}_{end}", (f"n_{end}", f"nv_{end}"), values.reshape(-1, 4), {"units": "degrees"})
        _put(file, f"mask_{end}", (f"n_{end}",), np.ones(grid.lat.size, np.int32), {"units": "unitless"})
        _put(file, f"area_{end}", (f"n_{end}",), _areas(weights, grid, end, edges), {"units": "square radians"})
        _put(file, f"frac_{end}", (f"n_{end}",), _fractions(weights, grid, end, edges), {"units": "unitless"})


def _put_scrip(file: netCDF4.Dataset, weights: Weights, links: coo_array, source: Grid, target: Grid, edges: Edges) -> None:
    for end, grid, which in (("a", source, "src"), ("b", target, "dst")):
        cells = f"{which}_grid_size"
        file.createDimension(cells, grid.lat.size)
        file.createDimension(f"{which}_grid_corners", 4)
        file.createDimension(f"{which}_grid_rank", 2)
        file.setncattr("source_grid" if which == "src" else "dest_grid", "lonlat" if grid.is_latlon else "curvilinear")
        _put(file, f"{which}_grid_dims", (f"{which}_grid_rank",), np.array(grid.shape[::-1], np.int32), {})
        for name, values in (("lat", grid.lat), ("lon", grid.lon)):
            _put(file, f"{which}_grid_center_{name}", (cells,), np.deg2rad(values.ravel()), {"units": "radians"})
        if grid.lat_corners is not None and grid.lon_corners is not None:
            for name, values in (("lat", grid.lat_corners), ("lon", grid.lon_corners)):
                corners = np.deg2rad(values.reshape(-1, 4))
                _put(file, f"{which}_grid_corner_{name}", (cells, f"{which}_grid_corners"), corners, {"units": "radians"})
        _put(file, f"{which}_grid_imask", (cells,), np.ones(grid.lat.size, np.int32), {"units": "unitless"})
        _put(file, f"{which}_grid_area", (cells,), _areas(weights, grid, end, edges), {"units": "square radians"})
        _put(file, f"{which}_grid_frac", (cells,), _fractions(weights, grid, end, edges), {"units": "unitless"})
    file.createDimension("num_links", links.nnz)
    file.createDimension("num_wgts", 1)
    _put(file, "src_address", ("num_links",), (links.col + 1).astype(np.int32), {})
    _put(file, "dst_address", ("num_links",), (links.row + 1).astype(np.int32), {})
    _put(file, "remap_matrix", ("num_links", "num_wgts"), links.data[:, None], {})


def _put(file: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: np.ndarray, attributes: dict[str, str]) -> None:
    kind: Any = "i4" if values.dtype == np.int32 else "f8"
    variable = file.createVariable(name, kind, dims, fill_value=False)  # not compressed: doubles hardly shrink, and it takes longest
    variable.setncatts(attributes)
    variable[:] = values


def _areas(weights: Weights, grid: Grid, end: str, edges: Edges) -> np.ndarray:
    """Areas in steradian: of the target as the weights have them, else of the cells; where corners are unknown 0, as ESMF writes."""
    if end == "b" and weights.method == "conservative":
        covered, total = weights.coverage.ravel(), np.asarray(weights.matrix.sum(axis=1)).ravel()
        known = grid.areas(edges).ravel() if grid.lat_corners is not None else np.zeros(grid.lat.size)
        return np.divide(total, covered, out=known, where=covered > 0.0)
    return grid.areas(edges).ravel() if grid.lat_corners is not None else np.zeros(grid.lat.size)


def _fractions(weights: Weights, grid: Grid, end: str, edges: Edges) -> np.ndarray:
    """Covered fraction of each cell; of the source, how much of it is used."""
    if end == "b":
        return weights.coverage.ravel()
    used = np.asarray(weights.matrix.sum(axis=0)).ravel()
    if weights.method != "conservative" or grid.lat_corners is None:
        return (used > 0.0).astype(np.float64)
    return used / grid.areas(edges).ravel()
