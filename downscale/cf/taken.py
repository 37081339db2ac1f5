"""What of the variable table a file holds: every channel and every fixed field, by the rules of cf.names."""

from __future__ import annotations

import re

import numpy as np

from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.levels import levels_of
from downscale.cf.names import find, find_static
from downscale.errors import InputDataError
from downscale.variables import TABLE, UPPER_AIR, Channel

STATIC = ("orog", "sftlf")


def channels_in(header: FileHeader) -> dict[Channel, VariableHeader]:
    """Every channel of the variable table in a file; a variable that fits twice is left to the opening."""
    found = {}
    for name in TABLE:
        levels = _levels(header) if name in UPPER_AIR else [None]
        for level in [] if name in STATIC else levels:
            try:
                match = find(header, Channel(name, level))
            except InputDataError:
                continue
            if match is not None:
                found[Channel(name, level)] = header.variables[match.name]
    return found


def statics_in(header: FileHeader) -> dict[str, str]:
    """Fixed fields in a file: our name -> the name in the file; one that fits twice is left to the opening."""
    found = {}
    for name in STATIC:
        try:
            variable = find_static(header, name)
        except InputDataError:
            continue
        if variable is not None:
            found[name] = variable
    return found


def taken_in(header: FileHeader) -> dict[str, str]:
    """All that a file has of the variable table: channel or fixed field -> the name in the file."""
    return {channel.name: variable.name for channel, variable in channels_in(header).items()} | statics_in(header)


def _levels(header: FileHeader) -> list[int]:
    """Pressure levels in hPa that a file may hold, by its level coordinates and by the names of its variables."""
    found: set[int] = set()
    for variable in header.variables.values():
        if len(variable.dims) < 2:
            continue
        levels = levels_of(header, variable)
        if levels is not None:
            found |= {round(float(value)) for value in levels.hpa if np.isfinite(value) and value >= 1}
        suffix = re.fullmatch(r"[A-Za-z]+?_?(\d{2,4})(?:hPa|mb)?", variable.name)
        if suffix:
            found.add(int(suffix[1]))
    return sorted(found, reverse=True)
