"""What a file says about itself: dimensions, variables, attributes, short coordinate values. Read once, held as plain data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

_SHORT_AXIS = 100_000
"""One-dimensional variables up to this length are kept with the header: axes of time, level and space."""


@dataclass(frozen=True)
class VariableHeader:
    """One variable without its data.

    Attributes:
        name: in the file.
        dims: dimension names.
        shape: dimension lengths.
        dtype: as stored.
        attrs: attributes as stored.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: dict[str, Any]

    @property
    def is_number(self) -> bool:
        """Whether the values are integers or floating-point numbers."""
        return self.dtype.lstrip("<>=|")[:1] in ("i", "u", "f")

    def text(self, attribute: str) -> str:
        """An attribute as stripped text; empty when there is none."""
        return str(self.attrs.get(attribute, "")).strip()


@dataclass(frozen=True)
class FileHeader:
    """One file without its fields.

    Attributes:
        path: as given.
        resolved: after symbolic links.
        size, mtime_ns: when it was read; the file must not change before its fields are read.
        variables: by name.
        values: numbers of scalar and of short one-dimensional variables, and of bounds of one-dimensional variables.
        attrs: global attributes.
        fingerprint: sha256 of the header, these values and the size.
    """

    path: Path
    resolved: Path
    size: int
    mtime_ns: int
    variables: dict[str, VariableHeader]
    values: dict[str, NDArray[Any]]
    attrs: dict[str, Any]
    fingerprint: str = field(default="")

    def manifest(self) -> dict[str, Any]:
        """The entry of this file in an artefact's list of inputs."""
        entry: dict[str, Any] = {"path": str(self.path), "size": self.size, "fingerprint": self.fingerprint}
        if self.resolved != self.path.absolute():
            entry["resolved"] = str(self.resolved)
        if "tracking_id" in self.attrs:
            entry["tracking_id"] = str(self.attrs["tracking_id"])
        return entry


def read_header(path: Path) -> FileHeader:
    """Read a netCDF file's header and short coordinates. Raises OSError or RuntimeError of the netCDF library."""
    stat = path.stat()
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        variables = {name: _variable(name, variable) for name, variable in dataset.variables.items()}
        values = {name: _values(dataset[name]) for name in _short(variables)}
        attrs = {name: dataset.getncattr(name) for name in dataset.ncattrs()}
    fingerprint = _fingerprint(variables, values, attrs, stat.st_size)
    return FileHeader(path, path.resolve(), stat.st_size, stat.st_mtime_ns, variables, values, attrs, fingerprint)


def _variable(name: str, variable: netCDF4.Variable) -> VariableHeader:
    attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
    return VariableHeader(name, tuple(variable.dimensions), tuple(int(length) for length in variable.shape), str(variable.dtype), attrs)


def _short(variables: dict[str, VariableHeader]) -> list[str]:
    """Names of numeric variables small enough to be kept: scalars, axes, and the bounds of axes."""
    axes = [v for v in variables.values() if v.is_number and len(v.dims) <= 1 and int(np.prod(v.shape)) <= _SHORT_AXIS]
    bounds = {v.text("bounds") for v in axes}
    return [v.name for v in axes] + [name for name in sorted(bounds) if name in variables and len(variables[name].dims) == 2]


def _values(variable: netCDF4.Variable) -> NDArray[Any]:
    values = np.asarray(variable[...])
    scale, offset = getattr(variable, "scale_factor", 1.0), getattr(variable, "add_offset", 0.0)
    return values if scale == 1.0 and offset == 0.0 else values * np.float64(scale) + np.float64(offset)


def _fingerprint(variables: dict[str, VariableHeader], values: dict[str, NDArray[Any]], attrs: dict[str, Any], size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    listing = [[v.name, v.dims, v.shape, v.dtype, v.attrs] for v in variables.values()]
    digest.update(json.dumps([listing, attrs], sort_keys=True, default=str).encode())
    for name in sorted(values):
        digest.update(name.encode() + np.ascontiguousarray(values[name]).tobytes())
    return digest.hexdigest()
