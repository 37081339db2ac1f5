"""Convex great-circle polygons cut by circles of latitude: exact intersections, and areas under arcs in closed form.

A polygon is an array (V, 3) as in `polygons`; what lies poleward of a parallel is a convex cap, so that every edge has at most
one piece in it, and what is left is a polygon whose gaps run along the parallel.
"""

from __future__ import annotations

import numpy as np

from downscale.grid.polygons import ON_EDGE, edge_normals, polygon_areas

_STEEP = 0.7
_TOUCH = 1e-15
_SAME_POINT = 1e-9
_MIRROR = np.array([1.0, 1.0, -1.0])


def sin_cos(lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of latitudes in degrees; the cosine of a pole is exactly 0."""
    phi = np.deg2rad(np.asarray(lat, dtype=np.float64))
    return np.sin(phi), np.where(np.abs(lat) >= 90.0, 0.0, np.cos(phi))


def zone_areas(south: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Areas per radian of longitude between latitudes in degrees: sin(north) - sin(south), without cancellation."""
    south, north = np.deg2rad(south), np.deg2rad(north)
    return 2.0 * np.cos(0.5 * (north + south)) * np.sin(0.5 * (north - south))


def lens_areas(turn: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Areas between a parallel and the great circle through two of its points, on the parallel's side of that chord.

    The sector of the polar cap less the triangle of the pole and the two points: with u half the turn and m = 1 - sine,
    2 u m - 2 atan(m sin u cos u / (cos^2 u + sine sin^2 u)), from tan(E/2) of a spherical triangle with two equal sides.

    Args:
        turn: eastward angle from the first point to the second, 0 to 2 pi.
        sine: sine of the parallel's latitude, not negative.
        cosine: its cosine; m is taken from it as cosine^2 / (1 + sine), which keeps its precision near the pole.
    """
    half, cap = 0.5 * turn, cosine**2 / (1.0 + sine)
    sin_u, cos_u = np.sin(half), np.cos(half)
    return 2.0 * (half * cap - np.arctan2(cap * sin_u * cos_u, cos_u**2 + sine * sin_u**2))


def areas_between(polygons: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Areas (P,) of the parts of convex polygons (P, V, 3) between the parallels `low` and `high` (P,), degrees.

    A polygon is counter-clockwise and lies within a hemisphere. A `low` of -90 and a `high` of 90 cut nothing.
    """
    area = polygon_areas(polygons)
    upper = np.zeros_like(area)
    south, north = np.flatnonzero(low > -90.0), np.flatnonzero(high < 90.0)
    upper[north] = _areas_above(polygons[north], high[north], area[north])
    area[south] = _areas_above(polygons[south], low[south], area[south])
    return area - upper


def _areas_above(polygons: np.ndarray, lat: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Areas (P,) north of one parallel each."""
    north = lat >= 0.0
    area = np.empty_like(whole)
    area[north] = _areas_in_cap(polygons[north], lat[north], whole[north])
    south = ~north
    mirrored = (polygons[south] * _MIRROR)[:, ::-1]
    area[south] = whole[south] - _areas_in_cap(mirrored, -lat[south], whole[south])
    return area


def _areas_in_cap(polygons: np.ndarray, lat: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Areas (P,) within the northern cap beyond latitudes 0 to 90, given the polygons' whole areas."""
    sine, cosine = sin_cos(lat)
    height = _heights(polygons, sine, cosine)
    inside = height >= 0.0
    everything = inside.all(axis=1)
    area = np.where(everything, whole, 0.0)
    breadth = ((polygons - polygons[:, :1]) ** 2).sum(axis=-1).max(axis=1)
    reach = np.where(sine > _STEEP, np.sqrt(breadth), breadth)
    cut = np.flatnonzero(~everything & (inside.any(axis=1) | (height.max(axis=1) > -reach)))
    if cut.size:
        area[cut] = _cut_areas(polygons[cut], inside[cut], sine[cut], cosine[cut])
    return area


def _heights(polygons: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """How far (P, V) the vertices lie within the cap; measured across the axis near the pole, where z tells too little."""
    height = polygons[..., 2] - sine[:, None]
    steep = np.flatnonzero(sine > _STEEP)
    if steep.size:
        x, y, z = np.moveaxis(polygons[steep], -1, 0)
        height[steep] = np.where(z > 0.0, cosine[steep, None] - np.hypot(x, y), -1.0)
    height[np.abs(height) <= ON_EDGE] = 0.0
    return height


def _cut_areas(polygons: np.ndarray, inside: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Areas (P,) of the polygons within their caps, given which vertices (P, V) lie in them."""
    normals = edge_normals(polygons)
    entry, leave, hump = _crossings(polygons, normals, inside, sine[:, None], cosine[:, None])
    inside_next = np.roll(inside, -1, axis=1)
    used = inside | inside_next | hump
    start = np.where(inside[..., None], polygons, entry)
    end = np.where(inside_next[..., None], np.roll(polygons, -1, axis=1), leave)
    last = np.maximum.accumulate(np.where(used, np.arange(used.shape[1]), -1), axis=1)
    last = np.where(last < 0, last[:, -1:], last)
    end = np.take_along_axis(end, last[..., None], axis=1)
    start = np.where(used[..., None], start, end)
    outline = np.stack([start, end], axis=2).reshape(len(polygons), -1, 3)
    area = polygon_areas(outline)
    pair, edge = np.nonzero(used & ~inside)
    turn = _eastward(np.roll(end, 1, axis=1)[pair, edge], start[pair, edge])
    np.add.at(area, pair, lens_areas(turn, sine[pair], cosine[pair]))
    real = (normals != 0.0).any(axis=-1)
    around = ((normals[..., 2] > 0.0) | ~real).all(axis=1) & (real.sum(axis=1) > 2)
    return np.where(used.any(axis=1), area, np.where(around, 2.0 * np.pi * cosine**2 / (1.0 + sine), 0.0))


def _crossings(
    polygons: np.ndarray, normals: np.ndarray, inside: np.ndarray, sine: np.ndarray, cosine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each edge's great circle enters and leaves the cap (P, V, 3), and the edges that do both between two outer ends.

    With the normal n, k2 = nx^2 + ny^2 and h^2 = k2 - sine^2 = cosine^2 - nz^2, both points lie at height z = sine, before and
    behind the circle's northernmost point: (-sine nz nx -+ h ny, -sine nz ny +- h nx) / k2, minus and plus for the entry.
    """
    x, y, z = np.moveaxis(normals, -1, 0)
    flat = x**2 + y**2
    reach = np.where(sine > _STEEP, (cosine - z) * (cosine + z), flat - sine**2)
    half = np.sqrt(np.maximum(reach, 0.0))
    points = []
    for side in (-1.0, 1.0):
        across = -sine * z * x + side * half * y, -sine * z * y - side * half * x
        length = np.hypot(*across)
        scale = np.divide(cosine, length, out=np.zeros_like(length), where=length > 0.0)
        points.append(np.stack([across[0] * scale, across[1] * scale, np.broadcast_to(sine, scale.shape)], axis=-1))
    following = np.roll(polygons, -1, axis=1)
    rising = x * polygons[..., 1] - y * polygons[..., 0] > 0.0
    falling = x * following[..., 1] - y * following[..., 0] < 0.0
    hump = ~inside & ~np.roll(inside, -1, axis=1) & rising & falling & (reach > _TOUCH * cosine**2)
    return points[0], points[1], hump


def _eastward(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle (n,) from one point to the other around the axis, 0 to 2 pi; one point twice within rounding counts as no turn."""
    across = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    turn = np.arctan2(across, first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1])
    return np.where(turn < -_SAME_POINT, turn + 2.0 * np.pi, np.maximum(turn, 0.0))
