"""The cell areas that the files of an archive refer to as their cell measure."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from downscale.cf.write import write_static
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.grid.grid import Grid
from downscale.grid.projection import SPHERES, Crs
from downscale.variables import Variable

log = logging.getLogger(__name__)
AREACELLA = Variable("areacella", "cell_area", "Grid-Cell Area for Atmospheric Grid Variables", "m2", "m2", "area: sum", (0.0, 1e12))


def has_areas(grid: Grid) -> bool:
    """Whether the cells' areas are known; where corners are not, this is said."""
    try:
        grid.corners("the area of cells (areacella)")
    except InputDataError as error:
        log.warning("no areacella is written: %s", error.message)
        return False
    return True


def write_areas(path: Path, grid: Grid, coordinates: Coordinates, crs: Crs | None, attributes: Mapping[str, str]) -> None:
    """Write areacella, m2: spherical polygons between the corners, edges great circles, on the sphere of the grid mapping.

    An ellipsoid counts as the sphere of its surface; without a grid mapping the radius is 6371229 m.

    Args:
        path: final name; its folder is made.
        grid: with corners.
        coordinates, crs: as tidy_coordinates gives them.
        attributes: global attributes.

    Raises:
        DownscaleError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_static(path, AREACELLA, coordinates, grid.areas() * radius(crs) ** 2, attributes=attributes)


def radius(crs: Crs | None) -> float:
    """Radius in metres of the sphere that has the surface of the Earth's figure in a grid mapping (authalic, Snyder 1987, eq. 3-13)."""
    figures = crs or {}
    if "earth_radius" in figures:
        return float(figures["earth_radius"])
    if "semi_major_axis" not in figures:
        return SPHERES[-1]
    a = float(figures["semi_major_axis"])
    b = figures.get("semi_minor_axis")
    flattening = 1.0 - float(b) / a if b is not None else 1.0 / float(figures.get("inverse_flattening") or math.inf)
    e = math.sqrt(flattening * (2.0 - flattening))
    if e == 0.0:
        return a
    return a * math.sqrt(0.5 * (1.0 + (1.0 - e * e) / e * math.atanh(e)))
