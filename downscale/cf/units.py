"""Units: from what files hold to working units and back, as linear maps.

Known spellings that UDUNITS does not read are mended by name, never by guess. Physics beyond UDUNITS: geopotential becomes
geopotential height by the standard gravity 9.80665 m s-2 (WMO-No. 8), and a water flux in kg m-2 becomes mm by the density
1000 kg m-3 (CORDEX archive specifications: 1 mm/day = 1/86400 kg m-2 s-1). A sum over an unknown time (mm on its own) is
refused: the config's assume_units says what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cf_units
import numpy as np
from numpy.typing import NDArray

from downscale.errors import InputDataError
from downscale.variables import Variable

GRAVITY = 9.80665

_SPELLINGS = {
    "c": "degC",
    "deg c": "degC",
    "degree c": "degC",
    "degrees c": "degC",
    "degrees celsius": "degC",
    "degree celsius": "degC",
    "degree_celsius": "degC",
    "°c": "degC",
    "deg k": "K",
    "degrees k": "K",
    "mb": "hPa",
    "mbar": "hPa",
    "gpm": "m",
    "geopotential meter": "m",
    "geopotential metre": "m",
    "geopotential meters": "m",
    "meters above sea level": "m",
    "fraction": "1",
    "(0 - 1)": "1",
    "(0-1)": "1",
    "0-1": "1",
    "unitless": "1",
    "dimensionless": "1",
    "percent": "%",
    "kg/m^2/s": "kg m-2 s-1",
    "kg/m2/s": "kg m-2 s-1",
    "kg/m^2s": "kg m-2 s-1",
    "kg/(m^2*s)": "kg m-2 s-1",
    "kg/kg": "kg kg-1",
    "degrees": "degree",
    "degrees north": "degrees_north",
    "degrees east": "degrees_east",
}


@dataclass(frozen=True)
class Conversion:
    """A linear map ``y = scale * x + offset`` and the words for it."""

    scale: float
    offset: float
    source: str
    target: str

    @property
    def is_identity(self) -> bool:
        """Whether values stay as they are."""
        return self.scale == 1.0 and self.offset == 0.0

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Converted values; floating arrays are changed in place and returned."""
        if self.scale != 1.0:
            values *= values.dtype.type(self.scale)
        if self.offset != 0.0:
            values += values.dtype.type(self.offset)
        return values


def clean(units: str) -> str:
    """A units string in a spelling that UDUNITS reads, if the spelling is a known one; otherwise as it came."""
    text = " ".join(str(units).split())
    return _SPELLINGS.get(text.lower(), text)


def same(first: str, second: str) -> bool:
    """Whether two units strings mean the same unit."""
    one, other = _parse(first), _parse(second)
    if one is None or other is None:
        return clean(first) == clean(second)
    return bool(one == other)


def linear(source: str, target: str) -> Conversion | None:
    """The linear map between two units, or None when there is none (unknown or of another kind)."""
    one, other = _parse(source), _parse(target)
    if one is None or other is None or not one.is_convertible(other):
        return None
    offset, at_one = one.convert(np.array([0.0, 1.0]), other)
    scale, offset = _round(at_one - offset), _round(offset)
    return Conversion(scale, offset, clean(source), clean(target))


def to_working(variable: Variable, units: str) -> Conversion:
    """The map from a file's units to a variable's working units.

    Raises:
        InputDataError: unknown units, units of another quantity, precipitation summed over an unknown time (T13), or per cent
            for specific humidity (U04).
    """
    conversion = _physical(variable, units) or linear(units, variable.units)
    if conversion is None or (variable.name == "hus" and clean(units) == "%"):
        raise InputDataError(
            f"units '{units}' of {variable.name} cannot be converted to {variable.units}{_reason(variable, units)}",
            hint=f"say what they are in the config: sources.NAME.assume_units: {{{variable.name}: {_example(variable, units)}}}",
        )
    return conversion


def to_file(variable: Variable) -> Conversion:
    """The map from working units to the units of written files."""
    back = to_working(variable, variable.file_units)
    return Conversion(1.0 / back.scale, -back.offset / back.scale, variable.units, variable.file_units)


def pressure_hpa(values: NDArray[Any], units: str) -> NDArray[np.float64] | None:
    """Pressure levels in hPa, or None when the units are no pressure. Without units, values above 2000 are taken as Pa."""
    levels = np.asarray(values, dtype=np.float64)
    if not str(units).strip():
        return levels / 100.0 if levels.size and levels.max() > 2000.0 else levels
    conversion = linear(units, "hPa")
    return None if conversion is None else levels * conversion.scale + conversion.offset


def summed_hours(cell_methods: str, width: float) -> float | None:
    """Hours that a sum along time spans, by its time bounds (``width`` in hours, 0 without) or its interval; None when it is no sum."""
    match = re.search(r"\btime:\s*sum\b\s*(?:within\s+\w+\s*)?(?:\(interval:\s*([\d.]+)\s*([A-Za-z]+)\s*\))?", cell_methods)
    if match is None:
        return None
    if width:
        return width
    hours = linear(match[2], "hour") if match[1] else None
    return None if hours is None else float(match[1]) * hours.scale


def _physical(variable: Variable, units: str) -> Conversion | None:
    """Conversions that need a physical constant."""
    if variable.name == "pr":
        flux = linear(units, "kg m-2 day-1")
        return None if flux is None else Conversion(flux.scale, flux.offset, flux.source, variable.units)
    if variable.name == "zg":
        geopotential = linear(units, "m2 s-2")
        return None if geopotential is None else Conversion(geopotential.scale / GRAVITY, 0.0, geopotential.source, variable.units)
    return None


def _reason(variable: Variable, units: str) -> str:
    if not str(units).strip():
        return ": the attribute is missing or empty"
    if variable.name == "pr" and (linear(units, "mm") or linear(units, "kg m-2")):
        return ": a sum over an unknown time"
    if variable.name == "hus" and clean(units) == "%":
        return ": per cent is what relative humidity has"
    return "" if _parse(units) else ": UDUNITS does not know them"


def _example(variable: Variable, units: str) -> str:
    if variable.name == "pr" and clean(units) in ("m", "cm"):
        return f"{clean(units)}/day"
    return {"pr": "mm/day", "tas": "degC"}.get(variable.name, variable.file_units)


def _round(value: float) -> float:
    """Twelve digits: what double precision leaves of 274.15 - 273.15."""
    return float(f"{float(value):.12g}")


@lru_cache(maxsize=512)
def _parse(units: str) -> cf_units.Unit | None:
    try:
        unit = cf_units.Unit(clean(units))
    except ValueError:
        return None
    return None if unit.is_unknown() or unit.is_no_unit() else unit
