"""What an installed `cdo` makes of two grids: the weights of gencon, read back as a matrix."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import xarray as xr
from scipy.sparse import csr_array

CDO = shutil.which("cdo")


def gencon(source, target, folder, took=None) -> csr_array:
    """Row-normalised weights (n_target, n_source) by `cdo gencon`, both grids written as CF files with bounds or vertices.

    The seconds of cdo's process are added to the list `took`.
    """
    paths = []
    for name, grid in (("source", source), ("target", target)):
        dataset = curvilinear(grid) if not grid.is_latlon else grid.to_dataset()
        dims = ("lat", "lon") if grid.is_latlon else ("y", "x")
        dataset["field"] = (dims, np.ones(grid.shape), {} if grid.is_latlon else {"coordinates": "lat lon"})
        paths.append(folder / f"{name}.nc")
        dataset.to_netcdf(paths[-1])
    out = folder / "weights.nc"
    command = [CDO, "-s", "-O", "-L", "-P", "1", f"gencon,{paths[1]}", str(paths[0]), str(out)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if took is not None:
        took.append(time.perf_counter() - began)
    assert done.returncode == 0, done.stderr
    with xr.open_dataset(out) as file:
        links = file["remap_matrix"].values[:, 0], (file["dst_address"].values - 1, file["src_address"].values - 1)
        return csr_array(links, shape=(target.lat.size, source.lat.size))


def curvilinear(grid) -> xr.Dataset:
    """Two-dimensional latitude and longitude with their vertices, nothing else."""
    bounds = {
        "lat_vertices": (("y", "x", "v"), grid.lat_corners),
        "lon_vertices": (("y", "x", "v"), grid.lon_corners),
    }
    attrs = {"units": "degrees_north", "standard_name": "latitude", "bounds": "lat_vertices"}
    other = {"units": "degrees_east", "standard_name": "longitude", "bounds": "lon_vertices"}
    return xr.Dataset({**bounds}, coords={"lat": (("y", "x"), grid.lat, attrs), "lon": (("y", "x"), grid.lon, other)})
