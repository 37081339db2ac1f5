"""The parts of an output file besides its data: time, horizontal coordinates, grid mapping, and the variable with its attributes.

Layout: CORDEX-CMIP6 archiving specifications v3 (doi:10.5281/zenodo.20274448), sections 3 to 8, and CF conventions 1.11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def define_time(file: netCDF4.Dataset, calendar: str, length: int | None = None) -> None:
    """The unlimited time dimension with its axis and bounds, days since 1850-01-01, in one chunk where the number of days is known."""
    chunk = length or _TIME_CHUNK
    file.createDimension("time", None)
    file.createDimension("bnds", 2)
    time = file.createVariable("time", "f8", ("time",), chunksizes=(chunk,), fill_value=False)
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
    file.createVariable("time_bnds", "f8", ("time", "bnds"), chunksizes=(chunk, 2), fill_value=False)


def define_series(file: netCDF4.Dataset, name: str, attributes: Mapping[str, Any], length: int | None = None) -> netCDF4.Variable:
    """A number a day: bytes where its flags are, else float32 with NaN where there is none."""
    about = {key: value if isinstance(value, str) else np.asarray(value) for key, value in attributes.items()}
    flags = next((about[key] for key in ("flag_masks", "flag_values") if key in about), None)
    fill = about.pop("_FillValue", np.float32(np.nan) if flags is None else False)
    series = file.createVariable(
        name, "f4" if flags is None else np.asarray(flags).dtype, ("time",), chunksizes=(length or _TIME_CHUNK,), fill_value=fill
    )
    series.setncatts(about if flags is not None else {"units": "1", **about})
    return series


def is_coordinate(attributes: Mapping[str, Any]) -> bool:
    """Whether a number a day says when it is (the lead time of a forecast), rather than something about the fields."""
    return attributes.get("standard_name") in ("forecast_period", "forecast_reference_time")


def define_field(
    file: netCDF4.Dataset,
    variable: Variable,
    coordinates: Coordinates | xr.Dataset,
    compression: int,
    *,
    timed: bool,
    members: Sequence[str] = (),
    series: Mapping[str, Mapping[str, Any]] | None = None,
) -> netCDF4.Variable:
    """Coordinates and one variable on them: (time, y, x) when ``timed``, else (y, x); chunks of about 4 MB.

    ``series`` are the numbers a day beside it, to which it refers. With members the dimensions are (time, realization, y, x): time has
    no fixed length and so comes first in the classic model.
    """
    plane = _horizontal_dims(coordinates)
    _define_coordinates(file, coordinates, plane)
    sizes = tuple(len(file.dimensions[dim]) for dim in plane)
    chunk_days = chunk_length(*sizes)
    dims: tuple[str, ...] = ("time", *plane) if timed else plane
    chunks: tuple[int, ...] = (chunk_days, *sizes) if timed else sizes
    auxiliary = [name for name in ("lat", "lon") if plane != ("lat", "lon")]
    if members:
        dims, chunks = ("time", "realization", *plane), (chunk_days, 1, *sizes)
        auxiliary.append(_define_members(file, members))
    filters: dict[str, Any] = {"compression": "zlib", "complevel": compression, "shuffle": True} if compression else {}
    field = file.createVariable(variable.name, "f4", dims, fill_value=FILL, chunksizes=chunks, **filters)
    if timed:  # the library's own cache would hold tens of MB of a long file
        held = max(2, len(members) + 1)
        field.set_var_chunk_cache(size=held * 4 * chunk_days * sizes[0] * sizes[1], nelems=5 * held + 1, preemption=1.0)
    if variable.height_m is not None:
        _define_height(file, variable.height_m)
        auxiliary.append("height")
    about_days = series or {}
    auxiliary += [name for name, about in about_days.items() if is_coordinate(about)]
    ancillary = [name for name, about in about_days.items() if not is_coordinate(about)]
    attributes: dict[str, Any] = {"standard_name": variable.standard_name, "long_name": variable.long_name, "units": variable.file_units}
    attributes |= {"cell_methods": variable.cell_methods, "missing_value": FILL}
    if variable.file_units == "K":
        attributes["units_metadata"] = "temperature: on_scale"
    if auxiliary:
        attributes["coordinates"] = " ".join(auxiliary)
    if ancillary:
        attributes["ancillary_variables"] = " ".join(ancillary)
    if "crs" in file.variables:
        attributes["grid_mapping"] = "crs"
    field.setncatts(attributes)
    return field


def chunk_length(ny: int, nx: int) -> int:
    """Days of float32 fields in a chunk of about 4 MB."""
    return max(1, min(_TIME_CHUNK, -(-CHUNK_BYTES // max(1, 4 * ny * nx))))


def _define_members(file: netCDF4.Dataset, members: Sequence[str]) -> str:
    """The realizations, numbered from 1, and a label for each; the name of the latter (without it CDO reads no file with a height)."""
    file.createDimension("realization", len(members))
    number = file.createVariable("realization", "i4", ("realization",), fill_value=False)
    number.setncatts({"standard_name": "realization", "long_name": "number of the member", "units": "1"})
    number[:] = np.arange(1, len(members) + 1)
    texts = [label.encode() for label in members]
    width = max(map(len, texts))
    file.createDimension("label_length", width)
    label = file.createVariable("member_label", "S1", ("realization", "label_length"), fill_value=False)
    label.setncatts({"long_name": "what the member is"})
    label[:] = netCDF4.stringtochar(np.array(texts, dtype=f"S{width}"))
    return "member_label"


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
        vertices = {name: found for name in ("lat", "lon") if (found := _vertices(coordinates, name))}
        for name in ("lat", "lon"):
            _put(file, name, plane, coordinates[name].values, _attributes(coordinates[name], bounds=vertices.get(name, False)))
        for found in vertices.values():
            if "vertices" not in file.dimensions:
                file.createDimension("vertices", coordinates.sizes[str(coordinates[found].dims[-1])])
            _put(file, found, (*plane, "vertices"), coordinates[found].values, {})
    if "crs" in coordinates:
        file.createVariable("crs", "i4", (), fill_value=False).setncatts(
            {str(key): _plain(value) for key, value in coordinates["crs"].attrs.items()}
        )
        file["crs"][...] = 0


def _vertices(coordinates: Coordinates | xr.Dataset, name: str) -> str:
    """Name of the corners of 2-D latitudes or longitudes; empty when they are not known."""
    return next((found for found in (str(coordinates[name].attrs.get("bounds", "")), f"{name}_vertices") if found in coordinates), "")


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
