"""Fields to CF-1.11 files: NETCDF4 classic model, float32 data, float64 coordinates; verified before they get their name.

A file under its final name is complete: it is written as ``NAME.partial``, flushed to disk, opened again and compared, and only then
renamed.
"""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
from numpy.typing import ArrayLike, NDArray

from downscale import __version__
from downscale.cf.calendar import canonical, day_bounds, encode_days, iso
from downscale.cf.skeleton import FILL, define_field, define_time
from downscale.cf.units import to_file
from downscale.config.folders import to_disk
from downscale.coordinates import Coordinates
from downscale.errors import DownscaleError
from downscale.hpc.paths import refuse_links
from downscale.variables import Variable

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)


class FieldWriter:
    """Streaming writer of one variable; use it as a context manager.

    On a normal exit the file is closed, verified and renamed; on an exception the unfinished file is removed. A killed process leaves
    only ``PATH.partial``, which the next writer of the same path replaces.
    """

    def __init__(
        self,
        path: str | Path,
        variable: Variable,
        coordinates: Coordinates | xr.Dataset,
        calendar: str,
        *,
        attributes: Mapping[str, str],
        compression: int = 1,
        variable_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the file.

        Args:
            path: final name; its folder is made when it does not exist.
            variable: what is written; its CMOR name becomes the name in the file.
            coordinates: as Series.coordinates, Grid.to_coordinates or Grid.to_dataset gives them.
            calendar: of the days.
            attributes: global attributes: provenance, facets, title, history.
            compression: deflate level, 0 for none.
            variable_attributes: further attributes of the variable.

        Raises:
            DownscaleError: the file cannot be written, with the path and the free space.
            OutputExistsError: the file is a symbolic link.
        """
        self.path, self.variable, self.calendar = Path(path), variable, canonical(calendar)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._conversion = to_file(variable)
        self._count, self._last, self._checksum = 0, 0, 0
        self._file: netCDF4.Dataset | None = None
        refuse_links(self.path)
        try:
            self._file = _create(self.partial, attributes)
            define_time(self._file, self.calendar)
            self._field = define_field(self._file, variable, coordinates, compression, timed=True)
            self._field.setncatts(dict(variable_attributes or {}))
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error

    def append(self, days: ArrayLike, values: NDArray[Any]) -> None:
        """Write further days.

        Args:
            days: yyyymmdd, ascending and after those already written.
            values: (time, y, x) in working units; NaN becomes the fill value.

        Raises:
            DownscaleError: the disk is full or the file cannot be written; the unfinished file is removed.
            ValueError: days out of order, or a shape that is not the grid's.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        stamps, fields = np.asarray(days, dtype=np.int64), np.asarray(values)
        if fields.shape != (len(stamps), *self._field.shape[1:]):
            raise ValueError(f"fields have shape {fields.shape}, expected {(len(stamps), *self._field.shape[1:])}")
        if not len(stamps):
            return
        if (np.diff(stamps) <= 0).any() or stamps[0] <= self._last:
            raise ValueError(f"days are not ascending: {stamps[0]} after {self._last}")
        stored = _stored(fields, self._conversion.scale, self._conversion.offset)
        window = slice(self._count, self._count + len(stamps))
        try:
            self._field[window] = stored
            self._file["time"][window] = encode_days(stamps, self.calendar)
            self._file["time_bnds"][window] = day_bounds(stamps, self.calendar)
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        self._count, self._last, self._checksum = window.stop, int(stamps[-1]), zlib.crc32(stored[-1].tobytes())

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
        """Give up: remove the unfinished file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except (OSError, RuntimeError) as error:
                log.debug("closing %s: %s", self.partial, error)
        _remove(self.partial)

    def __enter__(self) -> FieldWriter:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close after success, abort after an exception."""
        if kind is None:
            self.close()
        else:
            self.abort()

    def _verify(self) -> None:
        """Open the finished file and compare the number of days, the last day and the last field with what was written."""
        with netCDF4.Dataset(self.partial) as file:
            file.set_auto_maskandscale(False)
            times = np.asarray(file["time"][:])
            whole = len(times) == self._count
            if whole and self._count:
                last = np.ascontiguousarray(file[self.variable.name][-1])
                whole = zlib.crc32(last.tobytes()) == self._checksum and bool(times[-1] == encode_days([self._last], self.calendar)[0])
        if not whole:
            raise OSError("the written file differs from what was to be written")

    def _failed(self, error: Exception) -> DownscaleError:
        self.abort()
        return write_error(self.path, error)


def write_static(
    path: str | Path, variable: Variable, coordinates: Coordinates | xr.Dataset, values: NDArray[Any], *, attributes: Mapping[str, str]
) -> None:
    """Write one fixed field.

    Args:
        path: final name.
        variable: what it is.
        coordinates: as for FieldWriter.
        values: (y, x) in working units; NaN becomes the fill value.
        attributes: global attributes.

    Raises:
        DownscaleError: the file cannot be written; nothing is left.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    refuse_links(target)
    conversion = to_file(variable)
    try:
        with _create(partial, attributes) as file:
            field = define_field(file, variable, coordinates, 1, timed=False)
            field[:] = _stored(np.asarray(values), conversion.scale, conversion.offset)
        to_disk(partial)
        partial.replace(target)
    except (OSError, RuntimeError) as error:
        _remove(partial)
        raise write_error(target, error) from error


def write_error(path: Path, error: Exception) -> DownscaleError:
    """The error of a failed write, with the path and the free space."""
    try:
        free = f"{shutil.disk_usage(path.parent).free / 1e9:.1f} GB free"
    except OSError:
        free = "folder not accessible"
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    return DownscaleError(
        f"cannot write: {reason}",
        where=f"{path} ({free})",
        hint="free space, raise the quota or check permissions, then run the command again",
    )


def _create(partial: Path, attributes: Mapping[str, str]) -> netCDF4.Dataset:
    partial.parent.mkdir(parents=True, exist_ok=True)
    refuse_links(partial)
    partial.unlink(missing_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    file = netCDF4.Dataset(partial, "w", format="NETCDF4_CLASSIC")
    file.set_fill_off()
    defaults = {"title": "Fields of downscale", "history": f"{now}: written by downscale {__version__}"}
    file.setncatts({**defaults, **{key: str(value) for key, value in attributes.items()}, "Conventions": "CF-1.11", "creation_date": now})
    return file


def _stored(values: NDArray[Any], scale: float, offset: float) -> NDArray[np.float32]:
    """Values as they stand in the file: file units, float32, the fill value for NaN."""
    stored = values.astype(np.float64) * scale + offset if (scale, offset) != (1.0, 0.0) else values
    return np.ascontiguousarray(np.where(np.isnan(stored), FILL, stored), dtype=np.float32)


def _remove(partial: Path) -> None:
    """Remove an unfinished file, as far as that is possible: the error that led here is the one to report."""
    with suppress(OSError):
        partial.unlink(missing_ok=True)
