"""How numbers are kept in the files: rounded floats, or packed integers for the smallest samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FILL = np.float32(1e20)
KEEP_BITS = {"zg": 14, "ta": 12, "hus": 10, "ua": 9, "va": 9, "tas": 12, "tasmax": 12, "pr": 10, "psl": 14}
"""Mantissa bits kept (netCDF BitRound): at most 0.125 m of zg, 0.03 K, 0.05 % of hus and pr, 0.03 m s-1, 2 Pa."""
_PACKING = {
    "ta": (0.05, 260.0),
    "tas": (0.05, 280.0),
    "tasmax": (0.05, 280.0),
    "ua": (0.2, 0.0),
    "va": (0.2, 0.0),
    "psl": (10.0, 1e5),
    "pr": (0.1 / 86_400.0, 0.0),
    "hus": (5e-5, 0.0),
    "zg": (1.0, 4000.0),
}
"""scale_factor and add_offset in file units."""


@dataclass(frozen=True)
class Storage:
    """packed: int16 with scale_factor and add_offset, deflate 9; otherwise float32, BitRound and deflate 1."""

    packed: bool = False

    def options(self, name: str) -> dict[str, Any]:
        """Arguments of netCDF4.Dataset.createVariable for a variable."""
        if self.packed:
            return {"datatype": "i2", "fill_value": -32_768, "compression": "zlib", "complevel": 9, "shuffle": True}
        return {
            "datatype": "f4",
            "fill_value": FILL,
            "compression": "zlib",
            "complevel": 1,
            "shuffle": True,
            "significant_digits": KEEP_BITS[name],
            "quantize_mode": "BitRound",
        }

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes that go with it."""
        if self.packed:
            scale, offset = _PACKING[name]
            return {"scale_factor": scale, "add_offset": offset}
        return {"missing_value": FILL}

    def bytes_per_value(self) -> float:
        """Rough size on disk, measured on the demo's files."""
        return 1.1 if self.packed else 1.35
