"""Small climate files on disk for the tests of cf: every part that can go wrong can be set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pyproj
import pytest

from downscale.cf.calendar import expected_days
from downscale.cf.open import Source, open_files
from downscale.errors import InputDataError

ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
    "earth_radius": 6371229.0,
}


@dataclass
class Spec:
    """One file with one variable; the field of a day depends on the day and the cell only, so that files can be compared."""

    name: str = "tas"
    first: int = 20010101
    last: int = 20010131
    calendar: str | None = "standard"
    units: str | None = "K"
    lat: Any = (40.0, 42.0, 44.0)
    lon: Any = (0.0, 2.0, 4.0, 6.0)
    dims: tuple[str, ...] = ("time", "lat", "lon")
    time_units: str = "days since 1850-01-01"
    stamp: float = 0.5
    bounds: bool = True
    sizes: dict[str, int] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    plev: Any = None
    plev_units: str = "Pa"
    height: float | None = None
    data: np.ndarray | None = None
    days: np.ndarray | None = None
    dtype: str = "f4"
    fill: Any = 1e20
    format: str = "NETCDF4"


def field_of(days: np.ndarray, lat: Any, lon: Any, base: float = 280.0) -> np.ndarray:
    """(time, lat, lon): a value that tells day, latitude and longitude (modulo 360) apart."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float) % 360.0
    return base + 0.01 * (days % 10000)[:, None, None] + 0.1 * lat[None, :, None] + 0.001 * lon[None, None, :]


def days_of(spec: Spec) -> np.ndarray:
    return expected_days(spec.first, spec.last, spec.calendar or "standard") if spec.days is None else np.asarray(spec.days)


def write(path: Path, spec: Spec | None = None, **changes: Any) -> Path:
    """Write one file and give its path back."""
    spec = Spec(**changes) if spec is None else spec
    days = days_of(spec)
    with netCDF4.Dataset(path, "w", format=spec.format) as file:
        sizes = {"time": len(days), "lat": len(spec.lat), "lon": len(spec.lon), "bnds": 2, **spec.sizes}
        if spec.plev is not None and np.ndim(spec.plev):
            sizes["plev"] = len(spec.plev)
        for dim in dict.fromkeys((*spec.dims, "bnds")):
            file.createDimension(dim, None if dim == "time" else sizes[dim])
        _time(file, spec, days)
        for name, values, units in (("lat", spec.lat, "degrees_north"), ("lon", spec.lon, "degrees_east")):
            axis = file.createVariable(name, "f8", (name,))
            axis.setncatts({"units": units, "standard_name": "latitude" if name == "lat" else "longitude"})
            axis[:] = values
        _level(file, spec)
        _field(file, spec, days, sizes)
    return path


def _time(file: netCDF4.Dataset, spec: Spec, days: np.ndarray) -> None:
    import cftime

    calendar = spec.calendar or "standard"
    dates = [cftime.datetime(d // 10000, d // 100 % 100, d % 100, calendar=calendar) for d in days.tolist()]
    numbers = np.array(cftime.date2num(dates, spec.time_units, calendar=calendar), dtype=float)
    step = {"days": 1.0, "hours": 24.0, "seconds": 86400.0}[spec.time_units.split()[0]]
    time = file.createVariable("time", "f8", ("time",))
    time.setncatts({"units": spec.time_units, "standard_name": "time", "axis": "T"})
    if spec.calendar:
        time.calendar = spec.calendar
    time[:] = numbers + spec.stamp * step
    if spec.bounds:
        time.bounds = "time_bnds"
        file.createVariable("time_bnds", "f8", ("time", "bnds"))[:] = np.stack([numbers, numbers + step], axis=1)


def _level(file: netCDF4.Dataset, spec: Spec) -> None:
    if spec.plev is not None:
        level = file.createVariable("plev", "f8", ("plev",) if np.ndim(spec.plev) else ())
        level.setncatts({"units": spec.plev_units, "standard_name": "air_pressure", "positive": "down"})
        level[...] = spec.plev
    if spec.height is not None:
        height = file.createVariable("height", "f8", ())
        height.setncatts({"units": "m", "standard_name": "height"})
        height[...] = spec.height


def _field(file: netCDF4.Dataset, spec: Spec, days: np.ndarray, sizes: dict[str, int]) -> None:
    values = field_of(days, spec.lat, spec.lon) if spec.data is None else spec.data
    variable = file.createVariable(spec.name, spec.dtype, spec.dims, fill_value=spec.fill)
    coordinates = " ".join(name for name, there in (("plev", spec.plev is not None), ("height", spec.height is not None)) if there)
    attrs = {key: value for key, value in (("units", spec.units), ("coordinates", coordinates)) if value}
    variable.setncatts(attrs | spec.attrs)
    if values.ndim == 3 and spec.dims != ("time", "lat", "lon"):
        present = [dim for dim in spec.dims if dim in ("time", "lat", "lon")]
        values = values.transpose([("time", "lat", "lon").index(dim) for dim in present])
        for position, dim in enumerate(spec.dims):
            if dim not in present:
                values = np.repeat(np.expand_dims(values, position), sizes[dim], axis=position)
    variable[:] = values


def write_rotated(path: Path, *, name: str = "tas", latlon: bool = True, vertices: bool = False, fixed: bool = False, **attrs: Any) -> Path:
    """A rotated-pole file of 4 x 5 cells and ten days (or a fixed field)."""
    rlat, rlon, days = np.arange(4) * 0.44 - 8.0, np.arange(5) * 0.44 - 12.0, expected_days(20010101, 20010110, "360_day")
    rotated = pyproj.CRS.from_cf(ROTATED)
    lon2, lat2 = pyproj.Transformer.from_crs(rotated, rotated.source_crs, always_xy=True).transform(*np.meshgrid(rlon, rlat))
    with netCDF4.Dataset(path, "w", format="NETCDF4_CLASSIC") as file:
        for dim, size in (("time", None), ("rlat", 4), ("rlon", 5), ("bnds", 2), ("vertices", 4)):
            file.createDimension(dim, size)
        for dim, values, standard in (("rlat", rlat, "grid_latitude"), ("rlon", rlon, "grid_longitude")):
            axis = file.createVariable(dim, "f8", (dim,))
            axis.setncatts({"standard_name": standard, "units": "degrees", "axis": "Y" if dim == "rlat" else "X"})
            axis[:] = values
        file.createVariable("rotated_pole", "S1", ()).setncatts(ROTATED)
        if latlon:
            for key, values, units in (("lat", lat2, "degrees_north"), ("lon", lon2 % 360.0, "degrees_east")):
                plane = file.createVariable(key, "f8", ("rlat", "rlon"))
                plane.setncatts({"units": units, "standard_name": "latitude" if key == "lat" else "longitude"})
                plane[:] = values
                if vertices:
                    plane.bounds = f"{key}_vertices"
                    shifts = np.array([-0.2, 0.2, 0.2, -0.2]) if key == "lon" else np.array([-0.2, -0.2, 0.2, 0.2])
                    file.createVariable(f"{key}_vertices", "f8", ("rlat", "rlon", "vertices"))[:] = values[..., None] + shifts
        dims = ("rlat", "rlon") if fixed else ("time", "rlat", "rlon")
        if not fixed:
            time = file.createVariable("time", "f8", ("time",))
            time.setncatts({"units": "days since 2001-01-01", "calendar": "360_day", "axis": "T"})
            time[:] = np.arange(10) + 0.5
        variable = file.createVariable(name, "f4", dims, fill_value=1e20)
        variable.setncatts({"units": "K", "grid_mapping": "rotated_pole", "coordinates": "lat lon", **attrs})
        plane = 280.0 + np.arange(20.0).reshape(4, 5)
        variable[:] = plane if fixed else plane + np.arange(len(days))[:, None, None]
    return path


def read_all(source: Source, name: str = "tas") -> np.ndarray:
    """All fields of a series."""
    series = source.series[name]
    return series.read(0, len(series.days))


def refused(match: str, *args: Any, **options: Any) -> str:
    """Opening must be refused as bad input, in at most three lines and with a remedy; the whole text."""
    with pytest.raises(InputDataError, match=match) as caught:
        open_files("A", *args, **options)
    assert caught.value.code == 4 and len(caught.value.lines()) <= 3 and caught.value.hint
    return str(caught.value)
