"""Coordinates as CORDEX wants them, and the grid in words."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from downscale.coordinates import Coordinates
from downscale.errors import ConfigError
from downscale.grid.domains import domain_grid, domain_names
from downscale.grid.grid import Grid
from downscale.grid.projection import SPHERES, Crs, is_rotated

log = logging.getLogger(__name__)
_LONG_NAMES = {"grid_latitude": "latitude in rotated pole grid", "grid_longitude": "longitude in rotated pole grid"}
_FIGURES = ("earth_radius", "semi_major_axis", "inverse_flattening", "reference_ellipsoid_name")


def require_mapping(grid: Grid) -> None:
    """Refuse a grid that is neither longitude and latitude nor projected with a grid mapping (G11); ConfigError."""
    if not grid.is_latlon and (grid.crs is None or grid.axes is None):
        raise ConfigError(
            "the archive needs projected axes and their grid mapping, and the RCM's files had none",
            where=grid.place,
            hint="add the grid_mapping variable to the RCM's files and prepare again, or choose apply.profile: cf",
        )


def tidy_coordinates(grid: Grid, facets: Mapping[str, str]) -> tuple[Coordinates, Crs | None]:
    """Coordinates with longitudes that increase along rows within -180 to 360, and a grid mapping that states the Earth's radius.

    Args:
        grid: the fine grid.
        facets: ``earth_radius`` in metres, for a grid mapping that lacks it.

    Returns:
        coordinates and grid mapping; no mapping for longitude and latitude.

    Raises:
        ConfigError: the grid is neither longitude and latitude nor projected with a grid mapping (G11).
    """
    require_mapping(grid)
    coordinates = grid.to_coordinates()
    if grid.is_latlon:
        return coordinates, None
    crs = dict(coordinates["crs"].attrs)
    if not any(name in crs for name in _FIGURES):
        crs["earth_radius"] = float(facets.get("earth_radius") or SPHERES[-1])
        log.warning("the grid mapping states no earth_radius: %.0f m is written", crs["earth_radius"])
        coordinates["crs"] = ((), coordinates["crs"].values, crs)
    _turn_longitudes(coordinates)
    for name in ("lat", "lon"):
        if f"{name}_vertices" in coordinates:
            corners = coordinates.variables.pop(f"{name}_vertices")
            coordinates[f"vertices_{name}"] = (corners.dims, corners.values)
            coordinates[name].attrs["bounds"] = f"vertices_{name}"
    for axis, words in _LONG_NAMES.items():
        for one in coordinates.variables.values():
            if one.attrs.get("standard_name") == axis:
                one.attrs.setdefault("long_name", words)
    return coordinates, crs


def _turn_longitudes(coordinates: Coordinates) -> None:
    """Let 2-D longitudes increase along rows, their corners with them."""
    lon = coordinates["lon"]
    turned = _increasing(np.asarray(lon.values, dtype=np.float64))
    if turned is None:
        return
    coordinates["lon"] = (lon.dims, turned, lon.attrs)
    if "lon_vertices" in coordinates:
        corners = coordinates["lon_vertices"]
        near = turned[..., None] + np.mod(corners.values - turned[..., None] + 180.0, 360.0) - 180.0
        coordinates["lon_vertices"] = (corners.dims, near)


def _increasing(lon: np.ndarray) -> np.ndarray | None:
    """The same longitudes without the jump at the date line, within -180 to 360; None where nothing changes or nothing helps."""
    smooth = np.unwrap(np.unwrap(lon, period=360.0, axis=1), period=360.0, axis=0)
    smooth = smooth - 360.0 * np.floor((smooth.min() + 180.0) / 360.0)
    if smooth.max() > 360.0 or np.array_equal(smooth, lon):
        return None
    return smooth


def describe_grid(grid: Grid, crs: Crs | None, domain_id: str) -> str:
    """The attribute ``grid``: projection, spacing, and which part of the domain it is where it is not the whole."""
    assert grid.axes is not None
    x, y = (f"{float(np.abs(np.diff(axis)).mean()):.6g}" for axis in (grid.axes.x, grid.axes.y))
    step = x if x == y else f"{x} x {y}"
    if crs is None:
        words = f"regular latitude-longitude with {step} degree grid spacing (no grid_mapping)"
    elif is_rotated(crs):
        words = f"rotated-pole latitude-longitude with {step} degree grid spacing"
    else:
        words = f"{crs['grid_mapping_name']} with {step} {grid.axes.units} grid spacing"
    return f"{words}; grid of the emulated regional climate model{_part(grid, domain_id)}"


def _part(grid: Grid, domain_id: str) -> str:
    """In words, that the grid is not that of the domain; a warning where it is not, or where nobody can tell."""
    if domain_id not in domain_names():
        log.warning("the grid of %s is not known here: whether the output is on all of it, as the archive asks, is not checked", domain_id)
        return ""
    whole = domain_grid(domain_id)
    if grid.shape == whole.shape and np.allclose(grid.lat, whole.lat, atol=1e-3) and _same_longitudes(grid.lon, whole.lon):
        return ""
    log.warning("the output is not on the grid of %s, whose whole the archive asks for", domain_id)
    return f"; {grid.shape[0]} x {grid.shape[1]} cells that are not the grid of {domain_id}"


def _same_longitudes(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(np.mod(one - other + 180.0, 360.0), 180.0, atol=1e-3))
