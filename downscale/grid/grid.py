"""A horizontal grid: where its cells are, what bounds them, and how they were laid out."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.grid.axes import Axes, lonlat_axes
from downscale.grid.cells import Edges, cell_areas
from downscale.grid.coordinates import Parts, read_parts, write_parts
from downscale.grid.corners import from_bounds
from downscale.grid.polygons import degrees_apart, unit_vectors
from downscale.grid.projection import Crs
from downscale.grid.reconcile import neighbour_distance

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)
__all__ = ["Axes", "Grid", "lonlat_grid", "require_same_grid", "same_grid", "take_notes"]
_ROUNDING = 1e-9
_DOUBTS = ("trusted", "unknown", "taken")
"""Words of the notes that tell of an assumption: those are logged as warnings."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of a horizontal grid, rows y by columns x.

    Attributes:
        lat: (ny, nx) latitude of the cell centres, degrees.
        lon: (ny, nx) longitude of the cell centres, degrees.
        lat_corners: (ny, nx, 4) latitude of the corners, counter-clockwise; None when they cannot be known.
        lon_corners: (ny, nx, 4) their longitudes, within 180 degrees of the centre's.
        axes: the 1-D axes, projected or longitude and latitude; None for a merely curvilinear grid.
        crs: CF grid-mapping attributes of projected axes; None for longitude and latitude.
        notes: what was computed, assumed or trusted when it was read.
        origin: the file it was read from, or empty.
        corner_fault: why the corners in the file cannot be used, or empty.
    """

    lat: np.ndarray
    lon: np.ndarray
    lat_corners: np.ndarray | None = None
    lon_corners: np.ndarray | None = None
    axes: Axes | None = None
    crs: Crs | None = None
    notes: tuple[str, ...] = ()
    origin: str = ""
    corner_fault: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.lat.shape[0], self.lat.shape[1]

    @property
    def is_latlon(self) -> bool:
        """True when rows are parallels and columns are meridians, so that the axes are lat and lon."""
        return self.axes is not None and (self.axes.y_name, self.axes.x_name) == ("lat", "lon")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of centres and corners, rounded to 1e-9 degree, longitudes modulo 360."""
        state = hashlib.sha256(repr(self.shape).encode())
        for values, turn in ((self.lat, False), (self.lon, True), (self.lat_corners, False), (self.lon_corners, True)):
            if values is not None:
                rounded = np.round(np.mod(values, 360.0) if turn else values, 9) + 0.0
                state.update(np.where(rounded == 360.0, 0.0, rounded).astype("<f8").tobytes() if turn else rounded.astype("<f8").tobytes())
        return state.hexdigest()

    @property
    def summary(self) -> str:
        """One line for messages: shape, kind of axes, extent of the centres."""
        kind = "lat/lon" if self.is_latlon else (self.crs or {}).get("grid_mapping_name", "curvilinear")
        ny, nx = self.shape
        return (
            f"{ny} x {nx} cells ({kind}), lat {self.lat.min():.6g} to {self.lat.max():.6g}, "
            f"lon {self.lon.min():.6g} to {self.lon.max():.6g}"
        )

    @property
    def place(self) -> str:
        """Where an error lies: the file the grid was read from, where known, and its summary."""
        return f"{self.origin}: {self.summary}" if self.origin else self.summary

    def corners(self, purpose: str = "conservative remapping") -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes (ny, nx, 4) of the corners.

        Raises:
            InputDataError: they are not known (G08).
        """
        if self.lat_corners is None or self.lon_corners is None:
            raise InputDataError(
                f"{purpose} needs cell corners, and this grid has none" + (f": {self.corner_fault}" if self.corner_fault else ""),
                where=self.place,
                hint=("correct or remove the" if self.corner_fault else "give") + " bounds or vertices in the file; "
                "without them projected axes with a CF grid mapping will do",
            )
        return self.lat_corners, self.lon_corners

    def corner_vectors(self) -> np.ndarray:
        """Unit vectors (ny, nx, 4, 3) of the corners; InputDataError when they are not known."""
        return unit_vectors(*self.corners())

    def areas(self, edges: Edges = "great_circle") -> np.ndarray:
        """Cell areas (ny, nx) in steradian; InputDataError when corners are not known.

        Args:
            edges: "great_circle": every edge is one; "parallels": cells of a longitude-latitude grid lie between parallels.
        """
        return cell_areas(*self.corners(), edges)

    def crop(self, y: slice, x: slice | np.ndarray) -> Grid:
        """The part of the grid at rows `y` and columns `x`; longitudes continue across the seam where an index array crosses it."""
        lon = self.lon[y, x]
        lat_corners = None if self.lat_corners is None else self.lat_corners[y, x]
        lon_corners = None if self.lon_corners is None else self.lon_corners[y, x]
        axes = None if self.axes is None else self.axes.crop(y, x)
        if self.is_latlon and axes is not None and isinstance(x, np.ndarray):
            unwrapped = np.unwrap(axes.x, period=360.0)
            turn = 360.0 * np.round((unwrapped - axes.x) / 360.0)
            axes = Axes(axes.y_name, axes.y, axes.x_name, axes.x + turn, axes.y_attrs, axes.x_attrs)
            lon = lon + turn
            lon_corners = None if lon_corners is None else lon_corners + turn[:, None]
        return Grid(self.lat[y, x], lon, lat_corners, lon_corners, axes, self.crs, self.notes, self.origin, self.corner_fault)

    def to_coordinates(self) -> Coordinates:
        """Centres, bounds or vertices, axes and grid mapping (variable ``crs``)."""
        return write_parts(Parts(self.lat, self.lon, self.lat_corners, self.lon_corners, self.axes, self.crs))

    def to_dataset(self) -> xr.Dataset:
        """The same as a CF Dataset."""
        return self.to_coordinates().to_xarray()

    @classmethod
    def from_dataset(cls, dataset: Coordinates | xr.Dataset) -> Grid:
        """The grid of coordinates or a Dataset of them; what `to_dataset` gives comes back bit for bit, through NetCDF too.

        Raises:
            InputDataError: there is no usable latitude and longitude (G07).
        """
        origin = str(dataset.encoding.get("source", ""))
        try:
            parts = read_parts(dataset)
        except InputDataError as error:
            where = "; ".join(text for text in (origin, error.where) if text)
            raise InputDataError(error.message, where=where, hint=error.hint) from None
        corners = parts.lat_corners, parts.lon_corners
        return cls(parts.lat, parts.lon, *corners, parts.axes, parts.crs, parts.notes, origin, parts.corner_fault)


def lonlat_grid(lat_edges: np.ndarray, lon_edges: np.ndarray) -> Grid:
    """Longitude-latitude grid of the boxes between edges (ny + 1,) and (nx + 1,) in degrees, centres half-way."""
    lat, lon = 0.5 * (lat_edges[:-1] + lat_edges[1:]), 0.5 * (lon_edges[:-1] + lon_edges[1:])
    lat_bounds = np.stack([lat_edges[:-1], lat_edges[1:]], axis=1)
    lon_bounds = np.stack([lon_edges[:-1], lon_edges[1:]], axis=1)
    lon_2d, lat_2d = np.meshgrid(lon, lat)
    return Grid(lat_2d, lon_2d, *from_bounds(lat, lon, lat_bounds, lon_bounds), lonlat_axes(lat, lon))


def same_grid(
    first: Grid, second: Grid, tolerance_deg: float = 1e-4, *, notes: list[str] | None = None, names: tuple[str, str] = ("one", "the other")
) -> bool:
    """True when both have the same shape and their centres lie within `tolerance_deg` (great circle), longitudes modulo 360.

    Args:
        first, second: the grids.
        tolerance_deg: largest distance of two centres.
        notes: gets a note on the largest difference where the grids are not exactly equal and yet the same (G04, G06).
        names: of the two, for the note.
    """
    if first.shape != second.shape:
        return False
    apart = float(degrees_apart(first.lat, first.lon, second.lat, second.lon).max())
    if _ROUNDING < apart <= tolerance_deg:
        note = f"grids of {names[0]} and {names[1]} taken as one: centres differ by at most {apart:.2g} degree"
        if notes is not None and note not in notes:
            notes.append(note)
        log.info("%s", note)
    return apart <= tolerance_deg


def take_notes(grid: Grid, whose: str, notes: list[str]) -> None:
    """Add a grid's notes to its source's, each once, and log them; ``whose`` names the source or field."""
    for note in grid.notes:
        line = f"{whose}: {note}"
        if line not in notes:
            notes.append(line)
            log.log(logging.WARNING if any(word in note for word in _DOUBTS) else logging.INFO, "%s", line)


def require_same_grid(
    first: Grid, second: Grid, *, names: tuple[str, str], tolerance_deg: float = 1e-4, notes: list[str] | None = None
) -> None:
    """Nothing when the grids are the same; see same_grid.

    Raises:
        InputDataError: they are not; the message names both grids (G05).
    """
    if not same_grid(first, second, tolerance_deg, notes=notes, names=names):
        raise InputDataError(
            f"{names[0]} and {names[1]} are on different grids{_how_far(first, second)}",
            where=f"{names[0]}: {first.summary} | {names[1]}: {second.summary}",
            hint="use files on one grid, or remap one of them first",
        )


def _how_far(first: Grid, second: Grid) -> str:
    """In words, for grids of one shape: the largest distance, in degrees and in cells of the first."""
    if first.shape != second.shape:
        return ""
    apart = float(degrees_apart(first.lat, first.lon, second.lat, second.lon).max())
    return f": centres lie up to {apart:.3g} degree apart ({apart / neighbour_distance(first.lat, first.lon):.2g} cells)"
