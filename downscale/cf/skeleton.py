"""The parts of an output file besides its data: time, horizontal coordinates, grid mapping, and the variable with its attributes.

Layout: CORDEX-CMIP6 archiving specifications v3 (doi:10.5281/zenodo.20274448), sections 3 to 8, and CF conventions 1.11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import TIME_UNITS
from downscale.coordinates import Coordinate, Coordinates
from downscale.variables import Variable

if TYPE_CHECKING:
    import xarray as xr

FILL = np.float32(1e20)
CHUNK_BYTES = 4_000_000
_TIME_CHUNK = 512
_COPIED = ("standard_name", "long_name", "units")


def define_time(file: netCDF4.Dataset, calendar: str) -> None:
    """The unlimited time dimension with its axis and bounds, which hold days since 1850-01-01."""
    file.createDimension("time", None)
    file.createDimension("bnds", 2)
    time = file.createVariable("time", "f8", ("time",), chunksizes=(_TIME_CHUNK,), fill_value=False)
    attributes = {
        "standard_name": "time",
        "long_name": "time",
        "axis": "T",
        "units": TIME_UNITS,
        "calendar": calendar,
        "bounds": "time_bnds",
    }
    if calendar in ("standard", "julian"):
        attributes["units_metadata"] = "leap_seconds: none"
    time.setncatts(attributes)
    file.createVariable("time_bnds", "f8", ("time", "bnds"), chunksizes=(_TIME_CHUNK, 2), fill_value=False)


def define_field(
    file: netCDF4.Dataset, variable: Variable, coordinates: Coordinates | xr.Dataset, compression: int, *, timed: bool
) -> netCDF4.Variable:
    """Coordinates and one variable on them: (time, y, x) when ``timed``, else (y, x); chunks of about 4 MB."""
    plane = _horizontal_dims(coordinates)
    _define_coordinates(file, coordinates, plane)
    sizes = tuple(len(file.dimensions[dim]) for dim in plane)
    chunk_days = max(1, min(_TIME_CHUNK, -(-CHUNK_BYTES // max(1, 4 * sizes[0] * sizes[1]))))
    filters: dict[str, Any] = {"compression": "zlib", "complevel": compression, "shuffle": True} if compression else {}
    field = file.createVariable(
        variable.name,
        "f4",
        ("time", *plane) if timed else plane,
        fill_value=FILL,
        chunksizes=(chunk_days, *sizes) if timed else sizes,
        **filters,
    )
    if timed:  # the library's own cache would hold tens of MB of a long file
        field.set_var_chunk_cache(size=2 * 4 * chunk_days * sizes[0] * sizes[1], nelems=11, preemption=1.0)
    auxiliary = [name for name in ("lat", "lon") if plane != ("lat", "lon")]
    if variable.height_m is not None:
        _define_height(file, variable.height_m)
        auxiliary.append("height")
    attributes: dict[str, Any] = {"standard_name": variable.standard_name, "long_name": variable.long_name, "units": variable.file_units}
    attributes |= {"cell_methods": variable.cell_methods, "missing_value": FILL}
    if variable.file_units == "K":
        attributes["units_metadata"] = "temperature: on_scale"
    if auxiliary:
        attributes["coordinates"] = " ".join(auxiliary)
    if "crs" in file.variables:
        attributes["grid_mapping"] = "crs"
    field.setncatts(attributes)
    return field


def _horizontal_dims(coordinates: Coordinates | xr.Dataset) -> tuple[str, str]:
    dims = tuple(str(dim) for dim in coordinates["lat"].dims)
    return ("lat", "lon") if len(dims) == 1 else (dims[0], dims[1])


def _define_coordinates(file: netCDF4.Dataset, coordinates: Coordinates | xr.Dataset, plane: tuple[str, str]) -> None:
    """Axes, latitudes and longitudes with bounds or vertices, and the grid mapping."""
    for dim, axis in zip(plane, "YX", strict=True):
        file.createDimension(dim, coordinates.sizes[dim])
        if dim in coordinates.variables:
            _define_axis(file, dim, coordinates, axis)
    if plane != ("lat", "lon"):
        for name in ("lat", "lon"):
            _put(
                file,
                name,
                plane,
                coordinates[name].values,
                _attributes(coordinates[name], bounds=f"{name}_vertices" in coordinates and f"{name}_vertices"),
            )
        if "lat_vertices" in coordinates:
            file.createDimension("vertices", coordinates.sizes[str(coordinates["lat_vertices"].dims[-1])])
            for name in ("lat_vertices", "lon_vertices"):
                _put(file, name, (*plane, "vertices"), coordinates[name].values, {})
    if "crs" in coordinates:
        file.createVariable("crs", "i4", (), fill_value=False).setncatts(
            {str(key): _plain(value) for key, value in coordinates["crs"].attrs.items()}
        )
        file["crs"][...] = 0


def _define_axis(file: netCDF4.Dataset, dim: str, coordinates: Coordinates | xr.Dataset, axis: str) -> None:
    values = np.asarray(coordinates[dim].values, dtype=np.float64)
    bounds = coordinates[f"{dim}_bnds"].values if f"{dim}_bnds" in coordinates else _midpoints(values, 90.0 if dim == "lat" else np.inf)
    if "bnds" not in file.dimensions:
        file.createDimension("bnds", 2)
    _put(file, dim, (dim,), values, {**_attributes(coordinates[dim], bounds=bounds is not None and f"{dim}_bnds"), "axis": axis})
    if bounds is not None:
        _put(file, f"{dim}_bnds", (dim, "bnds"), bounds, {})


def _midpoints(values: NDArray[np.float64], limit: float) -> NDArray[np.float64] | None:
    """(n, 2) cell edges half-way between neighbours, the outer ones by the same distance; None for a single value."""
    if len(values) < 2:
        return None
    inner = (values[1:] + values[:-1]) / 2.0
    edges = np.concatenate([[2.0 * values[0] - inner[0]], inner, [2.0 * values[-1] - inner[-1]]])
    edges = np.clip(edges, -limit, limit)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _define_height(file: netCDF4.Dataset, height: float) -> None:
    variable = file.createVariable("height", "f8", (), fill_value=False)
    variable.setncatts({"standard_name": "height", "long_name": "height", "units": "m", "positive": "up", "axis": "Z"})
    variable[...] = height


def _put(file: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: Any, attributes: Mapping[str, Any]) -> None:
    variable = file.createVariable(name, "f8", dims, fill_value=False)
    variable.setncatts(dict(attributes))
    variable[:] = np.asarray(values, dtype=np.float64)


def _attributes(coordinate: Coordinate | xr.DataArray, *, bounds: str | bool) -> dict[str, Any]:
    known = {key: _plain(coordinate.attrs[key]) for key in _COPIED if key in coordinate.attrs}
    return {**known, "bounds": bounds} if bounds else known


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value)
