"""Prediction files of the CORDEX ML-Bench: pr and tasmax in one file on the target's coordinates, on the time axis of the predictors.

What the benchmark's templates name but do not hold (bounds, grid mappings) is left out; everything else of the coordinates is copied as
it is, bit for bit.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.cf.write import write_error
from downscale.config.folders import to_disk
from downscale.errors import InputDataError
from downscale.profiles.mlbench import TARGETS

MEMBER = "member"
_KEPT = ("standard_name", "long_name", "units", "cell_methods", "coordinates")
_UNITS = {"tasmax": "K", "pr": "mm/day"}
_NEAR = 1e-4
"""Degrees or km: templates and targets may differ by the rounding of float32."""


@dataclass(frozen=True, eq=False)
class Held:
    """A variable as it stands in a file."""

    dims: tuple[str, ...]
    values: np.ndarray
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Template:
    """Coordinates and attributes that the predictions of a domain have.

    Attributes:
        dims: names of the two horizontal dimensions, y first.
        coordinates: by name, the axes first.
        attributes: of each target.
    """

    dims: tuple[str, str]
    coordinates: dict[str, Held]
    attributes: dict[str, dict[str, Any]]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return len(self.coordinates[self.dims[0]].values), len(self.coordinates[self.dims[1]].values)

    @classmethod
    def of(cls, target: Path, domain: str = "", folder: Path | None = None) -> Template:
        """From the training target, or from the benchmark's templates (``tasmax_DOMAIN.nc``, ``pr_DOMAIN.nc``) in a folder.

        Raises:
            InputDataError: a file is missing, or the templates are not on the target's coordinates.
        """
        own = _read(target, TARGETS)
        if folder is None:
            return own
        parts = {name: _read(folder / f"{name}_{domain}.nc", (name,)) for name in TARGETS}
        first = parts[TARGETS[0]]
        for name, part in {**parts, "training target": own}.items():
            _require_equal(first, part, f"{folder / TARGETS[0]}_{domain}.nc and {name}")
        return cls(first.dims, first.coordinates, {name: part.attributes[name] for name, part in parts.items()})

    def difference(self, other: Template) -> str:
        """What is not equal, in words; empty when nothing is."""
        if self.dims != other.dims:
            return f"dimensions {self.dims} and {other.dims}"
        if set(self.coordinates) != set(other.coordinates):
            return f"coordinates {', '.join(sorted(self.coordinates))} and {', '.join(sorted(other.coordinates))}"
        for name, held in self.coordinates.items():
            there = other.coordinates[name]
            if held.dims != there.dims or held.values.shape != there.values.shape:
                return f"{name}: {held.dims} {held.values.shape} and {there.dims} {there.values.shape}"
            apart = float(np.abs(held.values.astype(np.float64) - there.values.astype(np.float64)).max())
            if not apart <= _NEAR:
                return f"{name}: up to {apart:g} apart"
        return ""


def write_prediction(
    path: Path,
    template: Template,
    predictors: Path,
    blocks: Iterable[tuple[slice, Mapping[str, np.ndarray]]],
    *,
    members: int,
    attributes: Mapping[str, str],
) -> None:
    """Write a prediction file whole or not at all.

    Args:
        path: final name.
        template: of the domain.
        predictors: the file whose time axis it has.
        blocks: (window of the time steps, fields by name): (n, y, x), or (n, member, y, x) with members; tasmax in K, pr in mm/day.
        members: 0 for fields without that dimension.
        attributes: global attributes.

    Raises:
        DownscaleError: the file cannot be written.
        InputDataError: the predictors have no time axis.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with netCDF4.Dataset(partial, "w", format="NETCDF4") as file:
            file.setncatts(dict(attributes))
            _define(file, template, _time_of(predictors), members)
            for window, fields in blocks:
                for name in TARGETS:
                    file[name][window] = fields[name]
        to_disk(partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        told = write_error(path, error, partial)
        partial.unlink(missing_ok=True)
        raise told from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def fault_of(path: Path, template: Template, predictors: Path, members: int) -> str:
    """What is wrong with a prediction file, in words; empty when nothing is."""
    if not path.is_file():
        return "is missing"
    try:
        wrong = template.difference(_read(path, TARGETS))
        with netCDF4.Dataset(path) as file:
            time, wanted = _raw(file["time"]), _time_of(predictors)
            dims = ("time", *([MEMBER] if members else []), *template.dims)
            if not wrong and any(file[name].dimensions != dims for name in TARGETS):
                wrong = f"dimensions are not {', '.join(dims)}"
            if not wrong and members and len(file.dimensions[MEMBER]) != members:
                wrong = f"{len(file.dimensions[MEMBER])} members, not {members}"
    except (OSError, RuntimeError, KeyError, IndexError, InputDataError) as error:
        return f"cannot be read: {error}".splitlines()[0]
    same = time.values.shape == wanted.values.shape and np.array_equal(time.values, wanted.values)
    if not (same and all(time.attributes.get(key) == wanted.attributes.get(key) for key in ("units", "calendar"))):
        return wrong or "its time axis is not that of the predictors"
    return wrong


def archive(folder: Path, path: Path) -> None:
    """The folder as a zip: its own name on top, files in order of name; NetCDF is compressed already and stored as it is."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
            for file in sorted(folder.rglob("*.nc")):
                entry = zipfile.ZipInfo(str(Path(folder.name) / file.relative_to(folder)))
                entry.file_size = file.stat().st_size
                with file.open("rb") as source, target.open(entry, "w") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
        to_disk(partial)
        partial.replace(path)
    except OSError as error:
        told = write_error(path, error, partial)
        partial.unlink(missing_ok=True)
        raise told from error


def _read(path: Path, names: Iterable[str]) -> Template:
    try:
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            attributes = {name: _attributes(file, name) for name in names}
            y, x = file[next(iter(attributes))].dimensions[-2:]
            plain = [one for one in (y, x, "lat", "lon") if one in file.variables]
            coordinates = {name: _raw(file[name], "bounds", "grid_mapping") for name in dict.fromkeys(plain)}
    except (OSError, IndexError, KeyError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputDataError(f"cannot be read as a template: {reason}", where=str(path), hint="give the benchmark's own file") from None
    return Template((y, x), coordinates, attributes)


def _attributes(file: netCDF4.Dataset, name: str) -> dict[str, Any]:
    variable = file[name]
    found = {key: variable.getncattr(key) for key in _KEPT if key in variable.ncattrs()}
    found.setdefault("units", _UNITS[name])
    return found


def _raw(variable: netCDF4.Variable, *without: str) -> Held:
    variable.set_auto_maskandscale(False)
    kept = {key: variable.getncattr(key) for key in variable.ncattrs() if key not in ("_FillValue", *without)}
    return Held(tuple(variable.dimensions), np.asarray(variable[...]), kept)


def _time_of(predictors: Path) -> Held:
    try:
        with netCDF4.Dataset(predictors) as file:
            return _raw(file["time"], "bounds")
    except (OSError, IndexError, KeyError) as error:
        raise InputDataError("the predictors have no time axis", where=str(predictors), hint=str(error).splitlines()[0]) from None


def _define(file: netCDF4.Dataset, template: Template, time: Held, members: int) -> None:
    file.createDimension("time", len(time.values))
    if members:
        file.createDimension(MEMBER, members)
        file.createVariable(MEMBER, "i4", (MEMBER,))[:] = np.arange(members)
    for dim, length in zip(template.dims, template.shape, strict=True):
        file.createDimension(dim, length)
    for name, held in {"time": time, **template.coordinates}.items():
        variable = file.createVariable(name, held.values.dtype, held.dims)
        variable.setncatts(held.attributes)
        variable[...] = held.values
    dims = ("time", *([MEMBER] if members else []), *template.dims)
    chunk = (min(len(time.values), 32), *([1] if members else []), *template.shape)
    for name in TARGETS:
        field = file.createVariable(
            name, "f4", dims, fill_value=np.float32(np.nan), compression="zlib", complevel=1, shuffle=True, chunksizes=chunk
        )
        field.setncatts(template.attributes[name])


def _require_equal(one: Template, other: Template, names: str) -> None:
    difference = one.difference(other)
    if difference:
        raise InputDataError("the templates are not on the coordinates of the data", where=f"{names}: {difference}",
                             hint="give the templates of this domain, or leave them out")  # fmt: skip
