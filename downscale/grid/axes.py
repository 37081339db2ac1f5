"""The two 1-D axes of a grid of rows and columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LAT = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
LON = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}


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

    @property
    def words(self) -> str:
        """Both names, for messages."""
        return f"{self.y_name}, {self.x_name}"

    def crop(self, y: slice, x: slice | np.ndarray) -> Axes:
        """The axes of a part of the grid."""
        return Axes(self.y_name, self.y[y], self.x_name, self.x[x], self.y_attrs, self.x_attrs)


def lonlat_axes(lat: np.ndarray, lon: np.ndarray) -> Axes:
    """Axes of a longitude-latitude grid with their CF attributes."""
    return Axes("lat", lat, "lon", lon, {**LAT, "axis": "Y"}, {**LON, "axis": "X"})


def projected_axes(y: np.ndarray, x: np.ndarray, *, rotated: bool) -> Axes:
    """Axes of a projected grid that has none of its own: rlat, rlon in degrees, or y, x in metres."""
    names, units = (("rlat", "rlon"), "degrees") if rotated else (("y", "x"), "m")
    standard = ("grid_latitude", "grid_longitude") if rotated else ("projection_y_coordinate", "projection_x_coordinate")
    attrs = [{"standard_name": name, "units": units, "axis": axis} for name, axis in zip(standard, "YX", strict=True)]
    return Axes(names[0], y, names[1], x, *attrs)
