"""Regions besides the whole domain: a box, or the cells that a file marks; each as area weights on the fine grid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from downscale.errors import InputDataError
from downscale.grid.grid import Grid
from downscale.grid.polygons import unit_vectors

WHOLE = {"%": 100.0}
"""What a fully marked cell has, by unit; 1 without one."""
NEAR = 0.1
"""Centres closer than this share of the distance between neighbours are those of the same cell."""


def region_areas(regions: Mapping[str, Mapping[str, Any]], grid: Grid, area: np.ndarray) -> dict[str, np.ndarray]:
    """Area weights (y, x) of each region, zero outside.

    Args:
        regions: name -> ``lon`` and ``lat``, two bounds each in degrees (the box may cross the date line), or ``mask`` and ``variable``:
            a NetCDF file whose cells belong to the region where the variable is at least one half (50 where its unit is %).
        grid: the fine grid.
        area: (y, x) cell areas.

    Raises:
        InputDataError: a region without a cell; a mask that cannot be read or lies on other cells.
    """
    result = {}
    for name, region in regions.items():
        inside = (
            in_box(grid, region["lon"], region["lat"]) if region.get("lon") else in_mask(Path(region["mask"]), region["variable"], grid)
        )
        result[name] = np.where(inside, area, 0.0)
        if not (result[name] > 0).any():
            raise InputDataError(
                f"the region '{name}' holds no cell of the domain",
                where=f"evaluate.regions.{name}: {grid.summary}",
                hint="mend its bounds or its mask, or remove it",
            )
    return result


def in_box(grid: Grid, lon: Sequence[float], lat: Sequence[float]) -> np.ndarray:
    """(y, x) True for cells whose centre is between the bounds, eastward from the first longitude to the second."""
    width = lon[1] - lon[0]
    around = np.mod(grid.lon - lon[0], 360.0) <= (np.mod(width, 360.0) if abs(width) < 360.0 else 360.0)
    return np.asarray(around & (grid.lat >= lat[0]) & (grid.lat <= lat[1]))


def in_mask(path: Path, variable: str, grid: Grid) -> np.ndarray:
    """(y, x) True where a file marks the cell; its grid may be larger than ours, but its cells must be ours."""
    values, lat, lon = _read_mask(path, variable)
    ours, theirs = unit_vectors(grid.lat.ravel(), grid.lon.ravel()), unit_vectors(lat.ravel(), lon.ravel())
    spacing = np.median(cKDTree(ours).query(ours, k=2)[0][:, 1]) if len(ours) > 1 else 1.0
    distance, place = cKDTree(theirs).query(ours)
    foreign = int((distance > NEAR * spacing).sum())
    if foreign:
        raise InputDataError(
            f"the mask lacks {foreign} of the {len(ours)} cells of the domain",
            where=f"{path}: {grid.summary}",
            hint="bring it to the grid of the targets: downscale weights, then downscale regrid with --method nearest",
        )
    return np.asarray((values.ravel()[place] >= 0.5).reshape(grid.shape))


def _read_mask(path: Path, variable: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mask (y, x) as shares, and the latitudes and longitudes of its cells."""
    try:
        with xr.open_dataset(path, decode_times=False, engine="netcdf4") as dataset:
            field = dataset[variable].squeeze(drop=True).load()
            lat, lon = (_coordinate(dataset, *names) for names in (("lat", "latitude"), ("lon", "longitude")))
    except (OSError, ValueError, KeyError) as error:
        raise InputDataError(
            f"cannot read a region's mask: {str(error).splitlines()[0]}", where=str(path), hint="give the NetCDF file and its variable"
        ) from None
    if lat.ndim == 1:
        lat, lon = np.broadcast_arrays(lat[:, None], lon[None, :])
    if field.shape != lat.shape:
        raise InputDataError(
            f"the mask {variable} has the shape {field.shape}, its coordinates {lat.shape}",
            where=str(path),
            hint="give a mask (lat, lon) or (y, x) with lat and lon",
        )
    return np.asarray(field.values, dtype=np.float64) / WHOLE.get(str(field.attrs.get("units", "1")), 1.0), lat, lon


def _coordinate(dataset: xr.Dataset, *names: str) -> np.ndarray:
    return np.asarray(dataset[next((name for name in names if name in dataset.variables), names[0])].values, dtype=np.float64)


def masks_digest(regions: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """SHA-256 of the mask files by region: what the recipe of an evaluation compares."""
    masks = {name: Path(region["mask"]) for name, region in regions.items() if region.get("mask")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing" for name, path in masks.items()}
