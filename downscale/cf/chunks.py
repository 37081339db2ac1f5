"""The storage chunks of an open variable, and the memory that HDF5 keeps for them."""

from __future__ import annotations

import logging

import netCDF4
import numpy as np

log = logging.getLogger(__name__)
_CACHE_BYTES = (2**20, 2**28)


def bound_cache(variable: netCDF4.Variable) -> bool:
    """Keep one row of chunks in time, which neighbouring reads share, and not tens of MB of every open file; whether a row is kept."""
    chunks = variable.chunking()
    if isinstance(chunks, str) or chunks is None:
        return True
    variable.set_var_chunk_cache(size=cache_bytes(variable), nelems=4133, preemption=0.0)
    if _row_bytes(variable) <= _CACHE_BYTES[1]:
        return True
    steps = chunks[_time(variable)]
    log.info("%s is stored in chunks of %d steps, too large to keep: reading it is slow", variable.name, steps)
    return False


def cache_bytes(variable: netCDF4.Variable) -> int:
    """Memory that bound_cache gives a variable; 0 where it is not stored in chunks."""
    chunks = variable.chunking()
    if isinstance(chunks, str) or chunks is None:
        return 0
    least, most = _CACHE_BYTES
    return min(max(_row_bytes(variable), least), most)


def _row_bytes(variable: netCDF4.Variable) -> int:
    """Bytes of all chunks that hold one time."""
    chunks = [int(chunk) for chunk in variable.chunking()]
    planes = [-(-length // chunk) * chunk for length, chunk in zip(variable.shape, chunks, strict=True)]
    planes[_time(variable)] = chunks[_time(variable)]
    return int(np.prod(planes)) * int(np.dtype(variable.dtype).itemsize)


def _time(variable: netCDF4.Variable) -> int:
    return variable.dimensions.index("time") if "time" in variable.dimensions else 0
