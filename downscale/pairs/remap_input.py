"""Gridded variables of any files as they stand there: which there are, on which grid, at which times; read block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np

from downscale.cf.axes import is_latitude, is_longitude
from downscale.cf.catalogue import scan
from downscale.cf.coordinates import read_coordinates
from downscale.cf.fields import Decoder
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import Layout, layout_of
from downscale.cf.units import Conversion
from downscale.errors import ConfigError, InputDataError
from downscale.grid.domains import domain_grid, domain_names
from downscale.grid.grid import Grid
from downscale.grid.weight_files import stored_grid

_TIMES = 1e-6


@dataclass(frozen=True, eq=False)
class GriddedField:
    """A variable with rows and columns in one file.

    Attributes:
        header, variable, layout: where it stands.
    """

    header: FileHeader
    variable: VariableHeader
    layout: Layout

    @property
    def outer(self) -> tuple[str, ...]:
        """Dimensions besides rows and columns, in the file's order."""
        return tuple(dim for dim in self.variable.dims if dim not in (self.layout.y, self.layout.x))

    @property
    def outer_shape(self) -> tuple[int, ...]:
        """Lengths of the outer dimensions."""
        return tuple(self.variable.shape[self.variable.dims.index(dim)] for dim in self.outer)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result: float64 where that is stored, else float32."""
        return np.dtype(np.float64 if self.variable.dtype.lstrip("<>=|") == "f8" or self.variable.dtype == "float64" else np.float32)

    def grid(self) -> Grid:
        """Its grid, rows and columns as they stand in the file."""
        grid = Grid.from_dataset(read_coordinates(self.header, self.variable, self.layout)[0])
        return grid.crop(_back(self.layout.y_order), _back(self.layout.x_order))

    def read(self, file: netCDF4.Dataset, index: tuple[slice, ...]) -> np.ndarray:
        """A block (outer..., y, x); missing values NaN, packed ones unpacked. ``index`` is on the outer dimensions.

        Raises:
            InputDataError: the file cannot be read (F05).
        """
        at = dict(zip(self.outer, index, strict=True))
        file[self.variable.name].set_auto_maskandscale(False)
        try:
            values = file[self.variable.name][tuple(at.get(dim, slice(None)) for dim in self.variable.dims)]
        except (OSError, RuntimeError) as error:
            raise InputDataError(
                f"{self.variable.name} cannot be read: {str(error).splitlines()[0]}",
                where=f"{self.header.path}: {', '.join(f'{dim} {one.start} to {one.stop - 1}' for dim, one in at.items())}",
                hint="the file is damaged: fetch it again",
            ) from error
        order = [self.variable.dims.index(dim) for dim in (*self.outer, self.layout.y, self.layout.x)]
        return self._decoded(np.asarray(values)).transpose(order)

    def _decoded(self, raw: np.ndarray) -> np.ndarray:
        """Stored numbers unpacked, missing ones NaN, in `dtype`."""
        if self.dtype == np.float32:
            return Decoder.of(self.variable, Conversion(1.0, 0.0, "", "")).decode(raw)[0]
        fills = [np.atleast_1d(self.variable.attrs[key]) for key in ("_FillValue", "missing_value") if key in self.variable.attrs]
        values = np.where(np.isin(raw, np.concatenate(fills)), np.nan, raw) if fills else raw
        return values * float(self.variable.attrs.get("scale_factor", 1.0)) + float(self.variable.attrs.get("add_offset", 0.0))


def grid_named(name: str) -> Grid:
    """The grid of a file, rows and columns as they stand in it, or of a CORDEX domain.

    Raises:
        InputDataError: a bad file, or one without a grid.
        ConfigError: neither a file nor a domain.
    """
    if Path(name).exists():
        return grid_of_file(Path(name))
    if "/" in name or name.endswith((".nc", ".nc4")):
        raise ConfigError("no such file", where=name, hint=f"give a NetCDF file, or a CORDEX domain ({', '.join(domain_names()[:4])} ...)")
    return domain_grid(name)


def grid_of_file(path: Path) -> Grid:
    """The grid of a file's first gridded variable, or of its bare axes, or the target of weights of our own; rows as they stand there."""
    held = stored_grid(path, "target")
    if held is not None:
        return held
    header = scan([path])[0]
    fields = gridded_fields(header) or _bare_axes(header)
    if not fields:
        raise InputDataError("the file has no horizontal grid", where=str(path), hint="give a file with a field on a grid")
    return fields[0].grid()


def gridded_fields(header: FileHeader) -> list[GriddedField]:
    """All variables with rows and columns that are not coordinates, bounds or grid mappings of others."""
    named = {name for v in header.variables.values() for key in ("bounds", "grid_mapping", "climatology") for name in v.text(key).split()}
    found = []
    for variable in header.variables.values():
        if not variable.is_number or len(variable.dims) < 2 or variable.name in named or is_latitude(variable) or is_longitude(variable):
            continue
        try:
            found.append(GriddedField(header, variable, layout_of(header, variable, any_member=True)))
        except InputDataError:
            continue  # no two horizontal dimensions
    return found


def _bare_axes(header: FileHeader) -> list[GriddedField]:
    axes = [v for v in header.variables.values() if v.dims == (v.name,)]
    lat, lon = (next((v for v in axes if kind(v)), None) for kind in (is_latitude, is_longitude))
    planes = [("grid", (lat.name, lon.name), (*lat.shape, *lon.shape))] if lat is not None and lon is not None else []
    planes += [("grid", v.dims, v.shape) for v in header.variables.values() if is_latitude(v) and len(v.dims) == 2]
    variables = [VariableHeader(name, dims, shape, "float64", {}) for name, dims, shape in planes]
    return [GriddedField(header, variable, layout_of(header, variable)) for variable in variables]


def _back(order: np.ndarray | None) -> Any:
    """What takes rows or columns from the order given out back to the file's."""
    if order is None:
        return slice(None)
    back = np.argsort(order)
    return slice(None, None, -1) if np.array_equal(back, np.arange(len(back))[::-1]) else back


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """The common time axis of several files: values in the units and calendar of the first.

    Attributes:
        name: of dimension and variable; values: (n,) ascending.
        units, calendar: CF.
    """

    name: str
    values: np.ndarray
    units: str
    calendar: str

    def place(self, header: FileHeader) -> slice:
        """Where the times of one of the files lie."""
        first = int(np.searchsorted(self.values, _times(header, self.name, self.units, self.calendar)[0] - _TIMES))
        return slice(first, first + _length(header, self.name))

    def convert(self, header: FileHeader, values: np.ndarray) -> np.ndarray:
        """Times or time bounds of one of the files in the common units."""
        return _in_units(values, header.variables[self.name].text("units"), self.units, self.calendar)


def time_axis(name: str, headers: Sequence[FileHeader]) -> TimeAxis:
    """The times of all files that have the dimension, each once.

    Raises:
        InputDataError: other calendars, no units, or times that overlap in part or are not ascending.
    """
    first = headers[0].variables[name]
    units, calendar = first.text("units"), (first.text("calendar") or "standard").lower()
    pieces: dict[tuple[float, int], np.ndarray] = {}
    for header in headers:
        theirs = (header.variables[name].text("calendar") or "standard").lower()
        if theirs != calendar:
            raise InputDataError(f"calendars differ: {calendar} and {theirs}", where=str(header.path), hint="regrid them one by one")
        values = _times(header, name, units, calendar)
        if not len(values):
            raise InputDataError("a file has no time step", where=str(header.path), hint="leave it out")
        known = pieces.setdefault((round(float(values[0]), 6), len(values)), values)
        if np.abs(known - values).max() > _TIMES:
            raise InputDataError("files of one period have different times", where=str(header.path), hint="regrid them one by one")
    whole = np.concatenate([pieces[key] for key in sorted(pieces)])
    if (np.diff(whole) <= _TIMES).any():
        raise InputDataError(
            "the files' times overlap or are not ascending",
            where=", ".join(str(header.path) for header in headers[:3]),
            hint="give files whose periods follow one another, or regrid them one by one",
        )
    return TimeAxis(name, whole, units, calendar)


def _length(header: FileHeader, dim: str) -> int:
    return int(header.variables[dim].shape[0])


def _times(header: FileHeader, name: str, units: str, calendar: str) -> np.ndarray:
    with netCDF4.Dataset(header.path) as file:
        values = np.ma.filled(np.ma.asarray(file[name][:]).astype(np.float64), np.nan)
    if not np.isfinite(values).all():
        raise InputDataError("times are missing", where=str(header.path), hint="mend the time axis")
    return _in_units(values, header.variables[name].text("units"), units, calendar)


def _in_units(values: np.ndarray, theirs: str, ours: str, calendar: str) -> np.ndarray:
    if theirs == ours or not values.size:
        return values
    try:
        return np.asarray(cftime.date2num(cftime.num2date(values, theirs, calendar), ours, calendar), dtype=np.float64)
    except ValueError as error:
        raise InputDataError(f"time units are not understood: {theirs}; {ours}: {error}", hint="regrid the files one by one") from error
