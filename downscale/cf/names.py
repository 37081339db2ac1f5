"""Which variable of a file is which channel, and which dimension is which axis.

A variable is recognised by the name the config gives, else by its CMOR name, other known spellings and its CF standard name together
with its level, height and cell methods: air_temperature alone may be tas, tasmax, tasmin or ta. All that fit count: two are an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.units import clean, pressure_hpa
from downscale.errors import InputDataError
from downscale.variables import TABLE, UPPER_AIR, Channel, Variable, lookup

LEVEL_TOLERANCE_HPA = 0.5
HEIGHT_TOLERANCE_M = 1.0

_BY_STANDARD_NAME = {
    "time": "T",
    "latitude": "Y",
    "grid_latitude": "Y",
    "projection_y_coordinate": "Y",
    "longitude": "X",
    "grid_longitude": "X",
    "projection_x_coordinate": "X",
    "air_pressure": "Z",
    "height": "Z",
}
_BY_NAME = dict.fromkeys(("time", "t"), "T")
_BY_NAME |= dict.fromkeys(("lat", "latitude", "rlat", "y", "yc", "j", "nlat", "nj", "south_north"), "Y")
_BY_NAME |= dict.fromkeys(("lon", "longitude", "rlon", "x", "xc", "i", "nlon", "ni", "west_east"), "X")
_BY_NAME |= dict.fromkeys(("plev", "lev", "level", "pressure", "pressure_level", "isobaricinhpa", "height", "heightv"), "Z")
_NORTH = re.compile(r"degrees?_?n(orth)?", re.IGNORECASE)
_EAST = re.compile(r"degrees?_?e(ast)?", re.IGNORECASE)
_SUFFIX = re.compile(r"^(?P<stem>[A-Za-z]+?)_?(?P<level>\d{2,4})(hPa|mb)?$")


@dataclass(frozen=True)
class Match:
    """A variable that is a channel: its name in the file, its place on the level dimension if it has one, and what was assumed."""

    name: str
    level_index: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Levels:
    """Pressure levels of a variable in hPa; ``dim`` is None for a scalar level."""

    hpa: NDArray[np.float64]
    dim: str | None

    def find(self, level: float) -> int | None:
        """Index of a level, within half a hPa; None when it is not there."""
        near = np.abs(self.hpa - level) <= LEVEL_TOLERANCE_HPA
        return int(np.argmax(near)) if near.any() else None


def axis_of(header: FileHeader, dim: str) -> str:
    """T, Z, Y or X for a dimension, by its coordinate variable's CF attributes, else by its name; N when neither tells."""
    variable = header.variables.get(dim)
    if variable is not None:
        axis = variable.text("axis").upper()
        if axis in ("T", "Z", "Y", "X"):
            return axis
        if " since " in variable.text("units"):
            return "T"
        known = _BY_STANDARD_NAME.get(variable.text("standard_name"))
        if known:
            return known
        if is_latitude(variable) or is_longitude(variable):
            return "Y" if is_latitude(variable) else "X"
    return _BY_NAME.get(dim.lower(), "N")


def is_latitude(variable: VariableHeader) -> bool:
    """Whether a variable holds true latitude, by standard name or units."""
    return variable.text("standard_name") == "latitude" or bool(_NORTH.fullmatch(clean(variable.text("units"))))


def is_longitude(variable: VariableHeader) -> bool:
    """Whether a variable holds true longitude, by standard name or units."""
    return variable.text("standard_name") == "longitude" or bool(_EAST.fullmatch(clean(variable.text("units"))))


def find(header: FileHeader, channel: Channel, rename: str | None = None) -> Match | None:
    """The variable of a file that is this channel, or None.

    Args:
        header: the file.
        channel: what is looked for.
        rename: the name the config gives it; ``{level}`` in it stands for the level in hPa (``z_{level}``).

    Raises:
        InputDataError: more than one variable fits (F11).
    """
    found = list(_renamed(header, channel, rename) if rename else _discovered(header, channel))
    if len(found) > 1:
        names = ", ".join(match.name for match in found)
        raise InputDataError(
            f"{channel.name}: ambiguous, {len(found)} variables fit: {names}",
            where=str(header.path),
            hint=f"choose one in the config: sources.NAME.variables: {{{channel.variable}: {found[0].name}}}",
        )
    return found[0] if found else None


def find_static(header: FileHeader, name: str, rename: str | None = None) -> str | None:
    """Name of a fixed field (orog, sftlf) in a file, or None; a time dimension of length 1 does not disturb."""
    fixed = {v.name for v in header.variables.values() if v.is_number and len(v.dims) >= 2 and _steps(header, v) <= 1}
    wanted = lookup(name)
    for names in ({rename} if rename else {name}, set() if rename else _standard(header, wanted)):
        hits = sorted(fixed & names)
        if len(hits) > 1:
            raise InputDataError(
                f"{name}: ambiguous, {len(hits)} variables fit: {', '.join(hits)}",
                where=str(header.path),
                hint=f"choose one in the config: sources.NAME.variables: {{{name}: {hits[0]}}}",
            )
        if hits:
            return hits[0]
    return None


def levels_of(header: FileHeader, variable: VariableHeader) -> Levels | None:
    """Pressure levels of a variable: of its level dimension, of its scalar coordinate, or of the file's only scalar pressure."""
    for dim in variable.dims:
        if dim in header.values and axis_of(header, dim) == "Z":
            hpa = pressure_hpa(header.values[dim], header.variables[dim].text("units"))
            if hpa is not None:
                return Levels(hpa.ravel(), dim)
    own = variable.text("coordinates").split()
    scalars = [name for name, values in header.values.items() if values.size == 1 and _is_pressure(header, name)]
    for names in ([name for name in scalars if name in own], [] if _height(header, variable) is not None else scalars):
        if len(names) == 1:
            hpa = pressure_hpa(header.values[names[0]], header.variables[names[0]].text("units"))
            return None if hpa is None else Levels(hpa.ravel(), None)
    return None


def describe(header: FileHeader, variable: Variable) -> list[str]:
    """Fields of a file that might be meant by a variable, with what they say of themselves: for error messages."""
    fields = [v for v in header.variables.values() if v.is_number and len(v.dims) >= 2 and _steps(header, v) > 0]
    meant = [v for v in fields if v.text("standard_name") in (variable.standard_name, *variable.also_standard)]
    lines = []
    for field in meant or fields:
        levels = levels_of(header, field)
        at = "" if levels is None else f" at {', '.join(f'{level:g}' for level in levels.hpa)} hPa"
        kind = field.text("standard_name") or field.text("long_name") or "no standard name"
        lines.append(f"{header.path.name}: {field.name} ({kind}, {field.text('units') or 'no units'}{at})")
    return lines


def _renamed(header: FileHeader, channel: Channel, rename: str) -> Iterator[Match]:
    name = rename.replace("{level}", str(channel.level_hpa))
    variable = header.variables.get(name)
    if variable is None or _steps(header, variable) == 0:
        return
    if channel.level_hpa is None:
        yield Match(name, note=f"{channel.name} is {name}, as the config says")
        return
    index = _level_index(header, variable, channel.level_hpa)
    if index is not None or "{level}" in rename or _suffix(name)[1] == channel.level_hpa:
        yield Match(name, index if index is not None and index >= 0 else None, f"{channel.name} is {name}, as the config says")


def _discovered(header: FileHeader, channel: Channel) -> Iterator[Match]:
    wanted = lookup(channel.variable)
    for variable in header.variables.values():
        if not variable.is_number or len(variable.dims) < 2 or _steps(header, variable) == 0:
            continue
        match = _surface(header, variable, wanted) if channel.level_hpa is None else _upper(header, variable, wanted, channel.level_hpa)
        if match is not None:
            yield match


def _surface(header: FileHeader, variable: VariableHeader, wanted: Variable) -> Match | None:
    if variable.name == wanted.name:
        return Match(variable.name)
    if variable.name.lower() in wanted.also:
        return Match(variable.name, note=f"{wanted.name} is {variable.name}")
    if not _means(header, variable, wanted) or levels_of(header, variable) is not None:
        return None
    method, height = _time_method(variable), _height(header, variable)
    expected = _time_method_of(wanted.cell_methods)
    fits = method == expected or (expected == "mean" and method in ("", "point"))
    if wanted.height_m is not None and wanted.name in ("uas", "vas"):
        fits = fits and height is not None
    if height is not None and wanted.height_m is not None:
        fits = fits and abs(height - wanted.height_m) <= HEIGHT_TOLERANCE_M
    return Match(variable.name, note=f"{wanted.name} is {variable.name} ({variable.text('standard_name')})") if fits else None


def _upper(header: FileHeader, variable: VariableHeader, wanted: Variable, level: int) -> Match | None:
    stem, suffix = _level_name(header, variable)
    names = (wanted.name, *wanted.also)
    if suffix is not None and (stem.lower() in names or _means(header, variable, wanted)):
        if suffix != level:
            return None
        levels = levels_of(header, variable)
        index = levels.find(level) if levels is not None and levels.dim is not None else None
        contradicts = levels is not None and levels.dim is None and levels.find(level) is None
        return Match(variable.name, index, "the level in the name is trusted, not the level coordinate" if contradicts else "")
    by_name = variable.name == wanted.name or variable.name.lower() in wanted.also
    if not by_name and not _means(header, variable, wanted):
        return None
    found = _level_index(header, variable, level)
    if found is None:
        return None
    note = "" if variable.name == wanted.name else f"{wanted.name} is {variable.name}"
    return Match(variable.name, found if found >= 0 else None, note)


def _level_index(header: FileHeader, variable: VariableHeader, level: int) -> int | None:
    """Place on the level dimension, -1 for a fitting scalar level, None when the level is not there or not known."""
    levels = levels_of(header, variable)
    index = None if levels is None else levels.find(level)
    return index if index is None or (levels is not None and levels.dim is not None) else -1


def _means(header: FileHeader, variable: VariableHeader, wanted: Variable) -> bool:
    """Whether the standard name says so and the short name does not belong to another variable of the table."""
    known = any(variable.name.lower() in (row.name, *row.also) for row in TABLE.values() if row.name != wanted.name)
    stem, suffix = _level_name(header, variable)
    other_level = suffix is not None and stem.lower() in {n for key in UPPER_AIR if key != wanted.name for n in (key, *TABLE[key].also)}
    return variable.text("standard_name") in (wanted.standard_name, *wanted.also_standard) and not known and not other_level


def _standard(header: FileHeader, wanted: Variable) -> set[str]:
    return {v.name for v in header.variables.values() if v.text("standard_name") == wanted.standard_name}


def _suffix(name: str) -> tuple[str, int | None]:
    match = _SUFFIX.match(name)
    return (match["stem"], int(match["level"])) if match else (name, None)


def _level_name(header: FileHeader, variable: VariableHeader) -> tuple[str, int | None]:
    """Stem and level of a name such as zg500; no level where the variable has a height in metres (u10 is at 10 m)."""
    return (variable.name, None) if _height(header, variable) is not None else _suffix(variable.name)


def _steps(header: FileHeader, variable: VariableHeader) -> int:
    """Length of a variable's time dimension; 0 when it has none."""
    return next((n for dim, n in zip(variable.dims, variable.shape, strict=True) if axis_of(header, dim) == "T"), 0)


def _is_pressure(header: FileHeader, name: str) -> bool:
    variable = header.variables[name]
    kind = variable.text("standard_name") == "air_pressure" or _BY_NAME.get(name.lower()) == "Z"
    return kind and len(variable.dims) <= 1 and pressure_hpa(np.zeros(1), variable.text("units")) is not None


def _height(header: FileHeader, variable: VariableHeader) -> float | None:
    """Height in m of a variable's scalar height coordinate, or None."""
    for name in variable.text("coordinates").split() + list(variable.dims):
        candidate = header.variables.get(name)
        if candidate is not None and candidate.text("standard_name") == "height" and header.values.get(name, np.empty(0)).size == 1:
            return float(header.values[name].ravel()[0])
    return None


def _time_method(variable: VariableHeader) -> str:
    return _time_method_of(variable.text("cell_methods"))


def _time_method_of(cell_methods: str) -> str:
    match = re.search(r"\btime:\s*(?:[a-z_]+:\s*)*([a-z_]+)", cell_methods)
    return match.group(1) if match else ""
