"""One block of one variable: raw numbers to float32 in working units, missing as NaN, implausible values refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf.header import VariableHeader
from downscale.cf.units import Conversion
from downscale.variables import Variable

NEGLIGIBLE_NEGATIVE = 1e-6 * 86400.0
"""Precipitation below zero by less than 1e-6 kg m-2 s-1 is the ringing of spectral transforms and is clipped (FAULTS U07)."""


@dataclass(frozen=True)
class Decoder:
    """How the stored numbers of one variable in one file become values.

    Attributes:
        missing: stored numbers that mean missing.
        default_fill: the netCDF library's fill value for the type, where the file declares none (NetCDF Users Guide: never written).
        scale, offset: CF packing.
        unsigned: type to read the stored integers as, or None.
        conversion: to working units.
    """

    missing: tuple[float, ...]
    default_fill: float | None
    scale: float
    offset: float
    unsigned: str | None
    conversion: Conversion

    @classmethod
    def of(cls, variable: VariableHeader, conversion: Conversion) -> Decoder:
        """The decoder of a variable, by its attributes."""
        declared = [variable.attrs[name] for name in ("_FillValue", "missing_value") if name in variable.attrs]
        missing = {float(value) for one in declared for value in np.atleast_1d(one) if not isinstance(value, str)}
        kind = np.dtype(variable.dtype)
        default = float(netCDF4.default_fillvals[kind.str[1:]]) if kind.kind == "f" and "_FillValue" not in variable.attrs else None
        scale, offset = float(variable.attrs.get("scale_factor", 1.0)), float(variable.attrs.get("add_offset", 0.0))
        unsigned = f"u{kind.itemsize}" if variable.text("_Unsigned").lower() == "true" and kind.kind == "i" else None
        return cls(tuple(value for value in missing if not np.isnan(value)), default, scale, offset, unsigned, conversion)

    def decode(self, raw: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
        """Values in working units and how many were undeclared default fill values. ``raw`` may be overwritten."""
        holes: NDArray[np.bool_] | None = None
        for value in self.missing:
            stored = raw == (np.asarray(value).astype(raw.dtype) if raw.dtype.kind == "f" else value)
            holes = stored if holes is None else holes | stored
        undeclared = 0
        if self.default_fill is not None and raw.size and np.fmax.reduce(raw, axis=None) >= self.default_fill:
            stored = raw == np.asarray(self.default_fill).astype(raw.dtype)
            undeclared = int(np.count_nonzero(stored))
            holes = stored if holes is None else holes | stored
        values = self._unpack(raw)
        if holes is not None and holes.any():
            values[holes] = np.nan
        return self.conversion.apply(values).astype(np.float32, copy=False), undeclared

    def _unpack(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Packed, 8-byte and shifted numbers in float64, so that they are rounded once, at the end; other float32 stays float32."""
        if self.unsigned is not None:
            raw = raw.view(self.unsigned)
        plain = self.scale == 1.0 and self.offset == 0.0 and self.conversion.offset == 0.0
        if plain and raw.dtype.kind == "f" and raw.dtype.itemsize == 4:
            return raw.astype(np.float32, copy=False)
        values = raw.astype(np.float64)
        return values if self.scale == 1.0 and self.offset == 0.0 else values * self.scale + self.offset


def clip_negligible(variable: Variable, values: NDArray[np.float32]) -> int:
    """Set negligible negative values of a non-negative variable to zero, in place; how many there were."""
    if not variable.non_negative or not values.size or not np.fmin.reduce(values, axis=None) < 0.0:
        return 0
    negligible = (values < 0.0) & (values >= -NEGLIGIBLE_NEGATIVE)
    values[negligible] = 0.0
    return int(np.count_nonzero(negligible))


def implausible(variable: Variable, values: NDArray[np.float32]) -> tuple[int, float, float] | None:
    """First time step outside the variable's plausible range with the block's lowest and highest value; None when all lie inside."""
    if not values.size:
        return None
    low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
    lowest, highest = variable.valid_range
    if not (low < lowest or high > highest):
        return None
    outside = ((values < lowest) | (values > highest)).any(axis=(1, 2))
    return int(np.argmax(outside)), low, high
