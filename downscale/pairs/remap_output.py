"""One output of fields on a new grid, as NetCDF or Zarr: written under ``.partial``, renamed when it is whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import netCDF4
import numpy as np

from downscale.cf.write import write_error
from downscale.errors import OutputExistsError
from downscale.hpc.paths import refuse_links

FILL = 1e20
_CHUNK_BYTES = 4_000_000


@dataclass(frozen=True, eq=False)
class Entry:
    """A variable of the output: its values, or None where they are written block by block."""

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any]
    values: np.ndarray | None = None


@dataclass(eq=False)
class Plan:
    """All of an output but its fields' values."""

    sizes: dict[str, int] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    unlimited: set[str] = field(default_factory=set)

    def shape(self, entry: Entry) -> tuple[int, ...]:
        """Lengths of an entry's dimensions."""
        return tuple(self.sizes[dim] for dim in entry.dims)

    def chunks(self, entry: Entry) -> tuple[int, ...]:
        """Whole planes, as many time steps as make 4 MB; other outer dimensions one at a time."""
        shape = self.shape(entry)
        if len(shape) < 3:
            return tuple(max(n, 1) for n in shape)
        plane = max(1, shape[-1] * shape[-2] * entry.dtype.itemsize)
        steps = max(1, min(shape[0] or 1, _CHUNK_BYTES // plane))
        return (steps, *(1 for _ in shape[1:-2]), *shape[-2:])


def require_free(path: Path, *, overwrite: bool) -> None:
    """Nothing when an output may be written to ``path``; OutputExistsError when something is there (or is no output of this kind)."""
    refuse_links(path)
    if not path.exists():
        return
    ours = (path / "zarr.json").is_file() if path.suffix == ".zarr" else path.is_file()
    if not overwrite or not ours:
        raise OutputExistsError(
            "the output exists" if ours else "something else stands where the output would go",
            where=str(path),
            hint="give another name, or --overwrite to replace it" if ours else "give another name",
        )


class Output:
    """The open output; a context manager that renames after success and leaves nothing after an exception."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self.partial = path.with_name(f"{path.name}.partial")
        refuse_links(self.partial)
        _remove(self.partial)
        self._store: Any = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store = self._zarr() if path.suffix == ".zarr" else self._netcdf()
        except (OSError, RuntimeError) as error:
            told = write_error(path, error, self.partial)
            self._give_up()
            raise told from error

    def write(self, name: str, index: tuple[slice, ...], values: np.ndarray) -> None:
        """A block of a field, on its outer dimensions; NaN is missing."""
        stored = values if self.path.suffix == ".zarr" else np.where(np.isnan(values), values.dtype.type(FILL), values)
        try:
            self._store[name][(*index, slice(None), slice(None))] = stored
        except (OSError, RuntimeError) as error:
            told = write_error(self.path, error, self.partial)
            self._give_up()
            raise told from error

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._give_up()
            return
        try:
            self._close()
            old = self.path.with_name(f"{self.path.name}.old")
            if self.path.is_dir():
                _remove(old)
                self.path.rename(old)
            self.partial.replace(self.path)
            _remove(old)
        except (OSError, RuntimeError) as failure:
            told = write_error(self.path, failure, self.partial)
            self._give_up()
            raise told from failure

    def _close(self) -> None:
        store, self._store = self._store, None
        if isinstance(store, netCDF4.Dataset):
            store.close()

    def _give_up(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the error that led here is the one to tell
            self._close()
        _remove(self.partial)

    def _netcdf(self) -> netCDF4.Dataset:
        file = netCDF4.Dataset(self.partial, "w", format="NETCDF4_CLASSIC")
        file.setncatts(self.plan.attributes)
        for dim, size in self.plan.sizes.items():
            file.createDimension(dim, None if dim in self.plan.unlimited else size)
        for name, entry in self.plan.entries.items():
            is_field = entry.values is None
            options: dict[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True} if is_field else {}
            if is_field and entry.dims:
                options["chunksizes"] = self.plan.chunks(entry)
            fill = entry.dtype.type(FILL) if is_field else False
            variable = file.createVariable(name, entry.dtype, entry.dims, fill_value=fill, **options)
            variable.setncatts({**entry.attributes, **({"missing_value": fill} if is_field else {})})
            if entry.values is not None:
                variable[...] = entry.values
        return file

    def _zarr(self) -> Any:
        import zarr  # half a second, and NetCDF needs none of it

        group = zarr.open_group(self.partial, mode="w", zarr_format=3)
        group.update_attributes({key: _plain(value) for key, value in self.plan.attributes.items()})
        for name, entry in self.plan.entries.items():
            array = group.create_array(
                name,
                shape=self.plan.shape(entry),
                dtype=entry.dtype,
                chunks=self.plan.chunks(entry),
                dimension_names=list(entry.dims),
                fill_value=np.nan if entry.values is None else 0,
                attributes={key: _plain(value) for key, value in entry.attributes.items()},
            )
            if entry.values is not None:
                array[...] = entry.values
        return group


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
