"""What a file says about itself: dimensions, variables, attributes, short coordinate values. Read once, held as plain data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.errors import InputDataError

_SHORT_AXIS = 100_000
"""One-dimensional variables up to this length are kept with the header: axes of time, level and space."""
LONGEST_DIMENSION = 2**27
MOST_VARIABLES = 10_000
MOST_CELLS = 2**28
"""A header beyond these is damaged or a trap, and is refused before anything of its size is allocated (FAULTS X11)."""


class OversizedError(ValueError):
    """A header that declares more than any climate file holds."""


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
        structure: sha256 of the variables and of all these values but times: equal in the files of one series.
        notes: what was assumed when the file was chosen.
    """

    path: Path
    resolved: Path
    size: int
    mtime_ns: int
    variables: dict[str, VariableHeader]
    values: dict[str, NDArray[Any]]
    attrs: dict[str, Any]
    fingerprint: str = field(default="")
    structure: str = field(default="")
    notes: tuple[str, ...] = field(default=())

    def manifest(self) -> dict[str, Any]:
        """The entry of this file in an artefact's list of inputs."""
        entry: dict[str, Any] = {"path": str(self.path), "size": self.size, "fingerprint": self.fingerprint}
        if self.resolved != self.path.absolute():
            entry["resolved"] = str(self.resolved)
        if "tracking_id" in self.attrs:
            entry["tracking_id"] = str(self.attrs["tracking_id"])
        return entry

    def listed(self) -> dict[str, Any]:
        """The manifest entry, with the time of the last change: for lists, not for digests of what was read."""
        return {**self.manifest(), "mtime": time_of(self.mtime_ns)}


def time_of(nanoseconds: int) -> str:
    """A file's time, UTC to the second."""
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Sharing:
    """Lets files of one structure share one table of variables and one set of axes."""

    def __init__(self) -> None:
        self._known: dict[str, FileHeader] = {}

    def __call__(self, header: FileHeader) -> FileHeader:
        """The header, with the parts of the first one of the same structure."""
        first = self._known.setdefault(header.structure, header)
        if first is header:
            return header
        own = moving(header.variables)
        values = {name: header.values[name] if name in own else first.values[name] for name in header.values}
        return replace(header, variables=first.variables, values=values)


def read_header(path: Path, resolved: Path | None = None) -> FileHeader:
    """Read a netCDF file's header and short coordinates.

    Raises:
        OversizedError: it declares a dimension or a number of variables that no climate file has.
        OSError, RuntimeError: of the netCDF library.
    """
    stat = path.stat()
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        check_size({name: len(dimension) for name, dimension in dataset.dimensions.items()}, len(dataset.variables))
        variables = {name: _variable(name, variable) for name, variable in dataset.variables.items()}
        values = {name: _values(dataset[name]) for name in _short(variables)}
        attrs = {name: dataset.getncattr(name) for name in dataset.ncattrs()}
    structure, fingerprint = _digests(variables, values, attrs, stat.st_size)
    resolved = path.resolve() if resolved is None else resolved
    return FileHeader(path, resolved, stat.st_size, stat.st_mtime_ns, variables, values, attrs, fingerprint, structure)


def check_size(dimensions: Mapping[str, int], variables: int) -> None:
    """Raise OversizedError for a header that cannot be meant (X11)."""
    for name, length in dimensions.items():
        if length > LONGEST_DIMENSION:
            raise OversizedError(f"its header declares a dimension '{name}' of length {length}: damaged, or no climate data")
    if variables > MOST_VARIABLES:
        raise OversizedError(f"its header declares {variables} variables: damaged, or no climate data")


def check_plane(header: FileHeader, variable: VariableHeader, dims: tuple[str, str]) -> None:
    """Raise InputDataError where one field of a variable has more cells than memory is given for (X11)."""
    lengths = [length for dim, length in zip(variable.dims, variable.shape, strict=True) if dim in dims]
    if math.prod(lengths) > MOST_CELLS:
        raise InputDataError(
            f"one field of {variable.name} has {' x '.join(map(str, lengths))} cells",
            where=f"{header.path}: {variable.name}",
            hint=f"more than {MOST_CELLS} cells a field cannot be worked on: a damaged header, or cut the file to your domain",
        )


def moving(variables: Mapping[str, VariableHeader]) -> set[str]:
    """Variables whose values differ between the files of one series: times and their bounds."""
    times = [variable for variable in variables.values() if " since " in variable.text("units")]
    return {variable.name for variable in times} | {variable.text("bounds") for variable in times}


def _variable(name: str, variable: netCDF4.Variable) -> VariableHeader:
    attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
    return VariableHeader(name, tuple(variable.dimensions), tuple(int(length) for length in variable.shape), str(variable.dtype), attrs)


def _short(variables: dict[str, VariableHeader]) -> list[str]:
    """Names of numeric variables small enough to be kept: scalars, axes, and the bounds of axes."""
    axes = [v for v in variables.values() if v.is_number and len(v.dims) <= 1 and int(np.prod(v.shape)) <= _SHORT_AXIS]
    bounds = {v.text("bounds") for v in axes}
    pairs = [variables[name] for name in sorted(bounds) if name in variables and len(variables[name].dims) == 2]
    return [v.name for v in axes] + [v.name for v in pairs if v.is_number and v.shape[0] <= _SHORT_AXIS and v.shape[1] <= 4]


def _values(variable: netCDF4.Variable) -> NDArray[Any]:
    values = np.asarray(variable[...])
    scale, offset = getattr(variable, "scale_factor", 1.0), getattr(variable, "add_offset", 0.0)
    return values if scale == 1.0 and offset == 0.0 else values * np.float64(scale) + np.float64(offset)


def _digests(variables: dict[str, VariableHeader], values: dict[str, NDArray[Any]], attrs: dict[str, Any], size: int) -> tuple[str, str]:
    """Structure and fingerprint."""
    listing = [[v.name, v.dims, v.shape, v.dtype, v.attrs] for v in variables.values()]
    structure, digest = hashlib.sha256(), hashlib.sha256(str(size).encode())
    structure.update(json.dumps(listing, sort_keys=True, default=_plain).encode())
    digest.update(json.dumps([listing, attrs], sort_keys=True, default=str).encode())
    own = moving(variables)
    for name in sorted(values):
        data = name.encode() + np.ascontiguousarray(values[name]).tobytes()
        digest.update(data)
        if name not in own:
            structure.update(data)
    return structure.hexdigest(), digest.hexdigest()


def _plain(value: Any) -> Any:
    """An attribute that JSON does not know, with its type."""
    return [str(value.dtype), value.tolist()] if isinstance(value, (np.ndarray, np.generic)) else repr(value)
