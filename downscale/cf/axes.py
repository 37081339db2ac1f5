"""Which dimension is time, level, row or column: by CF attributes of its coordinate variable, else by its name."""

from __future__ import annotations

import re

from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.units import clean

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
    return axis_by_name(dim)


def axis_by_name(name: str) -> str:
    """T, Z, Y or X by a common name of a dimension or coordinate, else N."""
    return _BY_NAME.get(name.lower(), "N")


def is_latitude(variable: VariableHeader) -> bool:
    """Whether a variable holds true latitude, by standard name or units, or as an axis of that name that says nothing of itself."""
    stated = variable.text("standard_name") == "latitude" or bool(_NORTH.fullmatch(clean(variable.text("units"))))
    return stated or _is_bare(variable, ("lat", "latitude"))


def is_longitude(variable: VariableHeader) -> bool:
    """Whether a variable holds true longitude, by standard name or units, or as an axis of that name that says nothing of itself."""
    stated = variable.text("standard_name") == "longitude" or bool(_EAST.fullmatch(clean(variable.text("units"))))
    return stated or _is_bare(variable, ("lon", "longitude"))


def _is_bare(variable: VariableHeader, names: tuple[str, ...]) -> bool:
    is_axis = variable.name.lower() in names and variable.dims == (variable.name,)
    return is_axis and not any(variable.text(attribute) for attribute in ("standard_name", "units", "axis"))
