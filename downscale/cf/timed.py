"""Files that grow along time, day by day, and get their name when they are whole.

A file under its final name is complete: it is written as ``NAME.partial``, flushed to disk, opened again and compared, and only then
renamed.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import netCDF4
import numpy as np
from numpy.typing import ArrayLike, NDArray

from downscale import __version__
from downscale.cf.calendar import canonical, day_bounds, encode_days, iso
from downscale.cf.skeleton import define_series, define_time
from downscale.config.folders import to_disk
from downscale.errors import DiskFullError, DownscaleError
from downscale.hpc.paths import refuse_links
from downscale.hpc.room import free_space, full_words, why_full

log = logging.getLogger(__name__)
Series = Mapping[str, Mapping[str, Any]]
"""Name of a number a day -> its attributes; with flag_values or flag_masks it is of their type, else float32."""


class TimedFile:
    """A file with a time axis and numbers a day; a context manager.

    On a normal exit the file is closed, verified and renamed; on an exception the unfinished file is removed. A killed process leaves
    only ``PATH.partial``, which the next writer of the same path replaces.
    """

    def __init__(
        self,
        path: str | Path,
        calendar: str,
        attributes: Mapping[str, str],
        series: Series | None = None,
        define: Callable[[netCDF4.Dataset], None] | None = None,
        length: int | None = None,
    ) -> None:
        """Create the file.

        Args:
            path: final name.
            calendar: of the days.
            attributes: global attributes.
            series: numbers a day.
            define: makes what the file holds besides.
            length: number of days, where it is known: the time axis becomes one chunk.

        Raises:
            DownscaleError: the file cannot be written, with the path and the free space.
            OutputExistsError: the file is a symbolic link.
        """
        self.path, self.calendar = Path(path), canonical(calendar)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._count, self._last = 0, 0
        self._checksums: dict[str, int] = {}
        self._file: netCDF4.Dataset | None = None
        refuse_links(self.path)
        try:
            self._file = create(self.partial, attributes)
            define_time(self._file, self.calendar, length)
            if define is not None:
                define(self._file)
            self._series = {name: define_series(self._file, name, about, length) for name, about in (series or {}).items()}
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error

    def _extend(self, days: ArrayLike, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write further days of all variables but the time; arrays as they are stored, time first.

        Raises:
            DownscaleError: the disk is full or the file cannot be written; the unfinished file is removed.
            ValueError: days out of order, or a shape that is not the variable's.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        stamps = np.asarray(days, dtype=np.int64)
        for name, array in arrays.items():
            shape = (len(stamps), *self._file[name].shape[1:])
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not len(stamps):
            return
        if (np.diff(stamps) <= 0).any() or stamps[0] <= self._last:
            raise ValueError(f"days are not ascending: {stamps[0]} after {self._last}")
        window = slice(self._count, self._count + len(stamps))
        try:
            for name, array in arrays.items():
                self._file[name][window] = array
            self._file["time"][window] = encode_days(stamps, self.calendar)
            self._file["time_bnds"][window] = day_bounds(stamps, self.calendar)
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        self._count, self._last = window.stop, int(stamps[-1])
        self._checksums = {name: _checksum(array[-1]) for name, array in arrays.items()}

    def _of_series(self, series: Mapping[str, ArrayLike] | None) -> dict[str, NDArray[Any]]:
        """The numbers a day as they are stored; ValueError where they are not those that were defined."""
        given = series or {}
        if set(given) != set(self._series):
            raise ValueError(f"series {sorted(given)} given, {sorted(self._series)} defined")
        return {name: np.asarray(given[name]).astype(variable.dtype) for name, variable in self._series.items()}

    def close(self) -> None:
        """Finish: flush to disk, verify, rename. Raises DownscaleError when any of it fails."""
        if self._file is None:
            return
        try:
            file, self._file = self._file, None
            file.close()
            to_disk(self.partial)
            self._verify()
            self.partial.replace(self.path)
            to_disk(self.path.parent)
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        log.debug("%s: %d days to %s", self.path, self._count, iso(self._last) if self._count else "none")

    def abort(self) -> None:
        """Give up: remove the unfinished file. It is emptied first: on a full disk it could not be closed, and would keep its room."""
        file, self._file = self._file, None
        with suppress(OSError):
            os.truncate(self.partial, 0)
        if file is not None:
            try:
                file.close()
            except (OSError, RuntimeError) as error:
                log.debug("closing %s: %s", self.partial, error)
        remove(self.partial)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close after success, abort after an exception."""
        if kind is None:
            self.close()
        else:
            self.abort()

    def _verify(self) -> None:
        """Open the finished file and compare the number of days, the last day and what stands there with what was written."""
        with netCDF4.Dataset(self.partial) as file:
            file.set_auto_maskandscale(False)
            times = np.asarray(file["time"][:])
            whole = len(times) == self._count
            if whole and self._count:
                whole = bool(times[-1] == encode_days([self._last], self.calendar)[0])
                whole = whole and all(_checksum(file[name][-1]) == known for name, known in self._checksums.items())
        if not whole:
            raise OSError("the written file differs from what was to be written")

    def _failed(self, error: Exception) -> DownscaleError:
        told = write_error(self.path, error, self.partial)
        self.abort()
        return told


class SeriesWriter(TimedFile):
    """Streaming writer of numbers a day alone, e.g. of how far each day is from those of the training."""

    def append(self, days: ArrayLike, series: Mapping[str, ArrayLike]) -> None:
        """Write further days: yyyymmdd, ascending; series (n,), NaN allowed in those of floats. Errors as FieldWriter.append."""
        self._extend(days, self._of_series(series))


def create(partial: Path, attributes: Mapping[str, str]) -> netCDF4.Dataset:
    """A new unfinished file in place of any that an earlier process left, with the attributes and those that every file has."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    refuse_links(partial)
    partial.unlink(missing_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    file = netCDF4.Dataset(partial, "w", format="NETCDF4_CLASSIC")
    file.set_fill_off()
    defaults = {"title": "Fields of downscale", "history": f"{now}: written by downscale {__version__}"}
    file.setncatts({**defaults, **{key: str(value) for key, value in attributes.items()}, "Conventions": "CF-1.11", "creation_date": now})
    return file


def remove(partial: Path) -> None:
    """Remove an unfinished file, as far as that is possible: the error that led here is the one to report."""
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def write_error(path: Path, error: Exception, unfinished: Path | None = None) -> DownscaleError:
    """The error of a failed write, with the path and the free space.

    Args:
        path: final name.
        error: what the library says.
        unfinished: what was written so far; it must be removed afterwards.
    """
    try:
        free = f"{free_space(path.parent) / 1e9:.1f} GB free"
    except OSError:
        free = "folder not accessible"
    full = full_words(error) if isinstance(error, OSError) else ""
    if not full and unfinished is not None and unfinished.is_file():
        full = why_full(unfinished)
    reason = full or (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    return (DiskFullError if full else DownscaleError)(
        f"cannot write: {reason}",
        where=f"{path} ({free})",
        hint="free space, raise the quota or check permissions, then run the command again",
    )


def _checksum(values: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())
