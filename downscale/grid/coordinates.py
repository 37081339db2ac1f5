"""A grid's parts read from a coordinates Dataset and written to one, bit for bit.

Layouts: ``lat(lat), lon(lon)`` with optional ``lat_bnds, lon_bnds`` (n, 2); or dims (y, x) with 2-D ``lat, lon``, optional
``lat_vertices, lon_vertices`` (ny, nx, 4), the projected axes as 1-D variables named like the dims, and a grid-mapping variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from downscale.coordinates import Coordinate, Coordinates
from downscale.errors import InputDataError
from downscale.grid import corners as corner
from downscale.grid.axes import LAT, LON, Axes, lonlat_axes
from downscale.grid.projection import Crs, plain_crs, require_one_unit
from downscale.grid.reconcile import axes_behind, centres, reconcile

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Axes", "Parts", "lonlat_axes", "read_parts", "write_parts"]
_KEPT = ("standard_name", "long_name", "units", "axis")


@dataclass(frozen=True, eq=False)
class Parts:
    """What a grid is made of; see Grid."""

    lat: np.ndarray
    lon: np.ndarray
    lat_corners: np.ndarray | None
    lon_corners: np.ndarray | None
    axes: Axes | None
    crs: Crs | None
    notes: tuple[str, ...] = ()
    corner_fault: str = ""


def read_parts(dataset: Coordinates | xr.Dataset) -> Parts:
    """The parts of the grid a coordinates Dataset describes.

    Bounds and vertices that make no sense leave the corners unknown, and ``corner_fault`` says why (G08).

    Raises:
        InputDataError: there is neither lat/lon nor projected axes with a grid mapping, or they describe different places (G07).
    """
    if "lat" in dataset and dataset["lat"].ndim == 1:
        return _read_lonlat(dataset)
    axes, crs = _read_axes(dataset), _read_crs(dataset)
    if axes is not None and crs is not None:
        require_one_unit(crs, axes.y_attrs.get("units", ""), axes.units)
    notes: list[str] = []
    own = "lat" in dataset and "lon" in dataset
    if own:
        lat, lon = _floats(dataset["lat"]), _floats(dataset["lon"])
        if axes is not None and crs is not None:
            places = reconcile(lat, lon, axes, crs)
            lat, lon, crs, own = places.lat, places.lon, places.crs, places.own
            notes += places.notes
        elif crs is not None:
            axes, crs = _axes_from_mapping(lat, lon, crs, notes)
    elif axes is not None and crs is not None:
        lat, lon = centres(crs, axes)
        notes.append(f"2-D lat/lon computed from the axes {axes.words} and the grid mapping")
    else:
        raise InputDataError(
            "the grid has no latitude and longitude",
            where=f"variables: {', '.join(map(str, dataset.variables))}",
            hint="give 2-D lat/lon, or projected axes with a CF grid mapping",
        )
    found, fault = _curvilinear_corners(dataset if own else None, (lat, lon), axes, crs, notes)
    lat_corners, lon_corners = found or (None, None)
    return Parts(lat, lon, lat_corners, lon_corners, axes, crs, tuple(notes), fault)


def write_parts(parts: Parts) -> Coordinates:
    """A CF Dataset from which `read_parts` gives the same parts back, through NetCDF too."""
    bounded = _is_lonlat(parts) and parts.lat_corners is not None
    return _write_lonlat(parts) if bounded else _write_curvilinear(parts)


def _is_lonlat(parts: Parts) -> bool:
    return parts.axes is not None and (parts.axes.y_name, parts.axes.x_name) == ("lat", "lon")


def _read_lonlat(dataset: Coordinates | xr.Dataset) -> Parts:
    lat, lon = _floats(dataset["lat"]), _floats(dataset["lon"])
    axes = Axes("lat", lat, "lon", lon, _attributes(dataset["lat"]), _attributes(dataset["lon"]))
    corners: corner.Corners | None = None
    notes, fault = [], ""
    if "lat_bnds" in dataset and "lon_bnds" in dataset:
        try:
            corners = corner.from_bounds(lat, lon, _floats(dataset["lat_bnds"]), _floats(dataset["lon_bnds"]))
        except InputDataError as error:
            fault = error.message
            notes.append(f"{fault}: cell corners are unknown, no conservative remapping")
    else:
        corners = corner.from_lonlat_axes(lat, lon)
        notes.append("no bounds: cell edges taken half-way between lat and lon values")
    lon_2d, lat_2d = np.meshgrid(lon, lat)
    lat_corners, lon_corners = corners or (None, None)
    return Parts(lat_2d, lon_2d, lat_corners, lon_corners, axes, None, tuple(notes), fault)


def _read_axes(dataset: Coordinates | xr.Dataset) -> Axes | None:
    """The 1-D axes named like the dims of lat, or found by their standard names."""
    if "lat" in dataset:
        names = [str(dim) for dim in dataset["lat"].dims]
    else:
        found = {dataset[name].attrs.get("standard_name"): str(name) for name in map(str, dataset.variables) if dataset[name].ndim == 1}
        y_name = found.get("grid_latitude", found.get("projection_y_coordinate"))
        x_name = found.get("grid_longitude", found.get("projection_x_coordinate"))
        names = [name for name in (y_name, x_name) if name is not None]
    if len(names) != 2 or not all(name in dataset.variables and dataset[name].ndim == 1 for name in names):
        return None
    y, x = dataset[names[0]], dataset[names[1]]
    return Axes(names[0], _floats(y), names[1], _floats(x), _attributes(y), _attributes(x))


def _read_crs(dataset: Coordinates | xr.Dataset) -> Crs | None:
    for name in map(str, dataset.variables):
        if "grid_mapping_name" in dataset[name].attrs:
            return plain_crs(dataset[name].attrs)
    return None


def _axes_from_mapping(lat: np.ndarray, lon: np.ndarray, crs: Crs, notes: list[str]) -> tuple[Axes | None, Crs | None]:
    """Axes of a grid that comes with 2-D lat/lon and a grid mapping only; neither where the two do not fit."""
    axes = axes_behind(lat, lon, crs)
    if axes is None:
        notes.append("2-D lat/lon are no rows and columns of the grid mapping: 2-D lat/lon are trusted, the mapping is not used")
        return None, None
    notes.append(f"axes {axes.words} computed from 2-D lat/lon and the grid mapping")
    return axes, crs


def _curvilinear_corners(
    dataset: Coordinates | xr.Dataset | None, centre: corner.Corners, axes: Axes | None, crs: Crs | None, notes: list[str]
) -> tuple[corner.Corners | None, str]:
    """Corners from the vertices in the dataset, else from the projected axes, else none; and what is wrong with the vertices."""
    found: corner.Corners | None = None
    fault = ""
    if dataset is not None and "lat_vertices" in dataset and "lon_vertices" in dataset:
        try:
            found, reordered = corner.ordered(np.asarray(dataset["lat_vertices"].values), np.asarray(dataset["lon_vertices"].values))
            corner.require_enclosed(found, centre)
        except InputDataError as error:
            found, fault = None, error.message
            notes.append(f"{fault}: cell corners are unknown, no conservative remapping")
        else:
            notes += [f"vertices of {reordered} cells reordered to counter-clockwise"] if reordered else []
    elif axes is not None and crs is not None:
        found = corner.from_projected_axes(crs, axes.y, axes.x, axes.units)
    else:
        notes.append("no vertices, and no projected axes with a grid mapping: cell corners are unknown, no conservative remapping")
    if found is None:
        return None, fault
    return (found[0], corner.nearest_turn(found[1], centre[1][..., None])), ""


def _write_lonlat(parts: Parts) -> Coordinates:
    axes, lat_corners, lon_corners = parts.axes, parts.lat_corners, parts.lon_corners
    assert axes is not None and lat_corners is not None and lon_corners is not None
    bounds = {"lat_bnds": (("lat", "bnds"), lat_corners[:, 0, [0, 2]]), "lon_bnds": (("lon", "bnds"), lon_corners[0, :, [0, 1]].T)}
    lat, lon = (axes.y, {**axes.y_attrs, "bounds": "lat_bnds"}), (axes.x, {**axes.x_attrs, "bounds": "lon_bnds"})
    coords = {"lat": ("lat", *lat), "lon": ("lon", *lon)}
    return Coordinates.of({**coords, **bounds})


def _write_curvilinear(parts: Parts) -> Coordinates:
    dims = (parts.axes.y_name, parts.axes.x_name) if parts.axes is not None else ("y", "x")
    coords: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    if parts.axes is not None:
        coords[dims[0]] = (dims[0], parts.axes.y, parts.axes.y_attrs)
        coords[dims[1]] = (dims[1], parts.axes.x, parts.axes.x_attrs)
    if not _is_lonlat(parts):
        extra = ({}, {}) if parts.lat_corners is None else ({"bounds": "lat_vertices"}, {"bounds": "lon_vertices"})
        coords["lat"] = (dims, parts.lat, {**LAT, **extra[0]})
        coords["lon"] = (dims, parts.lon, {**LON, **extra[1]})
        if parts.lat_corners is not None:
            variables["lat_vertices"] = ((*dims, "vertices"), parts.lat_corners)
            variables["lon_vertices"] = ((*dims, "vertices"), parts.lon_corners)
    if parts.crs is not None:
        variables["crs"] = ((), np.int32(0), parts.crs)
    return Coordinates.of({**coords, **variables})


def _floats(variable: Coordinate | xr.DataArray) -> np.ndarray:
    values = np.asarray(variable.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputDataError(f"'{variable.name}' holds missing values", hint="coordinates must be complete")
    return values


def _attributes(variable: Coordinate | xr.DataArray) -> dict[str, str]:
    return {key: str(variable.attrs[key]) for key in _KEPT if key in variable.attrs}
