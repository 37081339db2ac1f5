"""Grids the grid tests share: rotated pole, Lambert in km, longitude-latitude, global."""

from __future__ import annotations

import numpy as np
import xarray as xr

from downscale.grid.grid import Grid, lonlat_grid

EURO = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
LAMBERT = {
    "grid_mapping_name": "lambert_conformal_conic",
    "longitude_of_central_meridian": 10.5,
    "latitude_of_projection_origin": 49.5,
    "standard_parallel": [45.0, 55.0],
    "earth_radius": 6371229.0,
}


def projected_dataset(y, x, crs, names=("rlat", "rlon"), units="degrees") -> xr.Dataset:
    standard = ("projection_y_coordinate", "projection_x_coordinate") if units != "degrees" else ("grid_latitude", "grid_longitude")
    coords = {
        name: (name, values, {"standard_name": std, "units": units}) for name, values, std in zip(names, (y, x), standard, strict=True)
    }
    return xr.Dataset(coords=coords).assign(crs=((), 0, crs))


def rotated(ny=24, nx=28, spacing=0.44, south=-8.0, west=-12.0, crs=EURO) -> Grid:
    return Grid.from_dataset(projected_dataset(south + spacing * np.arange(ny), west + spacing * np.arange(nx), crs))


def lambert_km(ny=20, nx=22, spacing=50.0) -> Grid:
    y, x = spacing * (np.arange(ny) - ny / 2), spacing * (np.arange(nx) - nx / 2)
    return Grid.from_dataset(projected_dataset(y, x, LAMBERT, ("y", "x"), "km"))


def box(lon_min, lon_max, lat_min, lat_max, step) -> Grid:
    return lonlat_grid(
        np.linspace(lat_min, lat_max, round((lat_max - lat_min) / step) + 1),
        np.linspace(lon_min, lon_max, round((lon_max - lon_min) / step) + 1),
    )


def globe(step, west=0.0) -> Grid:
    return box(west, west + 360.0, -90.0, 90.0, step)


def gaussian(rows, west=0.0) -> Grid:
    """Gaussian latitudes, edges half-way between them, twice as many columns."""
    lat = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(rows)[0]))
    edges = np.concatenate([[-90.0], 0.5 * (lat[1:] + lat[:-1]), [90.0]])
    return lonlat_grid(edges, np.linspace(west, west + 360.0, 2 * rows + 1))


def smooth_field(grid: Grid) -> np.ndarray:
    return 2.0 + np.cos(np.deg2rad(grid.lat)) ** 2 * np.cos(2.0 * np.deg2rad(grid.lon))
