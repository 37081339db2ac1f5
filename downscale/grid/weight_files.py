"""Weights from files: ESMF's layout, xESMF's ``to_netcdf``, and the SCRIP layout of CDO; and the grids of our own files.

What such a file says is not believed but compared: the sizes with the two grids, its coordinates where it has any (cells in another
order are matched by their places), and where it has none, that each target cell takes its value from where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
from scipy.sparse import coo_array, csr_array

from downscale.coordinates import Coordinates
from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.grid.cells import Edges
from downscale.grid.grid import Grid
from downscale.grid.weights import Norm

VERSION = 1
"""Of our own additions (groups ``source`` and ``target`` with the grids), in the attribute ``downscale_weights``."""
_MOST_LINKS = 2**31 - 1
_SUM = 1e-6


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """What a weight file says.

    Attributes:
        path: of the file.
        row, column, value: (links,) target and source cell, from 0, and weight as stored.
        sizes: numbers of (source, target) cells; None where the file does not say.
        source_centres, target_centres: latitude and longitude (cells,) in degrees, or None.
        fraction: (target cells,) covered fraction, or None.
        target_area: (target cells,) in steradian, or None.
        norm: fracarea or destarea where the file says so, else None.
        method: conservative, bilinear or nearest where the file says so, else None.
        engine: what made them, in words.
        edges: great_circle, or parallels: CDO's, and our own where they were made so.
    """

    path: Path
    row: np.ndarray
    column: np.ndarray
    value: np.ndarray
    sizes: tuple[int, int] | None
    source_centres: tuple[np.ndarray, np.ndarray] | None
    target_centres: tuple[np.ndarray, np.ndarray] | None
    fraction: np.ndarray | None
    target_area: np.ndarray | None
    norm: Norm | None
    method: str | None
    engine: str
    edges: Edges = "great_circle"

    def matrix(self, source: Grid, target: Grid) -> csr_array:
        """The stored numbers as (n_target, n_source).

        Raises:
            InputDataError: the file is for grids of other sizes.
        """
        wanted = source.lat.size, target.lat.size
        largest = int(self.column.max(initial=-1)) + 1, int(self.row.max(initial=-1)) + 1
        found = self.sizes or tuple(max(pair) for pair in zip(largest, wanted, strict=True))
        if found != wanted:
            raise InputDataError(
                f"the weights go from {found[0]} to {found[1]} cells, the grids have {wanted[0]} and {wanted[1]}",
                where=f"{self.path} | from: {source.summary} | to: {target.summary}",
                hint="use weights that were made for these two grids, or engine: builtin",
            )
        return csr_array(coo_array((self.value, (self.row, self.column)), shape=(wanted[1], wanted[0])))


def read_stored(path: Path) -> StoredWeights:
    """The numbers of a weight file in any of the three layouts.

    Raises:
        InputDataError: it cannot be read, is no weight file, is of second order, or its addresses or numbers make no sense.
        EnvironmentMissingError: it was written by a newer version.
    """
    try:
        with netCDF4.Dataset(path) as file:
            file.set_auto_mask(False)
            require_version(file, path)
            if {"S", "row", "col"} <= set(file.variables):
                return _checked(_esmf(file, path))
            if {"remap_matrix", "src_address", "dst_address"} <= set(file.variables):
                return _checked(_scrip(file, path))
    except (OSError, RuntimeError, IndexError, MemoryError) as error:
        raise InputDataError(f"the weight file cannot be read: {str(error).splitlines()[0]}", where=str(path)) from error
    raise InputDataError(
        "this is not a weight file: it has neither S, row and col (ESMF, xESMF) nor remap_matrix, src_address and dst_address (SCRIP, CDO)",
        where=str(path),
        hint="make one with: downscale weights SOURCE.nc TARGET.nc -o WEIGHTS.nc",
    )


def stored_grid(path: Path, which: Literal["source", "target"]) -> Grid | None:
    """Source or target grid of a file that `downscale weights` wrote; None for other files.

    Raises:
        InputDataError: it cannot be read.
    """
    try:
        with netCDF4.Dataset(path) as file:
            if which not in file.groups or "downscale_weights" not in file.ncattrs():
                return None
            require_version(file, path)
            return Grid.from_dataset(Coordinates.read(file[which]))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputDataError(f"the grid in the weight file cannot be read: {str(error).splitlines()[0]}", where=str(path)) from error


def require_version(file: netCDF4.Dataset, path: Path) -> None:
    """Nothing when this version can read the file; else EnvironmentMissingError."""
    version = int(getattr(file, "downscale_weights", VERSION))
    if version > VERSION:
        raise EnvironmentMissingError(
            f"the weights were written by a newer downscale (form {version}, this one knows {VERSION})",
            where=str(path),
            hint="update downscale, or make the weights again",
        )


def _esmf(file: netCDF4.Dataset, path: Path) -> StoredWeights:
    row, column, value = (np.asarray(file[name][:]) for name in ("row", "col", "S"))
    known = ~np.isnan(value.astype(np.float64))  # xESMF writes NaN where its unmapped_to_nan was set
    sizes = tuple(len(file.dimensions[name]) for name in ("n_a", "n_b")) if {"n_a", "n_b"} <= set(file.dimensions) else None
    centres = [_degrees(file, f"yc_{end}", f"xc_{end}") for end in "ab"]
    words = " ".join(str(getattr(file, name, "")) for name in ("map_method", "ESMF_regrid_method")).lower()
    method = str(getattr(file, "downscale_method", "")) or _method(words)
    engine = str(getattr(file, "downscale_engine", "")) or ("file: ESMF layout" if sizes else "file: xESMF layout")
    return StoredWeights(
        path, row[known] - 1, column[known] - 1, value[known].astype(np.float64), sizes, centres[0], centres[1],  # type: ignore[arg-type]
        _fraction(file, "frac_b"), _areas(file, "area_b"), _norm(file), method, engine, _edges(file, "great_circle"),
    )  # fmt: skip


def _scrip(file: netCDF4.Dataset, path: Path) -> StoredWeights:
    value = np.asarray(file["remap_matrix"][:], dtype=np.float64)
    words = str(getattr(file, "map_method", "")).lower()
    if value.ndim == 2 and value.shape[1] != 1:
        raise InputDataError(
            f"the weights have {value.shape[1]} numbers a link ({words or 'no map_method'}): only first-order methods are understood",
            where=str(path),
            hint="make them with cdo gencon, genbil or gennn",
        )
    sizes = len(file.dimensions["src_grid_size"]), len(file.dimensions["dst_grid_size"])
    source, target = (_degrees(file, f"{end}_grid_center_lat", f"{end}_grid_center_lon") for end in ("src", "dst"))
    row, column = (np.asarray(file[name][:]) - 1 for name in ("dst_address", "src_address"))
    made_by = f"file: {str(getattr(file, 'CDO', 'SCRIP layout')).split(' (')[0]}"
    engine = str(getattr(file, "downscale_engine", made_by))
    fraction, area = _fraction(file, "dst_grid_frac"), _areas(file, "dst_grid_area")
    edges = _edges(file, "parallels" if hasattr(file, "CDO") else "great_circle")
    return StoredWeights(
        path, row, column, value.reshape(-1), sizes, source, target, fraction, area, _norm(file), _method(words), engine, edges
    )  # fmt: skip


def _checked(stored: StoredWeights) -> StoredWeights:
    problem = ""
    if not len(stored.value) == len(stored.row) == len(stored.column) <= _MOST_LINKS:
        problem = "weights and addresses differ in number"
    elif not len(stored.value):
        problem = "there is no weight in it"
    elif min(stored.row.min(), stored.column.min()) < 0 or (
        stored.sizes and (stored.column.max() >= stored.sizes[0] or stored.row.max() >= stored.sizes[1])
    ):
        problem = "addresses lie outside the grids"
    elif not np.isfinite(stored.value).all() or (stored.method == "conservative" and stored.value.min() < -_SUM):
        problem = "weights are missing, infinite or negative"
    if problem:
        raise InputDataError(f"the weight file is damaged: {problem}", where=str(stored.path), hint="make the weights again")
    return stored


def _degrees(file: netCDF4.Dataset, lat_name: str, lon_name: str) -> tuple[np.ndarray, np.ndarray] | None:
    if lat_name not in file.variables or lon_name not in file.variables:
        return None
    values = []
    for name in (lat_name, lon_name):
        degrees = np.asarray(file[name][:], dtype=np.float64).ravel()
        values.append(np.rad2deg(degrees) if str(getattr(file[name], "units", "")).lower().startswith("rad") else degrees)
    return values[0], values[1]


def _optional(file: netCDF4.Dataset, name: str) -> np.ndarray | None:
    if name not in file.variables:
        return None
    values = np.asarray(file[name][:], dtype=np.float64).ravel()
    return values if np.isfinite(values).all() and values.any() else None


def _fraction(file: netCDF4.Dataset, name: str) -> np.ndarray | None:
    """Covered fractions, where they say something: CDO writes 1 for every cell that is touched when it normalises by them."""
    values = _optional(file, name)
    if values is None or "downscale_weights" in file.ncattrs():
        return values
    return values if (np.abs(values[values > 0.0] - 1.0) > _SUM).any() else None


def _areas(file: netCDF4.Dataset, name: str) -> np.ndarray | None:
    values = _optional(file, name)
    return values if values is not None and (values > 0.0).all() and values.sum() <= 4.0 * np.pi * 1.001 else None


def _norm(file: netCDF4.Dataset) -> Norm | None:
    said = str(getattr(file, "downscale_norm", "") or getattr(file, "normalization", "")).strip().lower()
    return "fracarea" if said == "fracarea" else "destarea" if said == "destarea" else None


def _edges(file: netCDF4.Dataset, usual: Edges) -> Edges:
    said = str(getattr(file, "downscale_edges", usual))
    return "parallels" if said == "parallels" else "great_circle"


def _method(words: str) -> str | None:
    for sign, method in (("conserv", "conservative"), ("bilinear", "bilinear"), ("nearest", "nearest")):
        if sign in words:
            return method
    return None
