"""The cells of a grid ready to be intersected: polygons of great circles, or boxes between meridians and parallels.

In the convention `great_circle` every cell edge is a great circle, as ESMF takes them. In `parallels` the cells of a grid whose rows
run along parallels and whose columns run along meridians, however it is stored, are boxes; every other grid has great circles
throughout. That is CDO's rule, but for rounding: here corners count as on their parallel or meridian within 1e-11 degree, there one
corner moved by 1e-13 degree makes great circles of all edges of that grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from downscale.grid.parallels import zone_areas
from downscale.grid.polygons import edge_normals, polygon_areas, unit_vectors

Edges = Literal["great_circle", "parallels"]
_SAME = 1e-11
_WIDEST = 120.0
_WIDER = 1e-6


@dataclass(frozen=True, eq=False)
class Boxes:
    """Cells of a longitude-latitude grid: south and north (ny,), west and east (nx,) in degrees, east above west.

    `cell` (ny * nx,) is where the box of each row and column lies in the grid it was taken from.
    """

    south: np.ndarray
    north: np.ndarray
    west: np.ndarray
    east: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, lat: np.ndarray, lon: np.ndarray) -> Boxes | None:
        """The boxes that corners (ny, nx, 4) bound, latitude along either dimension; None for any other grid."""
        for swapped in (False, True):
            lat_in_rows, lon_in_rows = (lat.swapaxes(0, 1), lon.swapaxes(0, 1)) if swapped else (lat, lon)
            bounds = _bounds(lat_in_rows, _without_poles(lat_in_rows, lon_in_rows))
            if bounds is not None:
                index = np.arange(lat.shape[0] * lat.shape[1]).reshape(lat.shape[:2])
                return cls(*bounds, (index.T if swapped else index).ravel())
        return None

    @property
    def areas(self) -> np.ndarray:
        """Areas in steradian of the grid's cells, in their own order."""
        area = np.empty(len(self.cell))
        area[self.cell] = (zone_areas(self.south, self.north)[:, None] * np.deg2rad(self.east - self.west)).ravel()
        return area


def _bounds(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """South and north of rows, west and east of columns, where corners (ny, nx, 4) are those of boxes; else None."""
    south, north = lat[:, 0].min(axis=-1), lat[:, 0].max(axis=-1)
    west, east = lon[0].min(axis=-1), lon[0].max(axis=-1)
    turn = 360.0 * np.round((lon.min(axis=-1) - west) / 360.0)
    upper = _at_upper(lat, south[:, None], north[:, None])
    right = _at_upper(lon - turn[..., None], west, east)
    if upper is None or right is None or not (np.sort(2 * upper + right, axis=-1) == np.arange(4)).all():
        return None
    return south, north, west, east


def _without_poles(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Longitudes of corners (ny, nx, 4), at a pole those of the side that ends there: a pole's own longitude says nothing."""
    pole = np.abs(lat) >= 90.0 - _SAME
    return np.where(pole, np.where(np.roll(pole, -1, axis=-1), np.roll(lon, 1, axis=-1), np.roll(lon, -1, axis=-1)), lon)


def _at_upper(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """Which corners (ny, nx, 4) lie at the upper bound (1, else 0), where every one lies at either bound; else None."""
    at_high, at_low = (np.abs(values - bound[..., None]) <= _SAME for bound in (high, low))
    return at_high.astype(np.int64) if (at_high ^ at_low).all() else None


@dataclass(frozen=True, eq=False)
class Pieces:
    """Convex pieces that make up the cells of a grid, in a row.

    Attributes:
        polygon: (n, 4, 3) unit vectors of the corners, counter-clockwise.
        centre: (n, 3) and radius (n,), as a chord: a circle around the piece.
        area: (n,) steradian.
        owner: (n,) the cell it belongs to.
        meridians: (n, 2, 3) the inward normals of the two that bound a box; None: the polygon's edges bound the piece.
        low, high: (n,) parallels in degrees that bound a box besides, -90 and 90 at a pole; None with the polygon's edges.
    """

    polygon: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    area: np.ndarray
    owner: np.ndarray
    meridians: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def of_polygons(cls, polygon: np.ndarray) -> Pieces:
        """Cells with corners (n, 4, 3), great circles between them."""
        return cls(polygon, *_circles(polygon), polygon_areas(polygon), np.arange(len(polygon)))

    @classmethod
    def of_boxes(cls, boxes: Boxes) -> Pieces:
        """Wedges between two meridians, cut by two parallels; a box wider than a third of the globe in parts."""
        column, west, east = _narrow(boxes.west, boxes.east)
        row, place = (index.ravel() for index in np.indices((len(boxes.south), len(column))))
        low, high, width = boxes.south[row], boxes.north[row], len(boxes.west)
        polygon = unit_vectors(np.stack([low, low, high, high], axis=1), np.stack([west, east, east, west], axis=1)[place])
        at_east, at_west = unit_vectors(np.zeros_like(east), east), unit_vectors(np.zeros_like(west), west)
        normals = np.stack([at_east[:, [1, 0, 2]] * [1.0, -1.0, 0.0], at_west[:, [1, 0, 2]] * [-1.0, 1.0, 0.0]], axis=1)[place]
        area = zone_areas(low, high) * np.deg2rad(east - west)[place]
        owner = boxes.cell[row * width + column[place]]
        return cls(polygon, *_circles(polygon), area, owner, normals, low, high)

    @cached_property
    def normals(self) -> np.ndarray:
        """(n, E, 3) the inward normals of the great circles that bound the piece."""
        return edge_normals(self.polygon) if self.meridians is None else self.meridians

    @cached_property
    def points(self) -> np.ndarray:
        """(n, E, 3) a point in the plane of each of these great circles."""
        return self.polygon if self.meridians is None else np.zeros_like(self.meridians)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n, E) how far the great circles' planes lie from the centre of the sphere, by rounding alone."""
        return np.einsum("nek,nek->ne", self.points, self.normals)

    @cached_property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) latitudes in degrees that the circle around a piece lies between, a little wider; beyond 90 where it holds a pole."""
        middle = np.rad2deg(np.arcsin(np.clip(self.centre[:, 2], -1.0, 1.0)))
        angle = np.rad2deg(2.0 * np.arcsin(np.minimum(0.5 * self.radius, 1.0))) + _WIDER
        return middle - angle, middle + angle

    def cell_areas(self, count: int) -> np.ndarray:
        """Areas (count,) in steradian of the cells that the pieces make up."""
        return np.bincount(self.owner, self.area, minlength=count)


def cell_areas(lat: np.ndarray, lon: np.ndarray, edges: Edges) -> np.ndarray:
    """Areas (ny, nx) in steradian of cells with corners (ny, nx, 4), in one of the two conventions."""
    boxes = Boxes.of(lat, lon) if edges == "parallels" else None
    return polygon_areas(unit_vectors(lat, lon)) if boxes is None else boxes.areas.reshape(lat.shape[:2])


def _narrow(west: np.ndarray, east: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns cut into equal parts that are narrow enough to lie in one hemisphere: the column each belongs to, west and east."""
    parts = np.maximum(np.ceil((east - west) / _WIDEST - 1e-9), 1.0).astype(np.int64)
    column = np.repeat(np.arange(len(west)), parts)
    place, parts = np.arange(len(column)) - np.repeat(np.cumsum(parts) - parts, parts), parts[column]
    step = (east - west)[column] / parts
    return column, west[column] + step * place, np.where(place + 1 == parts, east[column], west[column] + step * (place + 1))


def _circles(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (n, 3) and radius (n,), as a chord, of a circle around points (n, V, 3)."""
    corners = [points[:, vertex] for vertex in range(points.shape[1])]
    centre = sum(corners[1:], start=corners[0])
    centre /= np.sqrt((centre**2) @ np.ones(3))[:, None]
    square = np.stack([((corner - centre) ** 2) @ np.ones(3) for corner in corners])
    return centre, np.sqrt(square.max(axis=0))
