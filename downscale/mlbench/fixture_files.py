"""Files of the virtual ML-Bench, with what is odd about each domain's.

- ALPS: Lambert axes in km with 2-D latitude and longitude, leap days, bounds and grid mapping that are named but not there, pr without
  units.
- NZ: predictors across the date line, 29 February left out of a calendar that has it, targets stamped at 00:00 as whole days, pr in
  float64 without units.
- SA: pr in float64, a time axis in float32 minutes with bounds, ``crs``, ``lon_bnds`` and ``lat_bnds``, another fill value; GCM
  predictors that are missing at 850 hPa below the orography on some days; the other GCM's in a calendar without leap days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cftime
import netCDF4
import numpy as np
import pyproj

from downscale.profiles.mlbench import TARGETS

_LAMBERT: dict[str, Any] = {"proj": "lcc", "lat_1": 49.5, "lat_0": 49.5, "lon_0": 10.5, "R": 6371229.0, "x_0": 2825e3, "y_0": 2825e3}
_FILL = np.float32(9.96921e36)
_CHUNK_DAYS = 24
_LONG = "Daily Maximum Near-Surface Air Temperature"
_TARGET_ATTRIBUTES: dict[str, dict[str, dict[str, str]]] = {
    "ALPS": {
        "tasmax": {"standard_name": "air_temperature", "long_name": _LONG, "units": "K", "cell_methods": "time: maximum",
                   "grid_mapping": "Lambert_Conformal", "coordinates": "lat lon"},
        "pr": {"coordinates": "lat lon"},
    },
    "NZ": {
        "tasmax": {"standard_name": "air_temperature", "long_name": _LONG, "units": "K", "cell_methods": "time: maximum over days"},
        "pr": {},
    },
    "SA": {
        "tasmax": {"standard_name": "air_temperature", "long_name": _LONG, "units": "K", "grid_mapping": "crs",
                   "cell_methods": "time: maximum (interval: 1 day time: mean"},
        "pr": {"units": "mm/day"},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is known of a domain's files.

    Attributes:
        name: of the domain.
        gcms: the one of training and the one of transfer.
        coarse: first longitude and latitude of the predictors, 2 degrees apart.
        fine: first x, last x, first y, last y of the target: km (ALPS) or degrees.
        leap_days: whether 29 February is there.
        pr: type of precipitation.
    """

    name: str
    gcms: tuple[str, str]
    coarse: tuple[float, float]
    fine: tuple[float, float, float, float]
    leap_days: bool = False
    pr: str = "f8"


FACTS = {
    "ALPS": Facts("ALPS", ("CNRM-CM5", "MPI-ESM-LR"), (-4.0, 29.0), (2062.5, 3650.0, 1412.5, 3000.0), leap_days=True, pr="f4"),
    "NZ": Facts("NZ", ("ACCESS-CM2", "EC-Earth3"), (157.5, -55.5), (166.04062, 179.67143, -47.5641, -33.933292)),
    "SA": Facts("SA", ("ACCESS-CM2", "NorESM2-MM"), (11.0, -40.0), (20.5, 33.2, -34.7, -22.0)),
}


@dataclass
class BenchFile:
    """One growing file; a context manager. Kind: target, perfect or imperfect (predictors)."""

    path: Path
    facts: Facts
    kind: str
    periods: tuple[str, ...]
    cells: int
    other_gcm: bool = False
    _file: netCDF4.Dataset | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> BenchFile:
        """Create the file with its coordinates."""
        self._file = _create(self.path)
        self._file.createDimension("time", None)
        self._define_time(self._file)
        if self.kind == "target":
            dims = _define_fine(self._file, self.facts, self.cells)
            for name in TARGETS:
                _define_target(self._file, self.facts, name, ("time", *dims))
        else:
            _define_coarse(self._file, self.facts)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()

    def append(self, days: np.ndarray, fields: Mapping[str, np.ndarray]) -> None:
        """Add days, yyyymmdd, with fields (days, y, x) by name; tasmax in K, pr in mm/day."""
        assert self._file is not None, "inside the context only"
        kept = np.ones(len(days), bool) if self.facts.leap_days else days % 10_000 != 229
        start = len(self._file.dimensions["time"])
        window = slice(start, start + int(kept.sum()))
        self._append_time(self._file, days[kept], window)
        for name, values in fields.items():
            if name not in self._file.variables:
                self._file.createVariable(
                    name,
                    "f4",
                    ("time", "lat", "lon"),
                    fill_value=np.float32(np.nan),
                    zlib=True,
                    complevel=1,
                    chunksizes=(_CHUNK_DAYS, 16, 16),
                )
            self._file[name][window] = self._faulty(name, values[kept], start)

    def _faulty(self, name: str, values: np.ndarray, start: int) -> np.ndarray:
        """SA: the training GCM's own fields at 850 hPa lack the cells below the orography on every seventh day."""
        if self.facts.name != "SA" or self.kind != "imperfect" or self.other_gcm or not name.endswith("850"):
            return values
        values = values.copy()
        for day in range(len(values)):
            if (start + day) % 7 == 3:
                values[day, 9:12, 6:9] = np.nan
        return values

    def _time(self) -> tuple[str, str, str]:
        """Type, units and calendar of the time axis."""
        if self.facts.name == "ALPS":
            return "f8", "days since 1949-12-01", "gregorian"
        if self.facts.name == "NZ":
            target = self.kind == "target"
            return ("i8", "days since 1961-01-01", "proleptic_gregorian") if target else ("f8", "hours since 1961-01-01", "standard")
        return ("f8", "days since 1961-01-01", "365_day") if self.other_gcm else ("f4", "minutes since 1961-01-01", "standard")

    def _define_time(self, file: netCDF4.Dataset) -> None:
        kind, units, calendar = self._time()
        time = file.createVariable("time", kind, ("time",))
        time.setncatts({"units": units, "calendar": calendar, "axis": "T", "standard_name": "time"})
        if self.facts.name == "ALPS":
            time.bounds = "time_bounds"
        if self.facts.name == "SA":
            time.bounds = "time_bnds"
            file.createDimension("bnds", 2)
            file.createVariable("time_bnds", kind, ("time", "bnds"))

    def _append_time(self, file: netCDF4.Dataset, days: np.ndarray, window: slice) -> None:
        kind, units, calendar = self._time()
        dates = [cftime.datetime(day // 10_000, day // 100 % 100, day % 100, calendar=calendar) for day in days.tolist()]
        begin = np.asarray(cftime.date2num(dates, units, calendar=calendar), np.float64)
        day = float(cftime.date2num(cftime.datetime(1970, 1, 2, calendar=calendar), units, calendar=calendar)) - float(
            cftime.date2num(cftime.datetime(1970, 1, 1, calendar=calendar), units, calendar=calendar)
        )
        file["time"][window] = begin if kind == "i8" else begin + 0.5 * day
        if "time_bnds" in file.variables:
            file["time_bnds"][window] = np.stack([begin, begin + day], axis=1)


def write_static(path: Path, facts: Facts, height: np.ndarray) -> None:
    """Static_fields.nc: orog (y, x) in m."""
    with _create(path) as file:
        dims = _define_fine(file, facts, len(height))
        orog = file.createVariable("orog", "f4", dims, fill_value=np.float32(np.nan))
        orog.setncatts({"units": "m", "standard_name": "surface_altitude"})
        orog[:] = height


def write_template(path: Path, facts: Facts, name: str, cells: int) -> None:
    """A template: one time step of a variable on the target's coordinates."""
    with _create(path) as file:
        file.createDimension("time", 1)
        time = file.createVariable("time", "f8", ("time",))
        time.setncatts({"units": "days since 1961-01-01", "calendar": "standard"})
        time[:] = 0.5
        dims = _define_fine(file, facts, cells)
        _define_target(file, facts, name, ("time", *dims))[:] = 0.0


def _create(path: Path) -> netCDF4.Dataset:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = netCDF4.Dataset(path, "w", format="NETCDF4")
    file.comment = "Synthetic data: no climate model made this."
    return file


def _define_target(file: netCDF4.Dataset, facts: Facts, name: str, dims: tuple[str, ...]) -> netCDF4.Variable:
    fill = _FILL if (facts.name, name) == ("SA", "tasmax") else np.nan
    kind = facts.pr if name == "pr" else "f4"
    chunks = (1 if file.dimensions["time"].size == 1 else _CHUNK_DAYS, *(file.dimensions[dim].size for dim in dims[1:]))
    variable = file.createVariable(
        name, kind, dims, fill_value=np.array(fill, kind)[()], zlib=True, complevel=1, shuffle=True, chunksizes=chunks
    )
    variable.setncatts(_TARGET_ATTRIBUTES[facts.name][name])
    return variable


def _define_predictor(file: netCDF4.Dataset, name: str) -> None:
    file.createVariable(
        name, "f4", ("time", "lat", "lon"), fill_value=np.float32(np.nan), zlib=True, complevel=1, chunksizes=(_CHUNK_DAYS, 16, 16)
    )


def _define_fine(file: netCDF4.Dataset, facts: Facts, cells: int) -> tuple[str, str]:
    """The target's coordinates: the benchmark's extent in ``cells`` cells a side; names of the dimensions."""
    x, y = _axis(*facts.fine[:2], cells), _axis(*facts.fine[2:], cells)
    if facts.name != "ALPS":
        _put(file, "lat", y.astype("f4"), "latitude", "degrees_north", "Y")
        _put(file, "lon", x.astype("f4"), "longitude", "degrees_east", "X")
        if facts.name == "SA":
            _add_bounds(file)
        return "lat", "lon"
    _put(file, "y", y, "projection_y_coordinate", "km", "Y")
    _put(file, "x", x, "projection_x_coordinate", "km", "X")
    lon, lat = pyproj.Proj(**_LAMBERT)(*np.meshgrid(x * 1e3, y * 1e3), inverse=True)
    for name, values, units in (("lat", lat, "degrees_north"), ("lon", lon, "degrees_east")):
        variable = file.createVariable(name, "f8", ("y", "x"))
        full = {"lat": "latitude", "lon": "longitude"}[name]
        variable.setncatts({"standard_name": full, "long_name": full.capitalize(), "units": units, "bounds": f"bounds_{name}"})
        variable[:] = values
    return "y", "x"


def _axis(first: float, last: float, cells: int) -> np.ndarray:
    """Centres of ``cells`` cells over the extent of the benchmark's 128."""
    step = (last - first) / 127.0
    low, width = first - 0.5 * step, 128.0 * step / cells
    return low + width * (np.arange(cells) + 0.5)


def _define_coarse(file: netCDF4.Dataset, facts: Facts) -> None:
    for name, first, units, axis in (("lat", facts.coarse[1], "degrees_north", "Y"), ("lon", facts.coarse[0], "degrees_east", "X")):
        _put(file, name, first + 2.0 * np.arange(16), {"lat": "latitude", "lon": "longitude"}[name], units, axis)
    if facts.name == "SA":
        _add_bounds(file)


def _add_bounds(file: netCDF4.Dataset) -> None:
    if "bnds" not in file.dimensions:
        file.createDimension("bnds", 2)
    for name in ("lat", "lon"):
        values = np.asarray(file[name][:])
        half = 0.5 * (values[1] - values[0])
        bounds = file.createVariable(f"{name}_bnds", values.dtype, (name, "bnds"))
        bounds[:] = np.stack([values - half, values + half], axis=1)
        file[name].bounds = f"{name}_bnds"
    crs: Any = file.createVariable("crs", "i4", ())
    crs.grid_mapping_name = "latitude_longitude"


def _put(file: netCDF4.Dataset, name: str, values: np.ndarray, standard: str, units: str, axis: str) -> None:
    file.createDimension(name, len(values))
    variable = file.createVariable(name, values.dtype, (name,))
    variable.setncatts({"standard_name": standard, "long_name": standard, "units": units, "axis": axis})
    variable[:] = values
