"""Grids of the CORDEX domains by name.

Source of the numbers: the tables CORDEX-CMIP6_grids.csv and rotated-latitude-longitude.csv of github.com/WCRP-CORDEX/domain-tables,
which hold the domains of the CORDEX-CMIP6 archiving specifications (doi:10.5281/zenodo.20274448) and of CORDEX-CMIP5. Left out: EAS-25
and the rotated grids of the Arctic and the Antarctic, where editions of the tables differ.
"""

from __future__ import annotations

import difflib

import numpy as np

from downscale.coordinates import Coordinates
from downscale.errors import ConfigError
from downscale.grid.axes import projected_axes
from downscale.grid.grid import Grid, lonlat_grid
from downscale.grid.projection import Crs

Row = tuple[int, int, float, float, float, float, float]
_ROTATED: dict[str, Row] = {
    "AUS-12": (800, 516, 141.995, -23.045, 0.11, 141.38, 60.31),
    "AUS-25": (400, 258, 142.05, -22.99, 0.22, 141.38, 60.31),
    "AUS-50": (200, 129, 142.16, -22.88, 0.44, 141.38, 60.31),
    "CAM-12": (840, 452, -52.965, -28.765, 0.11, 113.98, 75.74),
    "CAM-25": (420, 226, -52.91, -28.71, 0.22, 113.98, 75.74),
    "CAM-50": (210, 113, -52.8, -28.6, 0.44, 113.98, 75.74),
    "CAS-12": (612, 400, -34.485, -20.845, 0.11, -103.39, 43.48),
    "CAS-25": (306, 200, -34.43, -20.79, 0.22, -103.39, 43.48),
    "CAS-50": (153, 100, -34.32, -20.68, 0.44, -103.39, 43.48),
    "EAS-12": (812, 668, -41.085, -27.005, 0.11, -64.78, 77.61),
    "EAS-50": (203, 167, -40.92, -26.84, 0.44, -64.78, 77.61),
    "EUR-12": (424, 412, -28.375, -23.375, 0.11, -162.0, 39.25),
    "EUR-25": (212, 206, -28.32, -23.32, 0.22, -162.0, 39.25),
    "EUR-50": (106, 103, -28.21, -23.21, 0.44, -162.0, 39.25),
    "MED-12": (392, 252, -23.385, -21.505, 0.11, -162.0, 39.25),
    "MED-50": (98, 63, -23.22, -21.34, 0.44, -162.0, 39.25),
    "NAM-12": (620, 520, -34.045, -28.565, 0.11, 83.0, 42.5),
    "NAM-25": (310, 260, -33.99, -28.51, 0.22, 83.0, 42.5),
    "NAM-50": (155, 130, -33.88, -28.4, 0.44, 83.0, 42.5),
    "SAM-12": (584, 668, 143.755, -38.445, 0.11, -56.06, 70.6),
    "SAM-25": (292, 334, 143.81, -38.39, 0.22, -56.06, 70.6),
    "SAM-50": (146, 167, 143.92, -38.28, 0.44, -56.06, 70.6),
    "WAS-12": (772, 520, -32.285, -21.725, 0.11, -123.34, 79.95),
    "WAS-25": (386, 260, -32.23, -21.67, 0.22, -123.34, 79.95),
    "WAS-50": (193, 130, -32.12, -21.56, 0.44, -123.34, 79.95),
}
"""Columns, rows, rotated longitude and latitude of the first centre, spacing, longitude and latitude of the rotated north pole."""

_REGULAR: dict[str, tuple[int, int, float, float, float]] = {
    "AFR-12": (776, 804, -24.805, -45.925, 0.11),
    "AFR-25": (388, 402, -24.75, -45.87, 0.22),
    "AFR-50": (194, 201, -24.64, -45.76, 0.44),
    "MNA-12": (928, 472, -26.565, -6.765, 0.11),
    "MNA-25": (464, 236, -26.51, -6.71, 0.22),
    "MNA-50": (232, 118, -26.4, -6.6, 0.44),
    "SEA-12": (528, 388, 89.205, -15.235, 0.11),
    "SEA-25": (264, 194, 89.26, -15.18, 0.22),
    "AFR-50i": (173, 179, -25.25, -46.25, 0.5),
    "ANT-50i": (720, 70, -179.75, -89.75, 0.5),
    "ARC-50i": (720, 83, -179.75, 48.75, 0.5),
    "AUS-50i": (238, 133, 88.75, -53.25, 0.5),
    "CAM-50i": (207, 111, -124.75, -19.75, 0.5),
    "CAS-50i": (260, 133, 10.75, 17.75, 0.5),
    "EAS-50i": (227, 157, 62.75, -18.75, 0.5),
    "EUR-12i": (881, 408, -44.8125, 21.8125, 0.125),
    "EUR-50i": (221, 103, -44.75, 21.75, 0.5),
    "MED-50i": (144, 65, -20.75, 25.25, 0.5),
    "MNA-25i": (410, 209, -26.625, -6.875, 0.25),
    "MNA-50i": (206, 106, -26.75, -7.25, 0.5),
    "NAM-50i": (300, 129, -171.75, 12.25, 0.5),
    "SAM-50i": (181, 155, -106.25, -58.25, 0.5),
    "SEA-25i": (233, 172, 89.125, -15.375, 0.25),
    "WAS-50i": (195, 124, 19.25, -15.75, 0.5),
}
"""Columns, rows, longitude and latitude of the first centre, spacing."""

_OLD = {"11": "12", "22": "25", "44": "50"}
"""Resolutions in the names of CORDEX-CMIP5: hundredths of a degree; since CMIP6 they are kilometres of the same grids."""


def domain_names() -> list[str]:
    """Names of CORDEX-CMIP6, sorted; those of CMIP5 (EUR-11, EUR-44, EUR-44i ...) are understood too."""
    return sorted({*_ROTATED, *_REGULAR})


def domain_grid(name: str) -> Grid:
    """The grid of a CORDEX domain: EUR-12 or, by its older name, EUR-11; corners are exact, half-way in the domain's own coordinates.

    Raises:
        ConfigError: no such domain in the table.
    """
    known = current_name(name)
    if known in _REGULAR:
        nx, ny, west, south, step = _REGULAR[known]
        return lonlat_grid(south + step * (np.arange(ny + 1) - 0.5), west + step * (np.arange(nx + 1) - 0.5))
    if known not in _ROTATED:
        close = difflib.get_close_matches(name.upper(), domain_names(), n=3, cutoff=0.5)
        raise ConfigError(
            f"'{name}' is not a CORDEX domain known here" + (f"; close: {', '.join(close)}" if close else ""),
            hint=f"use one of {', '.join(domain_names())}, or a file with the grid",
        )
    nx, ny, west, south, step, pole_lon, pole_lat = _ROTATED[known]
    crs: Crs = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": pole_lat,
        "grid_north_pole_longitude": pole_lon,
    }
    axes = projected_axes(np.round(south + step * np.arange(ny), 6), np.round(west + step * np.arange(nx), 6), rotated=True)
    coords = {axes.y_name: (axes.y_name, axes.y, axes.y_attrs), axes.x_name: (axes.x_name, axes.x, axes.x_attrs)}
    return Grid.from_dataset(Coordinates.of({**coords, "crs": ((), np.int32(0), crs)}))


def current_name(name: str) -> str:
    """The CMIP6 name of a domain given in either way, in any case of letters."""
    area, _, resolution = name.strip().partition("-")
    digits, regular = resolution.rstrip("iI"), "i" if resolution[-1:] in ("i", "I") else ""
    return f"{area.upper()}-{_OLD.get(digits, digits)}{regular}"
