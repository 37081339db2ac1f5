"""Wind components along the rows and columns of a grid, turned to true east and north."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downscale.errors import InputDataError
from downscale.grid.axes import Axes
from downscale.grid.grid import Grid
from downscale.grid.polygons import unit_vectors
from downscale.grid.projection import Crs, flattening, is_rotated, to_lonlat

_PART_OF_A_CELL = 0.25
"""Places this far apart and twice as far give the direction of a projected axis by central differences of fourth order."""


@dataclass(frozen=True, eq=False)
class Turn:
    """The angle from true east to the grid's own x direction, counter-clockwise, in every cell.

    Attributes:
        cos, sin: (ny, nx) float64.
    """

    cos: np.ndarray
    sin: np.ndarray

    @property
    def is_none(self) -> bool:
        """True where the grid's rows are parallels everywhere: nothing turns."""
        return bool((self.sin == 0.0).all() and (self.cos == 1.0).all())

    @property
    def degrees(self) -> np.ndarray:
        """(ny, nx) the angle, -180..180."""
        return np.rad2deg(np.arctan2(self.sin, self.cos))

    def eastward(self, x_wind: np.ndarray, y_wind: np.ndarray) -> np.ndarray:
        """The component to true east (..., ny, nx) of winds along the grid's x and y, dtype of `x_wind`; NaN where either is."""
        return _combined(x_wind, self.cos, y_wind, -self.sin)

    def northward(self, x_wind: np.ndarray, y_wind: np.ndarray) -> np.ndarray:
        """The component to true north (..., ny, nx), dtype of `y_wind`; NaN where either is."""
        return _combined(y_wind, self.cos, x_wind, self.sin)


def turn_of(grid: Grid) -> Turn:
    """How far a grid's x and y directions are turned from east and north, in each cell, at the meridian that its longitude names.

    Rotated poles: exact, from the rotation itself, at the poles too, where east is what the stated longitude makes it. Other
    projections: derivatives of the projection about each centre, on the ellipsoid that the mapping names. Without a grid mapping:
    differences of neighbouring centres (one-sided at the rim), rows and columns as they lie in the file. Where x and y do not
    quite stand at right angles, the mean of what both say, which is the nearest rotation.

    Raises:
        InputDataError: a single cell without a grid mapping, or rows and columns that are mirrored, so that the sense of the
            components is not known.
    """
    if grid.is_latlon:
        return Turn(np.ones(grid.shape), np.zeros(grid.shape))
    if grid.crs is not None and grid.axes is not None:
        along_x, along_y = _rotated(grid.crs, grid.axes) if is_rotated(grid.crs) else _projected(grid.crs, grid.axes)
    else:
        along_x, along_y = _differences(grid)
    east, north = _directions(grid.lat, grid.lon)
    x, y = (_unit((vectors * east).sum(-1) + 1j * (vectors * north).sum(-1)) for vectors in (along_x, along_y))
    if (np.imag(np.conj(x) * y) < 0.0).any():
        raise InputDataError(
            "rows and columns of the grid are mirrored: the sense of wind components along them is not known",
            where=grid.place,
            hint="give projected axes with a grid mapping, or winds to true east and north",
        )
    both = _unit(x - 1j * y)
    return Turn(np.real(both).copy(), np.imag(both).copy())


def _combined(first: np.ndarray, by: np.ndarray, second: np.ndarray, and_by: np.ndarray) -> np.ndarray:
    """first * by + second * and_by in float64, field by field, in the dtype of the first."""
    result = np.empty(first.shape, first.dtype)
    for out, one, other in zip(*(values.reshape(-1, *by.shape) for values in (result, first, second)), strict=True):
        out[...] = one * by + other * and_by
    return result


def _directions(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (ny, nx, 3) to east and north at places in degrees; at a pole along the meridian that the longitude names."""
    lam, phi = np.deg2rad(lon), np.deg2rad(lat)
    east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], axis=-1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], axis=-1)
    return east, north


def _rotated(crs: Crs, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """East and north of the rotated frame as vectors (ny, nx, 3) of the true one."""
    lon, lat = to_lonlat(crs, np.array([0.0, 90.0, 0.0]), np.array([0.0, 0.0, 90.0]), axes.units)
    frame = unit_vectors(lat, lon)
    x, y = np.meshgrid(axes.x, axes.y)
    east, north = _directions(y, x)
    return east @ frame, north @ frame


def _projected(crs: Crs, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Directions (ny, nx, 3) of growing x and y: how the place on the ellipsoid moves with each, in Earth-centred coordinates."""
    x, y = np.meshgrid(axes.x, axes.y)
    step = _PART_OF_A_CELL * min((float(np.abs(np.diff(axis)).min()) for axis in (axes.x, axes.y) if len(axis) > 1), default=1e3)
    squared = flattening(crs) * (2.0 - flattening(crs))

    def place(right: float, up: float) -> np.ndarray:
        lon, lat = to_lonlat(crs, x + right * step, y + up * step, axes.units)
        normal = unit_vectors(lat, lon)
        return normal / np.sqrt(1.0 - squared * normal[..., 2:] ** 2) * np.array([1.0, 1.0, 1.0 - squared])

    def along(i: float, j: float) -> np.ndarray:
        return 8.0 * (place(i, j) - place(-i, -j)) - (place(2 * i, 2 * j) - place(-2 * i, -2 * j))

    return along(1.0, 0.0), along(0.0, 1.0)


def _differences(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Directions (ny, nx, 3) along rows and columns, from the neighbouring centres."""
    if min(grid.shape) < 2:
        raise InputDataError(
            "a grid of a single row or column does not say where its x and y point",
            where=grid.place,
            hint="give projected axes with a grid mapping, or winds to true east and north",
        )
    centres = unit_vectors(grid.lat, grid.lon)
    return np.gradient(centres, axis=1), np.gradient(centres, axis=0)


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.abs(values))
