"""Cell corners: from bounds and vertices in the file, else from the axes.

Corners are arrays (ny, nx, 4), counter-clockwise; of a longitude-latitude cell: south-west, south-east, north-east,
north-west. A corner's longitude is the turn nearest to its cell's centre, so it may leave -180..180.
"""

from __future__ import annotations

import numpy as np

from downscale.errors import InputDataError
from downscale.grid.polygons import edge_normals, polygon_areas, unit_vectors
from downscale.grid.projection import Crs, to_lonlat

Corners = tuple[np.ndarray, np.ndarray]
_SLACK = 0.01
_ORDERS = ((0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3))


def axis_edges(values: np.ndarray) -> np.ndarray:
    """Edges (n + 1,) half-way between the values (n,) of an axis, the outermost by the outermost spacing.

    Raises:
        InputDataError: the axis has fewer than two values or is not strictly monotonic.
    """
    steps = np.diff(values)
    if len(values) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise InputDataError(
            "cell edges cannot be told from this axis: it needs two values or more, strictly monotonic",
            where=f"axis values {np.array2string(np.asarray(values), threshold=6)}",
            hint="give bounds in the file",
        )
    inner = values[:-1] + 0.5 * steps
    return np.concatenate([[values[0] - 0.5 * steps[0]], inner, [values[-1] + 0.5 * steps[-1]]])


def nearest_turn(lon: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Longitudes moved by whole turns to within 180 degrees of `centre`; those already there keep every bit."""
    return lon - 360.0 * np.round((lon - centre) / 360.0)


def from_bounds(lat: np.ndarray, lon: np.ndarray, lat_bounds: np.ndarray, lon_bounds: np.ndarray) -> Corners:
    """Corners of a longitude-latitude grid from its axes (ny,), (nx,) and their bounds (ny, 2), (nx, 2) in either order.

    Raises:
        InputDataError: a centre lies outside its own bounds (G08).
    """
    lat_bounds = np.sort(np.clip(lat_bounds, -90.0, 90.0), axis=1)
    lon_bounds = np.sort(nearest_turn(lon_bounds, lon[:, None]), axis=1)
    for name, values, bounds in (("lat", lat, lat_bounds), ("lon", lon, lon_bounds)):
        width = bounds[:, 1] - bounds[:, 0]
        slack = 1e-3 * width
        within = (width > 0) & (values >= bounds[:, 0] - slack) & (values <= bounds[:, 1] + slack)
        if not within.all():
            first = int(np.argmin(within))
            raise InputDataError(
                f"bounds of {name} do not enclose its values, first {values[first]:g} by {bounds[first, 0]:g} to {bounds[first, 1]:g}",
                hint="correct or remove the bounds in the file",
            )
    return _boxes(lat_bounds, lon_bounds)


def from_lonlat_axes(lat: np.ndarray, lon: np.ndarray) -> Corners | None:
    """Corners half-way between the axis values; None when an axis has one value only.

    Latitudes end at the poles. A row that comes within half its spacing of a pole, on a grid around the whole globe, reaches it.
    """
    if len(lat) < 2 or len(lon) < 2:
        return None
    lat_edges, lon_edges = axis_edges(lat), axis_edges(lon)
    if abs(abs(lon_edges[-1] - lon_edges[0]) - 360.0) < 1e-3:
        for end, spacing in ((0, lat[1] - lat[0]), (-1, lat[-1] - lat[-2])):
            if 90.0 - abs(lat_edges[end]) < 0.5 * abs(spacing):
                lat_edges[end] = np.copysign(90.0, lat_edges[end])
    lat_edges = np.clip(lat_edges, -90.0, 90.0)
    pair = np.stack([lat_edges[:-1], lat_edges[1:]], axis=1), np.stack([lon_edges[:-1], lon_edges[1:]], axis=1)
    return _boxes(np.sort(pair[0], axis=1), np.sort(pair[1], axis=1))


def from_projected_axes(crs: Crs, y: np.ndarray, x: np.ndarray, units: str) -> Corners | None:
    """Corners of half-cell edges of the projected axes, taken through the grid mapping; None when an axis has one value only."""
    if len(y) < 2 or len(x) < 2:
        return None
    x_2d, y_2d = np.meshgrid(axis_edges(x), axis_edges(y))
    lon, lat = to_lonlat(crs, x_2d, y_2d, units)
    lat, lon = (np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]], axis=2) for nodes in (lat, lon))
    return ordered(lat, lon)[0]


def ordered(lat_vertices: np.ndarray, lon_vertices: np.ndarray) -> tuple[Corners, int]:
    """Vertices (ny, nx, 4) in any order and winding made counter-clockwise; what already is so stays as it is.

    Returns:
        The corners, and how many cells were reordered.

    Raises:
        InputDataError: vertices are missing or a cell has no area (G08).
    """
    lat, lon = np.asarray(lat_vertices, dtype=np.float64), np.asarray(lon_vertices, dtype=np.float64)
    if not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise InputDataError("cell vertices are missing (NaN) in the grid", hint="remove the vertices from the file or fill them")
    vectors = unit_vectors(lat, lon)
    areas = np.stack([polygon_areas(vectors[..., order, :]) for order in _ORDERS])
    size = np.abs(areas)
    best = np.where(size[0] >= size.max(axis=0) * (1.0 - 1e-9), 0, size.argmax(axis=0))
    signed = np.take_along_axis(areas, best[None], axis=0)[0]
    if not (np.abs(signed) > 0.0).all():
        raise InputDataError(
            f"{int((signed == 0.0).sum())} cells have vertices that enclose no area", hint="remove the vertices from the file"
        )
    order = np.array(_ORDERS)[best]
    order = np.where((signed < 0.0)[..., None], order[..., [0, 3, 2, 1]], order)
    changed = int((order != np.arange(4)).any(axis=-1).sum())
    return (np.take_along_axis(lat, order, axis=-1), np.take_along_axis(lon, order, axis=-1)), changed


def require_enclosed(corners: Corners, centre: Corners) -> None:
    """Nothing when every cell (ny, nx, 4), counter-clockwise, holds its centre (ny, nx), within a hundredth of its size.

    Raises:
        InputDataError: some do not (G08).
    """
    vectors, point = unit_vectors(*corners), unit_vectors(*centre)
    size = np.linalg.norm(vectors[..., 2, :] - vectors[..., 0, :], axis=-1)
    beyond = (np.einsum("...vk,...k->...v", edge_normals(vectors), point) < -_SLACK * size[..., None]).any(axis=-1)
    far = np.linalg.norm(vectors.mean(axis=-2) - point, axis=-1) > size
    outside = int((beyond | far).sum())
    if outside:
        raise InputDataError(
            f"vertices of {outside} of {beyond.size} cells do not enclose their centre", hint="correct or remove the vertices"
        )


def _boxes(lat_bounds: np.ndarray, lon_bounds: np.ndarray) -> Corners:
    """Corners of boxes from ascending bounds (ny, 2) and (nx, 2)."""
    shape = (len(lat_bounds), len(lon_bounds), 4)
    lat = np.broadcast_to(lat_bounds[:, None, [0, 0, 1, 1]], shape)
    lon = np.broadcast_to(lon_bounds[None, :, [0, 1, 1, 0]], shape)
    return np.ascontiguousarray(lat), np.ascontiguousarray(lon)
