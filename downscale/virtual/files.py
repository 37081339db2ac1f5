"""Files as modelling centres write them: CMIP6 names and layout for the GCM, CORDEX for the RCM, one variable a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.variables import TABLE, Channel, lookup
from downscale.virtual import clock
from downscale.virtual.geometry import GcmGrid, RcmGrid
from downscale.virtual.names import fx_path, gcm_attributes, gcm_path, rcm_attributes, rcm_path
from downscale.virtual.simulation import Chain
from downscale.virtual.storage import FILL, Storage
from downscale.virtual.world import EARTH_RADIUS

CHUNK_VALUES = 262_144
CACHE_BYTES = 2 << 20
_Values = np.ndarray | np.float64


class FieldFile:
    """A NetCDF file that appears under its name only when complete.

    Args:
        path: final path. attributes: global ones.
    """

    def __init__(self, path: Path, attributes: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self.dataset = netCDF4.Dataset(self._partial, "w", format="NETCDF4_CLASSIC")
        self.dataset.setncatts(attributes)
        self._name = ""
        self._flip: Any = ...
        self._written = 0

    def define(
        self,
        channel: Channel,
        name: str,
        dimensions: tuple[str, ...],
        *,
        storage: Storage,
        coordinates: str = "",
        grid_mapping: str = "",
        flip_lat: bool = False,
    ) -> None:
        """Creates the data variable; flip_lat: its latitude axis runs opposite to the arrays that will be appended."""
        variable = lookup(channel.variable)
        sizes = tuple(len(self.dataset.dimensions[dimension]) for dimension in dimensions[1:])
        days = self.dataset.variables["time"].size
        chunks = (max(1, min(days, CHUNK_VALUES // int(np.prod(sizes)))), *sizes)
        target = self.dataset.createVariable(name, dimensions=dimensions, chunksizes=chunks, **storage.options(channel.variable))
        target.set_var_chunk_cache(CACHE_BYTES, 101, 1.0)
        target.setncatts(
            {
                "standard_name": variable.standard_name,
                "long_name": variable.long_name,
                "units": variable.file_units,
                "cell_methods": variable.cell_methods,
                **storage.attributes(channel.variable),
            }
        )
        for key, value in (("coordinates", coordinates), ("grid_mapping", grid_mapping)):
            if value:
                target.setncattr(key, value)
        self._name = name
        self._flip = (..., slice(None, None, -1), slice(None)) if flip_lat else ...

    def append(self, values: np.ndarray) -> None:
        """Adds days; values (days, ..., y, x) in file units."""
        stop = self._written + len(values)
        self.dataset.variables[self._name][self._written : stop] = values[self._flip]
        self._written = stop

    def close(self) -> int:
        """Publishes the file; returns its size in bytes."""
        self.dataset.close()
        self._partial.replace(self.path)
        return self.path.stat().st_size

    def discard(self) -> None:
        """Removes what was written so far."""
        if self.dataset.isopen():
            self.dataset.close()
        self._partial.unlink(missing_ok=True)


def open_gcm_file(directory: Path, chain: Chain, variable: str, levels: list[int], storage: Storage) -> FieldFile:
    """A GCM file of one variable, all its levels, one period; surface variables: levels empty."""
    file = FieldFile(directory / gcm_path(chain, variable), gcm_attributes(chain, variable))
    _add_time(file.dataset, chain, chain.period.first, chain.period.last)
    _add_latlon(file.dataset, chain.gcm_grid, chain.gcm.lon_360, chain.gcm.lat_descending)
    dimensions = ("time", "plev", "lat", "lon") if levels else ("time", "lat", "lon")
    if levels:
        file.dataset.createDimension("plev", len(levels))
        _add_pressure(file.dataset, np.array(levels) * 100.0, ("plev",))
    channel = Channel(variable)
    scalar = _add_height(file.dataset, variable)
    file.define(channel, variable, dimensions, storage=storage, coordinates=scalar, flip_lat=chain.gcm.lat_descending)
    return file


def open_rcm_file(directory: Path, chain: Chain, channel: Channel, years: tuple[int, int], storage: Storage) -> FieldFile:
    """An RCM file of one channel (each level a variable of its own with a scalar pressure) and the years first to last."""
    path = rcm_path(chain, channel.name, *years)
    file = FieldFile(directory / path, rcm_attributes(chain, path, channel.name, "day"))
    _add_time(file.dataset, chain, *years)
    _add_rotated(file.dataset, chain.rcm_grid)
    scalar = _add_height(file.dataset, channel.variable)
    if channel.level_hpa is not None:
        _add_pressure(file.dataset, np.float64(channel.level_hpa * 100.0), ())
        scalar = "plev"
    names = f"lat lon {scalar}".strip()
    file.define(channel, channel.name, ("time", "rlat", "rlon"), storage=storage, coordinates=names, grid_mapping="crs")
    return file


def write_fixed(directory: Path, chain: Chain, variable: str, values: np.ndarray) -> tuple[str, int]:
    """A fixed field (y, x) of the RCM in file units; returns its path below the directory and its size."""
    file = FieldFile(directory / fx_path(chain, variable), rcm_attributes(chain, fx_path(chain, variable), variable, "fx"))
    _add_rotated(file.dataset, chain.rcm_grid)
    row = TABLE[variable]
    target = file.dataset.createVariable(variable, "f4", ("rlat", "rlon"), fill_value=FILL, compression="zlib", complevel=1, shuffle=True)
    target.setncatts(
        {
            "standard_name": row.standard_name,
            "long_name": row.long_name,
            "units": row.file_units,
            "cell_methods": row.cell_methods,
            "missing_value": FILL,
            "coordinates": "lat lon",
            "grid_mapping": "crs",
        }
    )
    target[:] = values
    return fx_path(chain, variable), file.close()


@dataclass(frozen=True)
class _Axis:
    """Attributes of a coordinate variable."""

    standard_name: str
    units: str
    axis: str = ""

    def attributes(self, **more: str) -> dict[str, str]:
        return {"standard_name": self.standard_name, "units": self.units, **({"axis": self.axis} if self.axis else {}), **more}


_LAT, _LON = _Axis("latitude", "degrees_north"), _Axis("longitude", "degrees_east")


def _put(dataset: netCDF4.Dataset, name: str, dimensions: tuple[str, ...], values: _Values, attributes: dict[str, str]) -> None:
    options: dict[str, Any] = {"compression": "zlib", "complevel": 4, "shuffle": True, "chunksizes": np.shape(values)} if dimensions else {}
    variable = dataset.createVariable(name, "f8", dimensions, **options)
    variable.setncatts(attributes)
    variable[...] = values


def _add_time(dataset: netCDF4.Dataset, chain: Chain, first: int, last: int) -> None:
    calendar = chain.gcm.calendar
    times = clock.noon(first, calendar) + np.arange(clock.count_days(first, last, calendar))
    dataset.createDimension("time", None)
    dataset.createDimension("bnds", 2)
    _put(dataset, "time", ("time",), times, _Axis("time", clock.UNITS, "T").attributes(calendar=calendar, bounds="time_bnds"))
    _put(dataset, "time_bnds", ("time", "bnds"), np.stack([times - 0.5, times + 0.5], axis=1), {})


def _add_latlon(dataset: netCDF4.Dataset, grid: GcmGrid, lon_360: bool, lat_descending: bool) -> None:
    lat = grid.lat[::-1] if lat_descending else grid.lat
    lon = grid.lon % 360.0 if lon_360 else grid.lon
    half = np.array([-0.5, 0.5]) * grid.spacing
    lat_half = half[::-1] if lat_descending else half
    for name, values, axis, letter, bounds in (("lat", lat, _LAT, "Y", lat_half), ("lon", lon, _LON, "X", half)):
        dataset.createDimension(name, len(values))
        _put(dataset, name, (name,), values, {**axis.attributes(axis=letter), "bounds": f"{name}_bnds"})
        _put(dataset, f"{name}_bnds", (name, "bnds"), values[:, None] + bounds, {})


def _add_rotated(dataset: netCDF4.Dataset, grid: RcmGrid) -> None:
    dataset.createDimension("vertices", 4)
    for name, values, standard, letter in (("rlat", grid.rlat, "grid_latitude", "Y"), ("rlon", grid.rlon, "grid_longitude", "X")):
        dataset.createDimension(name, len(values))
        _put(dataset, name, (name,), values, _Axis(standard, "degrees", letter).attributes())
    pairs = (("lat", grid.lat, grid.lat_vertices, _LAT), ("lon", grid.lon, grid.lon_vertices, _LON))
    for name, values, vertices, axis in pairs:
        _put(dataset, name, ("rlat", "rlon"), values, axis.attributes(bounds=f"{name}_vertices"))
        _put(dataset, f"{name}_vertices", ("rlat", "rlon", "vertices"), vertices, {"units": axis.units})
    crs = dataset.createVariable("crs", "i4", ())
    crs.setncatts(
        {
            "grid_mapping_name": "rotated_latitude_longitude",
            "grid_north_pole_latitude": grid.pole_lat,
            "grid_north_pole_longitude": grid.pole_lon,
            "north_pole_grid_longitude": 0.0,
            "earth_radius": EARTH_RADIUS,
        }
    )


def _add_pressure(dataset: netCDF4.Dataset, values: _Values, dimensions: tuple[str, ...]) -> None:
    _put(dataset, "plev", dimensions, values, _Axis("air_pressure", "Pa", "Z").attributes(positive="down", long_name="pressure"))


def _add_height(dataset: netCDF4.Dataset, variable: str) -> str:
    """The scalar height of a near-surface variable, if it has one; its name or ''."""
    height = TABLE[variable].height_m
    if height is None:
        return ""
    _put(dataset, "height", (), np.float64(height), _Axis("height", "m", "Z").attributes(positive="up", long_name="height"))
    return "height"
