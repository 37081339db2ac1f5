"""Projected axes and longitude-latitude: CF grid mappings through PROJ."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pyproj
from pyproj.exceptions import CRSError

from downscale.errors import InputDataError

Crs = dict[str, Any]
_METRES = {
    "": 1.0,
    "m": 1.0,
    "metre": 1.0,
    "metres": 1.0,
    "meter": 1.0,
    "meters": 1.0,
    "km": 1e3,
    "kilometre": 1e3,
    "kilometres": 1e3,
    "kilometer": 1e3,
    "kilometers": 1e3,
}
_FIGURE = ("earth_radius", "semi_major_axis", "semi_minor_axis", "inverse_flattening", "reference_ellipsoid_name", "crs_wkt", "spatial_ref")
SPHERES = (6370000.0, 6371000.0, 6371200.0, 6371229.0)


def plain_crs(attributes: dict[str, Any]) -> Crs | None:
    """Grid-mapping attributes as plain Python strings, floats and lists of floats; None for a latitude-longitude mapping."""
    plain: Crs = {}
    for key, value in attributes.items():
        if isinstance(value, str):
            plain[str(key)] = value
            continue
        numbers = np.asarray(value, dtype=np.float64).ravel().tolist()
        plain[str(key)] = numbers[0] if len(numbers) == 1 else numbers
    return None if plain.get("grid_mapping_name", "latitude_longitude") == "latitude_longitude" else plain


def is_rotated(crs: Crs) -> bool:
    """True when the axes are rotated longitude and latitude in degrees."""
    return crs.get("grid_mapping_name") == "rotated_latitude_longitude"


def flattening(crs: Crs) -> float:
    """Flattening of the ellipsoid behind a grid mapping; 0 for a sphere. InputDataError when it is not understood (G07)."""
    return float(_transformer(json.dumps(crs, sort_keys=True)).source_crs.get_geod().f)  # type: ignore[union-attr]


def figure_unstated(crs: Crs) -> bool:
    """True when a projection in metres does not say which figure of the Earth it uses."""
    return not is_rotated(crs) and not any(name in crs for name in _FIGURE)


def to_lonlat(crs: Crs, x: np.ndarray, y: np.ndarray, units: str) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude in degrees of projected coordinates given in `units` (degrees, m or km).

    Raises:
        InputDataError: the grid mapping or the units are not understood, or a point has no longitude and latitude (G07).
    """
    factor = _factor(crs, units)
    lon, lat = _transformer(json.dumps(crs, sort_keys=True)).transform(np.asarray(x) * factor, np.asarray(y) * factor)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise InputDataError(
            "projected axes reach outside their own projection",
            where=f"grid mapping {crs}",
            hint="check the units of the axes and the grid mapping's parameters",
        )
    return lon, lat


def require_one_unit(crs: Crs, y_units: str, x_units: str) -> None:
    """Nothing when both axes are in one unit.

    Raises:
        InputDataError: they are not, or a unit is not understood (G07).
    """
    if _factor(crs, y_units) != _factor(crs, x_units):
        raise InputDataError(
            f"the projected axes are in different units, y in '{y_units}' and x in '{x_units}'",
            where=f"grid mapping {crs.get('grid_mapping_name')}",
            hint="give both axes in one unit",
        )


def from_lonlat(crs: Crs, lon: np.ndarray, lat: np.ndarray, units: str) -> tuple[np.ndarray, np.ndarray]:
    """Projected x and y in `units` of longitudes and latitudes in degrees; infinite where the projection has no such point.

    Raises:
        InputDataError: the grid mapping or the units are not understood (G07).
    """
    factor = _factor(crs, units)
    x, y = _transformer(json.dumps(crs, sort_keys=True)).transform(np.asarray(lon), np.asarray(lat), direction="INVERSE")
    return x / factor, y / factor


@functools.lru_cache(maxsize=64)
def _transformer(crs_json: str) -> pyproj.Transformer:
    crs = json.loads(crs_json)
    try:
        projected = pyproj.CRS.from_cf(crs)
    except (CRSError, KeyError, TypeError, ValueError) as error:
        raise InputDataError(
            f"grid mapping not understood: {error}",
            where=f"grid mapping {crs}",
            hint="give a CF grid mapping, or 2-D lat/lon with their vertices",
        ) from error
    rotated = projected.is_geographic and projected.is_derived
    plain = projected.source_crs if rotated else projected.geodetic_crs
    return pyproj.Transformer.from_crs(projected, plain, always_xy=True)


def _factor(crs: Crs, units: str) -> float:
    if is_rotated(crs):
        return 1.0
    name = units.strip().lower()
    if name not in _METRES:
        raise InputDataError(
            f"units '{units}' of the projected axes are not understood",
            where=f"grid mapping {crs.get('grid_mapping_name')}",
            hint=f"use one of: {', '.join(key for key in _METRES if key)}",
        )
    return _METRES[name]
