"""One Zarr store for all variables of a prediction, with consolidated metadata (Zarr format 2, which xarray, GDAL and netCDF-C read)."""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import netCDF4
import numpy as np
import zarr
from numcodecs import Blosc

from downscale.cf.calendar import day_bounds, encode_days
from downscale.cf.skeleton import chunk_length, define_field, define_series, define_time
from downscale.cf.units import to_file
from downscale.cf.write import FILL, rounding, stored, write_error
from downscale.errors import DownscaleError
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.profiles.facets import with_facets
from downscale.profiles.spec import OutputSpec

log = logging.getLogger(__name__)
CHUNKS_HELD = 4
"""Chunks of days that are written at once, so that none is compressed twice."""


class ZarrOutput:
    """``prediction.zarr``, or ``prediction_19900101-19941231.zarr`` for a part: written under ``.partial``, read again, renamed."""

    def __init__(self, spec: OutputSpec) -> None:
        """Create the unfinished store.

        Raises:
            DownscaleError: it cannot be written, with the path and the free space.
            OutputExistsError: a symbolic link stands in the way.
        """
        self._spec = spec
        self.path = spec.folder / f"prediction{spec.ending('.zarr')}"
        self.files = [self.path]
        self._partial = self.path.with_name(self.path.name + ".partial")
        for path in (self.path, self._partial):
            refuse_links(path)
            refuse_links_inside(path)
        self._step = CHUNKS_HELD * chunk_length(*spec.grid.shape)
        self._waiting: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._held, self._count = 0, 0
        self._last: dict[str, int] = {}
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._store: Any = _layout(spec, self._partial)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, days: np.ndarray, fields: np.ndarray, series: Mapping[str, np.ndarray] | None = None) -> None:
        """See Output; days are kept until whole chunks of them are there."""
        spec = self._spec
        arrays = {}
        for position, name in enumerate(spec.variables):
            conversion = to_file(spec.row(name))
            values = stored(fields[..., position, :, :], conversion.scale, conversion.offset, spec.significant_bits)
            values[values == FILL] = np.nan
            arrays[name] = values
        arrays |= {name: np.asarray(values).astype(self._store[name].dtype) for name, values in (series or {}).items()}
        self._waiting.append((np.asarray(days, dtype=np.int64), arrays))
        self._held += len(days)
        while self._held >= self._step:
            self._write(self._step)

    def __enter__(self) -> ZarrOutput:
        """The output itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish after success, remove the unfinished store after an exception."""
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        try:
            if self._held:
                self._write(self._held)
            if self._count != len(self._spec.days):
                raise OSError(f"{self._count} of {len(self._spec.days)} days were written")
            zarr.consolidate_metadata(self._store.store)
            self._verify()
            self._publish()
        except OSError as failure:
            raise self._failed(failure) from failure

    def _write(self, count: int) -> None:
        """Write the first ``count`` days that wait."""
        days = np.concatenate([days for days, _ in self._waiting])
        arrays = {name: np.concatenate([part[name] for _, part in self._waiting]) for name in self._waiting[0][1]}
        expected = self._spec.days[self._count : self._count + count]
        if not np.array_equal(days[:count], expected):
            raise ValueError(f"days {days[0]} to {days[count - 1]} come where {self._spec.days[self._count]} is due")
        window = slice(self._count, self._count + count)
        try:
            for name, values in arrays.items():
                self._store[name][window] = values[:count]
        except OSError as error:
            raise self._failed(error) from error
        self._last = {name: _checksum(values[count - 1]) for name, values in arrays.items()}
        rest = {name: values[count:] for name, values in arrays.items()}
        self._waiting = [(days[count:], rest)] if len(days) > count else []
        self._count, self._held = window.stop, self._held - count

    def _verify(self) -> None:
        root: Any = zarr.open_consolidated(str(self._partial), mode="r")
        if any(_checksum(root[name][-1]) != known for name, known in self._last.items()):
            raise OSError("the written store differs from what was to be written")

    def _publish(self) -> None:
        """Rename; an older store of this name goes first."""
        old = self.path.with_name(self.path.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            self.path.rename(old)
        self._partial.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def _failed(self, error: Exception) -> DownscaleError:
        shutil.rmtree(self._partial, ignore_errors=True)
        return write_error(self.path, error)


def _layout(spec: OutputSpec, path: Path) -> Any:
    """A store with all arrays; what surrounds the fields is as in a CF file of ours, which is made in memory and copied."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    path.parent.mkdir(parents=True, exist_ok=True)
    root: Any = zarr.open_group(str(path), mode="w", zarr_format=2)
    attributes = with_facets(spec.attributes, spec.facets)
    root.attrs.update({**{key: str(value) for key, value in attributes.items()}, "Conventions": "CF-1.11", "creation_date": now})
    for name in spec.variables:
        with netCDF4.Dataset("skeleton", "w", diskless=True, persist=False, format="NETCDF4_CLASSIC") as file:
            _define(file, name, spec)
            for variable in file.variables.values():
                if variable.name not in root:
                    _copy(root, variable, spec)
    root["time"][:] = encode_days(spec.days, spec.calendar)
    root["time_bnds"][:] = day_bounds(spec.days, spec.calendar)
    return root


def _define(file: netCDF4.Dataset, name: str, spec: OutputSpec) -> None:
    """One variable of the output as FieldWriter has it."""
    define_time(file, spec.calendar)
    row = spec.row(name)
    field = define_field(file, row, spec.grid.to_coordinates(), 0, timed=True, members=spec.members, series=spec.series)
    field.setncatts({**rounding(spec.significant_bits), **(spec.about_values if row.file_units == "K" else {})})
    for one, about in spec.series.items():
        define_series(file, one, about)


def _copy(root: Any, variable: netCDF4.Variable, spec: OutputSpec) -> None:
    """An array like a NetCDF variable; numbers along time come later, the others are copied. Fields and their gaps are NaN."""
    attributes = {key: _plain(variable.getncattr(key)) for key in variable.ncattrs() if key not in ("_FillValue", "missing_value")}
    fill = np.nan if variable.dtype == np.float32 else getattr(variable, "_FillValue", None)
    dims, values = variable.dimensions, None
    if variable.dtype == "S1":
        dims, values = dims[:-1], netCDF4.chartostring(variable[:])
    elif "time" not in dims:
        variable.set_auto_maskandscale(False)
        values = np.asarray(variable[...])
    timed = "time" in dims
    shape = (len(spec.days), *variable.shape[1:]) if timed else values.shape  # type: ignore[union-attr]
    is_field = variable.name in spec.variables
    chunks = (chunk_length(*spec.grid.shape), *(1,) * (variable.ndim - 3), *spec.grid.shape) if is_field else shape
    array = root.create_array(
        variable.name,
        shape=shape,
        dtype=variable.dtype if values is None else values.dtype,
        chunks=tuple(max(1, min(size, whole)) for size, whole in zip(chunks, shape, strict=True)),
        compressors=Blosc("zstd", clevel=spec.compression, shuffle=Blosc.SHUFFLE) if spec.compression and shape else None,
        fill_value=fill,
    )
    array.attrs.update({**attributes, "_ARRAY_DIMENSIONS": list(dims)})
    if values is not None:
        array[...] = values


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value).tolist()


def _checksum(values: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())
