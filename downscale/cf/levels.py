"""Pressure levels and heights of variables: dimension or scalar coordinate, Pa or hPa, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from downscale.cf.axes import axis_by_name, axis_of
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.units import pressure_hpa

LEVEL_TOLERANCE_HPA = 0.5


@dataclass(frozen=True)
class Levels:
    """Pressure levels of a variable.

    Attributes:
        hpa: in hPa.
        dim: their dimension, None for a scalar level.
        note: what was assumed about their units.
    """

    hpa: NDArray[np.float64]
    dim: str | None
    note: str = ""

    def find(self, level: float) -> int | None:
        """Index of the level nearest to one asked for, within half a hPa; None when it is not there."""
        away = np.abs(self.hpa - level)
        return int(np.argmin(away)) if (away <= LEVEL_TOLERANCE_HPA).any() else None

    def notes(self, level: float) -> list[str]:
        """What was assumed in taking a level that is there."""
        value = float(self.hpa[self.find(level) or 0])
        inexact = [f"level {value:.7g} hPa is taken as {level:g} hPa"] if abs(value - level) > 1e-6 * level else []
        return [self.note] * bool(self.note) + inexact


def levels_of(header: FileHeader, variable: VariableHeader) -> Levels | None:
    """Pressure levels of a variable: of its level dimension, of its scalar coordinate, or of the file's only scalar pressure."""
    for dim in variable.dims:
        if dim in header.values and axis_of(header, dim) == "Z":
            levels = _levels(header, dim, dim)
            if levels is not None:
                return levels
    own = variable.text("coordinates").split()
    scalars = [name for name, values in header.values.items() if values.size == 1 and _is_pressure(header, name)]
    for names in ([name for name in scalars if name in own], [] if height_of(header, variable) is not None else scalars):
        if len(names) == 1:
            return _levels(header, names[0], None)
    return None


def _levels(header: FileHeader, name: str, dim: str | None) -> Levels | None:
    units, values = header.variables[name].text("units"), header.values[name]
    hpa = pressure_hpa(values, units)
    if hpa is None:
        return None
    assumed = "Pa" if not np.array_equal(hpa, values) else "hPa"
    return Levels(hpa.ravel(), dim, "" if units else f"levels '{name}' without units: taken as {assumed}")


def _is_pressure(header: FileHeader, name: str) -> bool:
    variable = header.variables[name]
    kind = variable.text("standard_name") == "air_pressure" or axis_by_name(name) == "Z"
    return kind and len(variable.dims) <= 1 and pressure_hpa(np.zeros(1), variable.text("units")) is not None


def height_of(header: FileHeader, variable: VariableHeader) -> float | None:
    """Height in m of a variable's scalar height coordinate, or None."""
    for name in variable.text("coordinates").split() + list(variable.dims):
        candidate = header.variables.get(name)
        if candidate is not None and candidate.text("standard_name") == "height" and header.values.get(name, np.empty(0)).size == 1:
            return float(header.values[name].ravel()[0])
    return None
