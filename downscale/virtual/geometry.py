"""Grids of the virtual climate: a rotated-pole RCM grid, regional cuts of global grids, and the plane they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from downscale.virtual.world import EARTH_RADIUS, GcmParameters, Size, World

MARGIN_CELLS = 3


@dataclass(frozen=True, eq=False)
class RcmGrid:
    """The RCM grid: rotated axes, cell centres and the four corners of each cell, all in degrees; corners counter-clockwise."""

    rlon: np.ndarray
    rlat: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    lon_vertices: np.ndarray
    lat_vertices: np.ndarray
    resolution: float
    pole_lon: float
    pole_lat: float


@dataclass(frozen=True, eq=False)
class GcmGrid:
    """A regional cut of a global grid; centres ascending, longitude continuous through Greenwich (files may differ)."""

    lon: np.ndarray
    lat: np.ndarray
    spacing: float


@dataclass(frozen=True)
class Boxes:
    """Where things are.

    Attributes:
        coarse: edges of the coarse box: lon_min, lon_max, lat_min, lat_max, degrees.
        inner, target: RCM cells (start, stop) of both axes: what is left without relaxation, and the target.
    """

    coarse: tuple[float, float, float, float]
    inner: tuple[int, int]
    target: tuple[int, int]


def unrotate(rlon: np.ndarray, rlat: np.ndarray, pole_lon: float, pole_lat: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotated to true longitude and latitude, degrees; CF rotated_latitude_longitude with north_pole_grid_longitude = 0."""
    a, b, p = np.radians(rlon), np.radians(rlat), math.radians(pole_lat)
    x, y, z = np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)
    lon = np.degrees(np.arctan2(-y, -x * math.sin(p) + z * math.cos(p))) + pole_lon
    lat = np.degrees(np.arcsin(np.clip(x * math.cos(p) + z * math.sin(p), -1.0, 1.0)))
    return (lon + 180.0) % 360.0 - 180.0, lat


def rotate(lon: float, lat: float, pole_lon: float, pole_lat: float) -> tuple[float, float]:
    """True to rotated longitude and latitude of one point, degrees."""
    a, b, p = math.radians(lon - pole_lon), math.radians(lat), math.radians(pole_lat)
    x = -math.cos(b) * math.cos(a) * math.sin(p) + math.sin(b) * math.cos(p)
    z = math.cos(b) * math.cos(a) * math.cos(p) + math.sin(b) * math.sin(p)
    return math.degrees(math.atan2(-math.cos(b) * math.sin(a), x)), math.degrees(math.asin(z))


def rcm_grid(world: World, size: Size) -> RcmGrid:
    """The RCM grid, centred on the world's centre."""
    centre = rotate(world.centre_lon, world.centre_lat, world.pole_lon, world.pole_lat)
    steps = (np.arange(size.rcm_cells) - (size.rcm_cells - 1) / 2.0) * size.resolution
    rlon, rlat = np.round(centre[0], 4) + steps, np.round(centre[1], 4) + steps
    x, y = np.meshgrid(rlon, rlat)
    lon, lat = unrotate(x, y, world.pole_lon, world.pole_lat)
    half = size.resolution / 2.0
    around = ((-half, -half), (half, -half), (half, half), (-half, half))
    meshes = [np.meshgrid(rlon + dx, rlat + dy) for dx, dy in around]
    corners = [unrotate(x, y, world.pole_lon, world.pole_lat) for x, y in meshes]
    lon_vertices, lat_vertices = (np.stack([corner[axis] for corner in corners], axis=-1) for axis in (0, 1))
    return RcmGrid(rlon, rlat, lon, lat, lon_vertices, lat_vertices, size.resolution, world.pole_lon, world.pole_lat)


def boxes(world: World, size: Size) -> Boxes:
    """Coarse box, RCM inside its relaxation zone, and target."""
    half = size.coarse_cells * size.coarse_degrees / 2.0
    lon, lat = world.centre_lon, world.centre_lat
    first = (size.rcm_cells - size.target_cells) // 2
    return Boxes(
        (lon - half, lon + half, lat - half, lat + half),
        (size.relaxation_cells, size.rcm_cells - size.relaxation_cells),
        (first, first + size.target_cells),
    )


def gcm_grid(world: World, size: Size, gcm: GcmParameters) -> GcmGrid:
    """The GCM's cells that cover the coarse box and at least MARGIN_CELLS coarse cells around it."""
    reach = MARGIN_CELLS * size.coarse_degrees
    box = boxes(world, size).coarse

    def centres(low: float, high: float) -> np.ndarray:
        first = math.floor((low - gcm.offset) / gcm.spacing)
        last = math.ceil((high - gcm.offset) / gcm.spacing)
        return gcm.offset + gcm.spacing * (np.arange(first, last) + 0.5)

    return GcmGrid(centres(box[0] - reach, box[1] + reach), centres(box[2] - reach, box[3] + reach), gcm.spacing)


def plane(world: World, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equirectangular plane coordinates in metres, zero at the centre."""
    scale = math.cos(math.radians(world.centre_lat))
    return EARTH_RADIUS * scale * np.radians(lon - world.centre_lon), EARTH_RADIUS * np.radians(lat - world.centre_lat)


def taper(size: Size) -> np.ndarray:
    """(y, x) weight of the RCM's own large scale: 0 in the outermost cells, 1 from taper_cells inwards (smoothstep)."""
    distance = np.minimum(np.arange(size.rcm_cells), np.arange(size.rcm_cells)[::-1])
    s = np.clip(distance / size.taper_cells, 0.0, 1.0)
    ramp = s * s * (3.0 - 2.0 * s)
    return np.outer(ramp, ramp)
