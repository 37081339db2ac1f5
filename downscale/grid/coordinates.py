"""A grid's parts read from a coordinates Dataset and written to one, bit for bit.

Layouts: ``lat(lat), lon(lon)`` with optional ``lat_bnds, lon_bnds`` (n, 2); or dims (y, x) with 2-D ``lat, lon``, optional
``lat_vertices, lon_vertices`` (ny, nx, 4), the projected axes as 1-D variables named like the dims, and a grid-mapping variable.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from downscale.errors import InputDataError
from downscale.grid import corners as corner
from downscale.grid.polygons import unit_vectors
from downscale.grid.projection import SPHERES, Crs, figure_unstated, plain_crs, to_lonlat

log = logging.getLogger(__name__)
SAME_PLACE = 0.02
_KEPT = ("standard_name", "long_name", "units", "axis")
_LAT = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
_LON = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}


@dataclass(frozen=True, eq=False)
class Axes:
    """The two 1-D axes of a grid: their names, values (ny,) and (nx,), and CF attributes."""

    y_name: str
    y: np.ndarray
    x_name: str
    x: np.ndarray
    y_attrs: dict[str, str] = field(default_factory=dict)
    x_attrs: dict[str, str] = field(default_factory=dict)

    @property
    def units(self) -> str:
        """Units of the x axis; both axes share them."""
        return self.x_attrs.get("units", "")

    def crop(self, y: slice, x: slice | np.ndarray) -> Axes:
        """The axes of a part of the grid."""
        return Axes(self.y_name, self.y[y], self.x_name, self.x[x], self.y_attrs, self.x_attrs)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a grid is made of; see Grid."""

    lat: np.ndarray
    lon: np.ndarray
    lat_corners: np.ndarray | None
    lon_corners: np.ndarray | None
    axes: Axes | None
    crs: Crs | None


def lonlat_axes(lat: np.ndarray, lon: np.ndarray) -> Axes:
    """Axes of a longitude-latitude grid with their CF attributes."""
    return Axes("lat", lat, "lon", lon, {**_LAT, "axis": "Y"}, {**_LON, "axis": "X"})


def degrees_apart(lat_a: np.ndarray, lon_a: np.ndarray, lat_b: np.ndarray, lon_b: np.ndarray) -> np.ndarray:
    """Great-circle distance in degrees between points; longitudes count modulo 360."""
    chord = np.linalg.norm(unit_vectors(lat_a, lon_a) - unit_vectors(lat_b, lon_b), axis=-1)
    return np.rad2deg(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)))


def read_parts(dataset: xr.Dataset) -> Parts:
    """The parts of the grid a coordinates Dataset describes.

    Raises:
        InputDataError: there is neither lat/lon nor projected axes with a grid mapping, they describe different places (G07),
            or bounds and vertices make no sense (G08).
    """
    if "lat" in dataset and dataset["lat"].ndim == 1:
        return _read_lonlat(dataset)
    axes, crs = _read_axes(dataset), _read_crs(dataset)
    if "lat" in dataset and "lon" in dataset:
        lat, lon = _floats(dataset["lat"]), _floats(dataset["lon"])
        trusted = True
        if axes is not None and crs is not None:
            lat, lon, crs, trusted = _reconcile(lat, lon, axes, crs)
    elif axes is not None and crs is not None:
        x_2d, y_2d = np.meshgrid(axes.x, axes.y)
        lon, lat = to_lonlat(crs, x_2d, y_2d, axes.units)
        trusted = False
        log.info("2-D lat/lon computed from the projected axes %s, %s", axes.y_name, axes.x_name)
    else:
        raise InputDataError(
            "the grid has no latitude and longitude",
            where=f"variables: {', '.join(map(str, dataset.variables))}",
            hint="give 2-D lat/lon, or projected axes with a CF grid mapping",
        )
    lat_corners, lon_corners = _curvilinear_corners(dataset if trusted else None, lon, axes, crs)
    return Parts(lat, lon, lat_corners, lon_corners, axes, crs)


def write_parts(parts: Parts) -> xr.Dataset:
    """A CF Dataset from which `read_parts` gives the same parts back, through NetCDF too."""
    bounded = _is_lonlat(parts) and parts.lat_corners is not None
    dataset = _write_lonlat(parts) if bounded else _write_curvilinear(parts)
    for name in dataset.variables:
        dataset[name].encoding["_FillValue"] = None
    return dataset


def _is_lonlat(parts: Parts) -> bool:
    return parts.axes is not None and (parts.axes.y_name, parts.axes.x_name) == ("lat", "lon")


def _read_lonlat(dataset: xr.Dataset) -> Parts:
    lat, lon = _floats(dataset["lat"]), _floats(dataset["lon"])
    axes = Axes("lat", lat, "lon", lon, _attributes(dataset["lat"]), _attributes(dataset["lon"]))
    corners: corner.Corners | None
    if "lat_bnds" in dataset and "lon_bnds" in dataset:
        corners = corner.from_bounds(lat, lon, _floats(dataset["lat_bnds"]), _floats(dataset["lon_bnds"]))
    else:
        corners = corner.from_lonlat_axes(lat, lon)
        log.info("no bounds in the file: cell edges taken half-way between lat and lon values")
    lon_2d, lat_2d = np.meshgrid(lon, lat)
    lat_corners, lon_corners = corners or (None, None)
    return Parts(lat_2d, lon_2d, lat_corners, lon_corners, axes, None)


def _read_axes(dataset: xr.Dataset) -> Axes | None:
    """The 1-D axes named like the dims of lat, or found by their standard names."""
    if "lat" in dataset:
        names = [str(dim) for dim in dataset["lat"].dims]
    else:
        found = {dataset[name].attrs.get("standard_name"): str(name) for name in dataset.variables if dataset[name].ndim == 1}
        y_name = found.get("grid_latitude", found.get("projection_y_coordinate"))
        x_name = found.get("grid_longitude", found.get("projection_x_coordinate"))
        names = [name for name in (y_name, x_name) if name is not None]
    if len(names) != 2 or not all(name in dataset.variables and dataset[name].ndim == 1 for name in names):
        return None
    y, x = dataset[names[0]], dataset[names[1]]
    return Axes(names[0], _floats(y), names[1], _floats(x), _attributes(y), _attributes(x))


def _read_crs(dataset: xr.Dataset) -> Crs | None:
    for name in dataset.variables:
        if "grid_mapping_name" in dataset[name].attrs:
            return plain_crs(dataset[name].attrs)
    return None


def _reconcile(lat: np.ndarray, lon: np.ndarray, axes: Axes, crs: Crs) -> tuple[np.ndarray, np.ndarray, Crs, bool]:
    """2-D lat/lon held against the axes: lat, lon, grid mapping, and whether the file's own 2-D values stand.

    A mapping that does not state the figure of the Earth takes the sphere that reproduces the file's lat/lon, where one does.
    """
    spacing = _spacing(lat, lon)
    candidates = [crs, *({**crs, "earth_radius": radius} for radius in SPHERES)] if figure_unstated(crs) else [crs]
    offsets, places = [], []
    x_2d, y_2d = np.meshgrid(axes.x, axes.y)
    for candidate in candidates:
        lon_axes, lat_axes = to_lonlat(candidate, x_2d, y_2d, axes.units)
        offsets.append(float(degrees_apart(lat, lon, lat_axes, lon_axes).max()) / spacing)
        places.append((lat_axes, lon_axes))
    best = int(np.argmin(offsets)) if offsets[0] > SAME_PLACE and min(offsets) <= SAME_PLACE else 0
    crs, offset = candidates[best], offsets[best]
    if best:
        log.info("grid mapping states no figure of the Earth: radius %.0f m reproduces the file's lat/lon", crs["earth_radius"])
    if offset > 1.0:
        raise InputDataError(
            f"2-D lat/lon lie up to {offset:.3g} cells away from what the projected axes and the grid mapping give",
            where=f"axes {axes.y_name}, {axes.x_name}; grid mapping {crs}",
            hint="correct the grid mapping, or remove it from the file",
        )
    if offset <= SAME_PLACE:
        return lat, lon, crs, True
    log.warning("2-D lat/lon lie up to %.3g cells away from the projected axes; the axes and their grid mapping are used", offset)
    return *places[best], crs, False


def _curvilinear_corners(
    dataset: xr.Dataset | None, lon: np.ndarray, axes: Axes | None, crs: Crs | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Corners from the vertices in the dataset, else from the projected axes, else none."""
    found: corner.Corners | None = None
    if dataset is not None and "lat_vertices" in dataset and "lon_vertices" in dataset:
        found = corner.ordered(_floats(dataset["lat_vertices"]), _floats(dataset["lon_vertices"]))
    elif axes is not None and crs is not None:
        found = corner.from_projected_axes(crs, axes.y, axes.x, axes.units)
    if found is None:
        log.warning("no vertices, and no projected axes with a grid mapping: cell corners are unknown, no conservative remapping")
        return None, None
    return found[0], corner.nearest_turn(found[1], lon[..., None])


def _spacing(lat: np.ndarray, lon: np.ndarray) -> float:
    """Smallest median distance in degrees between neighbours along either axis; infinite for a single cell."""
    along = [degrees_apart(lat[1:], lon[1:], lat[:-1], lon[:-1]), degrees_apart(lat[:, 1:], lon[:, 1:], lat[:, :-1], lon[:, :-1])]
    return min((float(np.median(distance)) for distance in along if distance.size), default=np.inf)


def _write_lonlat(parts: Parts) -> xr.Dataset:
    axes, lat_corners, lon_corners = parts.axes, parts.lat_corners, parts.lon_corners
    assert axes is not None and lat_corners is not None and lon_corners is not None
    bounds = {"lat_bnds": (("lat", "bnds"), lat_corners[:, 0, [0, 2]]), "lon_bnds": (("lon", "bnds"), lon_corners[0, :, [0, 1]].T)}
    lat, lon = (axes.y, {**axes.y_attrs, "bounds": "lat_bnds"}), (axes.x, {**axes.x_attrs, "bounds": "lon_bnds"})
    coords = {"lat": ("lat", *lat), "lon": ("lon", *lon)}
    return xr.Dataset(bounds, coords=coords)


def _write_curvilinear(parts: Parts) -> xr.Dataset:
    dims = (parts.axes.y_name, parts.axes.x_name) if parts.axes is not None else ("y", "x")
    coords: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    if parts.axes is not None:
        coords[dims[0]] = (dims[0], parts.axes.y, parts.axes.y_attrs)
        coords[dims[1]] = (dims[1], parts.axes.x, parts.axes.x_attrs)
    if not _is_lonlat(parts):
        extra = ({}, {}) if parts.lat_corners is None else ({"bounds": "lat_vertices"}, {"bounds": "lon_vertices"})
        coords["lat"] = (dims, parts.lat, {**_LAT, **extra[0]})
        coords["lon"] = (dims, parts.lon, {**_LON, **extra[1]})
        if parts.lat_corners is not None:
            variables["lat_vertices"] = ((*dims, "vertices"), parts.lat_corners)
            variables["lon_vertices"] = ((*dims, "vertices"), parts.lon_corners)
    if parts.crs is not None:
        variables["crs"] = ((), np.int32(0), parts.crs)
    return xr.Dataset(variables, coords=coords)


def _floats(variable: xr.DataArray) -> np.ndarray:
    values = np.asarray(variable.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputDataError(f"'{variable.name}' holds missing values", hint="coordinates must be complete")
    return values


def _attributes(variable: xr.DataArray) -> dict[str, str]:
    return {key: str(variable.attrs[key]) for key in _KEPT if key in variable.attrs}
