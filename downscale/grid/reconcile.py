"""Two statements about the same places, held against each other: 2-D latitude and longitude, and projected axes with a grid mapping.

Which of the two is trusted, and why, is said in a note that goes with the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downscale.errors import InputDataError
from downscale.grid.axes import Axes, projected_axes
from downscale.grid.corners import nearest_turn
from downscale.grid.polygons import degrees_apart
from downscale.grid.projection import SPHERES, Crs, figure_unstated, from_lonlat, is_rotated, to_lonlat

SAME_PLACE = 0.02
"""2-D values and axes that lie closer than this fraction of a cell say the same; one cell or more and neither can be believed."""
_AS_ONE_PIECE = 0.05


@dataclass(frozen=True, eq=False)
class Places:
    """Cell centres that both statements were reduced to.

    Attributes:
        lat, lon: (ny, nx) degrees.
        crs: grid mapping, its figure of the Earth filled in where it stated none.
        own: whether lat and lon are the file's 2-D values, so that vertices beside them fit.
        notes: what was assumed, and which statement was trusted.
    """

    lat: np.ndarray
    lon: np.ndarray
    crs: Crs
    own: bool
    notes: tuple[str, ...]


def centres(crs: Crs, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (ny, nx) of the cells between projected axes, longitudes without a jump where the domain has none."""
    x_2d, y_2d = np.meshgrid(axes.x, axes.y)
    lon, lat = to_lonlat(crs, x_2d, y_2d, axes.units)
    return lat, nearest_turn(lon, np.asarray(lon)[lon.shape[0] // 2, lon.shape[1] // 2])


def reconcile(lat: np.ndarray, lon: np.ndarray, axes: Axes, crs: Crs) -> Places:
    """The places that 2-D latitude and longitude and projected axes agree on, or those of the axes where they nearly do.

    A grid mapping that does not state the figure of the Earth takes the sphere that reproduces the 2-D values, where one does.
    Less than a cell apart, the axes are trusted: they are what the model runs on and evenly spaced, while 2-D values are derived
    (and met displaced to the cell corners).

    Raises:
        InputDataError: one cell apart or more: pole, parallels or units of the mapping are wrong, or the 2-D values are (G07).
    """
    spacing = neighbour_distance(lat, lon)
    candidates = [crs, *({**crs, "earth_radius": radius} for radius in SPHERES)] if figure_unstated(crs) else [crs]
    places = [centres(candidate, axes) for candidate in candidates]
    degrees = [float(degrees_apart(lat, lon, *place).max()) for place in places]
    best = int(np.argmin(degrees)) if min(degrees) <= SAME_PLACE * spacing and min(degrees) < 0.1 * degrees[0] else 0
    crs, offset = candidates[best], degrees[best] / spacing
    notes = [f"the grid mapping states no figure of the Earth: a sphere of radius {crs['earth_radius']:.0f} m taken"] if best else []
    if offset > 1.0:
        raise InputDataError(
            f"2-D lat/lon lie up to {offset:.3g} cells ({degrees[best]:.3g} degree) off what the projected axes and the grid mapping give",
            where=f"axes {axes.words}; {_words(crs)}",
            hint="neither is trusted: correct the grid mapping, the units of the axes or the 2-D lat/lon, or remove one of them",
        )
    if offset <= SAME_PLACE:
        return Places(lat, lon, crs, True, tuple(notes))
    notes.append(
        f"2-D lat/lon lie up to {offset:.3g} cells ({degrees[best]:.3g} degree) off what axes {axes.words} and the grid mapping give"
        f"{_shift(lat, lon, axes, crs)}{', whose figure of the Earth is not stated' if figure_unstated(crs) else ''}; "
        "the axes are trusted: they are evenly spaced, 2-D values are derived from them"
    )
    return Places(*places[best], crs, False, tuple(notes))


def axes_behind(lat: np.ndarray, lon: np.ndarray, crs: Crs) -> Axes | None:
    """The projected axes of a grid that has 2-D lat/lon and a grid mapping only; None where rows and columns are no such axes.

    Metres or degrees, as the mapping has them; exact to a hundredth of a cell.
    """
    x, y = from_lonlat(crs, lon, lat, "m")
    if min(lat.shape) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    y_axis, x_axis = y.mean(axis=1), x.mean(axis=0)
    steps = np.diff(y_axis), np.diff(x_axis)
    if not all((one > 0).all() or (one < 0).all() for one in steps):
        return None
    cell = min(float(np.abs(one).min()) for one in steps)
    apart = max(float(np.abs(y - y_axis[:, None]).max()), float(np.abs(x - x_axis).max()))
    return projected_axes(y_axis, x_axis, rotated=is_rotated(crs)) if apart <= 0.5 * SAME_PLACE * cell else None


def neighbour_distance(lat: np.ndarray, lon: np.ndarray) -> float:
    """Smallest median distance in degrees between neighbours along either axis; infinite for a single cell."""
    along = [degrees_apart(lat[1:], lon[1:], lat[:-1], lon[:-1]), degrees_apart(lat[:, 1:], lon[:, 1:], lat[:, :-1], lon[:, :-1])]
    return min((float(np.median(distance)) for distance in along if distance.size), default=np.inf)


def _shift(lat: np.ndarray, lon: np.ndarray, axes: Axes, crs: Crs) -> str:
    """In words, when the 2-D values are the same grid moved as one piece."""
    x, y = from_lonlat(crs, lon, lat, axes.units)
    moved = []
    for values, axis in ((y - axes.y[:, None], axes.y), (x - axes.x, axes.x)):
        cells = values / np.median(np.abs(np.diff(axis))) if len(axis) > 1 else np.full(values.shape, np.nan)
        if not np.isfinite(cells).all() or np.ptp(cells) > _AS_ONE_PIECE:
            return ""
        moved.append(float(cells.mean()))
    return f", all moved by {moved[0]:+.2f} cells in y and {moved[1]:+.2f} in x"


def _words(crs: Crs) -> str:
    """A grid mapping in one line without the long text forms some programs add."""
    return ", ".join(f"{key} {value}" for key, value in crs.items() if key not in ("crs_wkt", "spatial_ref", "proj4_params", "long_name"))
