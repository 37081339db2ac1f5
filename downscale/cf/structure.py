"""What a file's names, levels and layout depend on, as one key: ten thousand files of one run have a handful of them."""

from __future__ import annotations

from hashlib import blake2b

from downscale.cf.header import FileHeader, VariableHeader

_WORDS = ("history", "comment", "long_name", "description", "original_name", "original_units", "associated_files")
_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "actual_range")


def structure(header: FileHeader) -> bytes:
    """A digest of all that decides names, levels, members' dimension and layout of a file's variables.

    Left out: global attributes, words, packing, and what differs along time: numbers of steps (but none, one or many), stamps.
    """
    times = {v.name for v in header.variables.values() if " since " in v.text("units")}
    digest = blake2b(digest_size=16)
    for variable in header.variables.values():
        digest.update(_line(variable, times).encode())
    for name, values in header.values.items():
        if not times.intersection(header.variables[name].dims) and name not in times:
            digest.update(name.encode() + values.dtype.str.encode() + values.tobytes())
    return digest.digest()


def _line(variable: VariableHeader, times: set[str]) -> str:
    shape = [min(length, 2) if dim in times else length for dim, length in zip(variable.dims, variable.shape, strict=True)]
    if variable.name in times:
        kept = {key: value for key, value in variable.attrs.items() if key in ("axis", "standard_name", "bounds")}
    else:
        kept = {key: value for key, value in variable.attrs.items() if key not in _WORDS and key not in _PACKING}
    return f"{variable.name}|{variable.dims}|{shape}|{variable.dtype}|{kept}\n"
