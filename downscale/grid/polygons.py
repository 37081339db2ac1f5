"""Polygons on the unit sphere with great-circle edges: areas and clipping, many at a time.

A polygon is an array (V, 3) of unit vectors, counter-clockwise seen from outside; a shorter polygon repeats its first
vertex at the end, which changes neither its area nor its clipping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ON_EDGE = 2e-15
_NO_EDGE = 1e-12


def unit_vectors(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) of latitudes and longitudes in degrees; both poles are exact, longitudes count modulo 360."""
    phi = np.deg2rad(np.asarray(lat, dtype=np.float64))
    turned = np.mod(np.asarray(lon, dtype=np.float64) + 180.0, 360.0) - 180.0
    lam = np.deg2rad(turned)
    cos_phi = np.where(np.abs(lat) >= 90.0, 0.0, np.cos(phi))
    return np.stack(np.broadcast_arrays(cos_phi * np.cos(lam), cos_phi * np.sin(lam), np.sin(phi)), axis=-1)


def lat_lon(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (-180..180) in degrees of vectors (..., 3) of any length above zero."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))


def degrees_apart(lat_a: np.ndarray, lon_a: np.ndarray, lat_b: np.ndarray, lon_b: np.ndarray) -> np.ndarray:
    """Great-circle distance in degrees between points; longitudes count modulo 360."""
    chord = np.linalg.norm(unit_vectors(lat_a, lon_a) - unit_vectors(lat_b, lon_b), axis=-1)
    return np.rad2deg(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)))


def polygon_areas(vertices: np.ndarray) -> np.ndarray:
    """Signed areas (...) in steradian of polygons (..., V, 3); counter-clockwise is positive.

    A fan of triangles about the first vertex, each by van Oosterom and Strackee (1983, IEEE Trans. Biomed. Eng. 30, 125):
    tan(E/2) = a.(b x c) / (1 + a.b + b.c + c.a). The triple product is taken as a.((b-a) x (c-a)), so that small cells
    keep their relative precision.
    """
    apex = vertices[..., :1, :]
    arms = vertices[..., 1:, :] - apex
    triple = _dot(_cross(arms[..., :-1, :], arms[..., 1:, :]), apex)
    to_apex = _dot(vertices[..., 1:, :], apex)
    along = _dot(vertices[..., 1:-1, :], vertices[..., 2:, :])
    excess = 2.0 * np.arctan2(triple, 1.0 + to_apex[..., :-1] + to_apex[..., 1:] + along)
    return excess.sum(axis=-1)


def edge_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals (..., V, 3) of the great circles through each corner and the next, pointing into the polygon.

    (a + b) x (b - a) is 2 a x b without cancellation, and exactly antisymmetric: two cells that share an edge get exactly
    opposite normals. An edge without length, as of a cell that ends in a pole, gets a zero normal.
    """
    following = np.roll(corners, -1, axis=-2)
    normals = _cross(corners + following, following - corners)
    length = np.sqrt(_dot(normals, normals))[..., None]
    normals /= np.where(length > _NO_EDGE, length, np.inf)
    return normals


def clip_polygons(polygons: np.ndarray, anchors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The parts of polygons (P, V, 3) inside convex cells given by E edges each: (P, V + E, 3).

    Sutherland and Hodgman (1974, Commun. ACM 17, 32) with half-spaces through the centre of the sphere; every polygon and
    its cell must lie within one hemisphere. A vertex closer to an edge than rounding counts as on it. Where nothing is left
    all vertices coincide.

    Args:
        polygons: the polygons to cut, one per pair.
        anchors: (P, E, 3) a point on each edge of the pair's cell.
        normals: (P, E, 3) inward normals; a zero normal cuts nothing.
    """
    count, size, _ = polygons.shape
    edges = normals.shape[1]
    clipped = np.empty((count, size + edges, 3))
    clipped[:, :size] = polygons
    clipped[:, size:] = polygons[:, :1]
    for edge in range(edges):
        used = size + edge
        side = _side(clipped[:, :used], anchors[:, edge], normals[:, edge])
        cut = np.flatnonzero((side < 0.0).any(axis=1))
        if cut.size:
            clipped[cut, : used + 1] = _clip_once(clipped[cut, :used], side[cut])
            clipped[cut, used + 1 :] = clipped[cut, :1]
    return clipped


def _side(polygons: np.ndarray, anchor: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Distances (P, V) from the edge's plane, positive inside, exactly zero within rounding of it."""
    distance = np.einsum("pvk,pk->pv", polygons - anchor[:, None, :], normal)
    distance[np.abs(distance) <= ON_EDGE] = 0.0
    return distance


def _clip_once(polygons: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Polygons (P, V, 3) cut by one plane each, given the vertices' distances: (P, V + 1, 3)."""
    count, size, _ = polygons.shape
    following = np.roll(polygons, -1, axis=1)
    side_next = np.roll(side, -1, axis=1)
    crossing = side * side_next < 0.0
    share = np.where(crossing, side, 0.0) / np.where(crossing, side - side_next, 1.0)
    points = polygons + share[..., None] * (following - polygons)
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    emitted = np.stack([side >= 0.0, crossing], axis=2).reshape(count, 2 * size)
    candidates = np.stack([polygons, points], axis=2).reshape(count, 2 * size, 3)
    first = candidates[np.arange(count), emitted.argmax(axis=1)]
    result = np.repeat(first[:, None, :], size + 1, axis=1)
    row, column = np.nonzero(emitted)
    place = np.minimum(np.cumsum(emitted, axis=1)[row, column] - 1, size)
    result[row, place] = candidates[row, column]
    return result


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left[..., 0] * right[..., 0] + left[..., 1] * right[..., 1] + left[..., 2] * right[..., 2]


def _cross(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    product = np.empty(np.broadcast_shapes(left.shape, right.shape))
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        np.subtract(left[..., i] * right[..., j], left[..., j] * right[..., i], out=product[..., k])
    return product


def point_tree(points: np.ndarray) -> Any:
    """A k-d tree of points (n, 3); scipy.spatial is loaded here because only the making of weights needs it."""
    from scipy.spatial import cKDTree

    return cKDTree(points)
