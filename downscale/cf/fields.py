"""One block of one variable: raw numbers to float32 in working units, missing as NaN, implausible values refused.

All steps go over a piece of a block that stays in the processor's cache, so that the screening costs little beside reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf.header import VariableHeader
from downscale.cf.units import Conversion
from downscale.variables import Channel, Variable, lookup

NEGLIGIBLE_NEGATIVE = 1e-6 * 86400.0
"""Precipitation below zero by less than 1e-6 kg m-2 s-1 is the ringing of spectral transforms and is clipped (FAULTS U07)."""
CACHED_VALUES = 2**18
"""Values of one piece: 1 MiB of float32, half of a core's second-level cache."""
_ROUNDING = 2.0**-23
_GROWING_DAYS = 7


@dataclass
class Missing:
    """How many values were missing though the file does not say so.

    Attributes:
        undeclared: the netCDF library's default fill value where the file declares none.
        extra: the fill values that the config gives.
    """

    undeclared: int = 0
    extra: int = 0


@dataclass(frozen=True)
class Decoder:
    """How the stored numbers of one variable in one file become values.

    Attributes:
        missing: stored numbers that mean missing.
        default_fill: the netCDF library's fill value for the type, where the file declares none (NetCDF Users Guide: never written);
            of integers only where they are packed.
        extra: lowest and highest stored number of each undeclared fill value that the config gives.
        gain, shift: working value = gain * stored number + shift; CF packing and units in one.
        unsigned: type to read the stored integers as, or None.
        conversion: to working units.
    """

    missing: tuple[float, ...]
    default_fill: float | None
    extra: tuple[tuple[float, float], ...]
    gain: float
    shift: float
    unsigned: str | None
    conversion: Conversion

    @classmethod
    def of(cls, variable: VariableHeader, conversion: Conversion, fill_values: tuple[float, ...] | list[float] = ()) -> Decoder:
        """The decoder of a variable, by its attributes.

        Args:
            variable: as stored.
            conversion: from its units to working units.
            fill_values: further numbers that mean missing, as stored or as unpacked by scale_factor and add_offset, within the
                rounding of float32 (of half a packing step where integers are stored).
        """
        kind = np.dtype(variable.dtype)
        declared = [variable.attrs[name] for name in ("_FillValue", "missing_value") if name in variable.attrs]
        numbers = {float(value) for one in declared for value in np.atleast_1d(one) if not isinstance(value, str)}
        missing = tuple(sorted(stored for value in numbers for stored in _stored(value, kind)))
        packed = kind.kind == "i" and kind.itemsize > 1 and not declared and {"scale_factor", "add_offset"} & set(variable.attrs)
        unstated = kind.kind == "f" and "_FillValue" not in variable.attrs
        default = float(netCDF4.default_fillvals[kind.str[1:]]) if unstated or packed else None
        scale, offset = float(variable.attrs.get("scale_factor", 1.0)), float(variable.attrs.get("add_offset", 0.0))
        known = missing if default is None else (*missing, default)
        around = {one for value in fill_values for one in _around(float(value), scale, offset, kind)}
        extra = tuple(sorted((low, high) for low, high in around if not any(low <= value <= high for value in known)))
        unsigned = f"u{kind.itemsize}" if variable.text("_Unsigned").lower() == "true" and kind.kind == "i" else None
        gain, shift = scale * conversion.scale, offset * conversion.scale + conversion.offset
        return cls(missing, default, extra, gain, shift, unsigned, conversion)

    def decode(self, raw: NDArray[Any]) -> tuple[NDArray[np.float32], Missing]:
        """Values in working units, missing as NaN, and what was missing undeclared. ``raw`` is left alone."""
        values = np.empty(raw.shape, np.float32)
        return values, self.decode_into(raw, values)

    def decode_into(self, raw: NDArray[Any], values: NDArray[np.float32]) -> Missing:
        """As decode, into an array of the same shape, which may be ``raw`` itself where that is float32 and contiguous."""
        count = Missing()
        holes: NDArray[np.bool_] | None = None
        for value in self.missing:
            stored = raw == raw.dtype.type(value)
            holes = stored if holes is None else np.logical_or(holes, stored, out=holes)
        if self.default_fill is not None:
            stored = raw == raw.dtype.type(self.default_fill)
            count.undeclared = int(np.count_nonzero(stored))
            holes = stored if holes is None else np.logical_or(holes, stored, out=holes)
        for low, high in self.extra:
            stored = (raw >= raw.dtype.type(low)) & (raw <= raw.dtype.type(high))
            count.extra += int(np.count_nonzero(stored))
            holes = stored if holes is None else np.logical_or(holes, stored, out=holes)
        with np.errstate(over="ignore", invalid="ignore"):
            self._convert(raw, values)
        if holes is not None and holes.any():
            _set_nan(values, holes)
        return count

    def _convert(self, raw: NDArray[Any], values: NDArray[np.float32]) -> None:
        """Packed, 8-byte and shifted numbers by way of float64, so that they are rounded once, at the end; other float32 as float32."""
        if self.unsigned is not None:
            raw = raw.view(self.unsigned)
        if raw.dtype == np.float32 and self.shift == 0.0:
            if self.gain != 1.0:
                np.multiply(raw, np.float32(self.gain), out=values)
            elif raw is not values:
                np.copyto(values, raw)
            return
        scaled = raw if self.gain == 1.0 else np.multiply(raw, self.gain, dtype=np.float64)
        np.add(scaled, self.shift, out=values, dtype=np.float64, casting="same_kind")


def _stored(value: float, kind: np.dtype[Any]) -> list[float]:
    """A number as the stored type holds it; none where it cannot."""
    if np.isnan(value):
        return []
    if kind.kind == "f":
        largest = float(np.finfo(kind).max)
        return [float(kind.type(value))] if abs(value) <= largest or np.isinf(value) else []
    if kind.kind not in "iu" or value != np.round(value):
        return []
    limits = np.iinfo(kind)
    return [value] if limits.min <= value <= limits.max else []


def _around(value: float, scale: float, offset: float, kind: np.dtype[Any]) -> list[tuple[float, float]]:
    """Stored numbers, lowest and highest, that a fill value given by a person may mean: itself, or what unpacks to it."""
    slack = abs(value) * _ROUNDING
    meant = [(value, slack)]
    if (scale, offset) != (1.0, 0.0) and scale != 0.0:
        meant.append(((value - offset) / scale, slack / abs(scale)))
    if kind.kind != "f":
        return [(stored, stored) for number, _ in meant for stored in _stored(float(np.round(number)), kind)]
    return [(low[0], high[0]) for number, by in meant if (low := _stored(number - by, kind)) and (high := _stored(number + by, kind))]


def _set_nan(values: NDArray[np.float32], holes: NDArray[np.bool_]) -> None:
    """NaN where ``holes``: a float with all bits set is one, and setting bits takes a tenth of the time of a masked assignment."""
    bits = values.view(np.int32)
    np.bitwise_or(bits, np.negative(holes.view(np.int8), dtype=np.int32), out=bits)


def clip_negligible(variable: Variable, values: NDArray[np.float32]) -> int:
    """Set negligible negative values of a non-negative variable to zero, in place; how many there were."""
    if not variable.non_negative or not values.size or not np.fmin.reduce(values, axis=None) < 0.0:
        return 0
    negligible = (values < 0.0) & (values >= -NEGLIGIBLE_NEGATIVE)
    values[negligible] = 0.0
    return int(np.count_nonzero(negligible))


def plausible_range(channel: Channel) -> tuple[float, float]:
    """Lowest and highest plausible value of a channel in working units.

    Heights of pressure levels lie around those of the ICAO standard atmosphere, so that a geopotential said to be a height is found.
    """
    if channel.variable != "zg" or channel.level_hpa is None:
        return lookup(channel.variable).valid_range
    pressure = float(channel.level_hpa)
    height = 44330.8 * (1.0 - (pressure / 1013.25) ** 0.190263) if pressure > 226.32 else 11000.0 + 6341.6 * math.log(226.32 / pressure)
    slack = 1000.0 + 0.25 * height
    return height - slack, height + slack


def implausible(channel: Channel, values: NDArray[np.float32]) -> tuple[int, float, float] | None:
    """First time step outside the channel's plausible range with the block's lowest and highest value; None when all lie inside."""
    if not values.size:
        return None
    low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
    lowest, highest = plausible_range(channel)
    if not (low < lowest or high > highest):
        return None
    outside = ((values < lowest) | (values > highest)).any(axis=(1, 2))
    return int(np.argmax(outside)), low, high


def accumulates(values: NDArray[np.float32]) -> bool:
    """Whether fields never fall anywhere and grow unevenly on at least seven days: a sum since the start, which no weather looks like."""
    grown = 0
    for before, after in pairwise(values):
        if (after < before).any():
            return False
        change = after - before
        most, least = float(np.fmax.reduce(change, axis=None)), float(np.fmin.reduce(change, axis=None))
        grown += most > 0.0 and most - least > 0.1 * most
    return grown >= _GROWING_DAYS
