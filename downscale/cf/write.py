"""Fields to CF-1.11 files: NETCDF4 classic model, float32 data, float64 coordinates; verified before they get their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
from numpy.typing import ArrayLike, NDArray

from downscale.cf.skeleton import FILL, define_field
from downscale.cf.timed import Series, SeriesWriter, TimedFile, create, remove, write_error
from downscale.cf.units import to_file
from downscale.config.folders import to_disk
from downscale.coordinates import Coordinates
from downscale.hpc.paths import refuse_links
from downscale.variables import Variable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FieldWriter", "SeriesWriter", "round_bits", "rounding", "stored", "write_error", "write_static"]
MANTISSA_BITS = 23


class FieldWriter(TimedFile):
    """Streaming writer of one variable, see TimedFile; use it as a context manager."""

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
        members: Sequence[str] = (),
        series: Series | None = None,
        significant_bits: int | None = None,
        length: int | None = None,
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
            members: labels of realizations: the variable gets that dimension after time.
            series: numbers a day that stand beside the variable, with their attributes.
            significant_bits: bits of the mantissa that are kept, see round_bits; None for all.
            length: number of days, where it is known: the time axis becomes one chunk.

        Raises:
            DownscaleError: the file cannot be written, with the path and the free space.
            OutputExistsError: the file is a symbolic link.
        """
        self.variable, self._bits = variable, significant_bits
        self._conversion = to_file(variable)

        def define(file: netCDF4.Dataset) -> None:
            field = define_field(file, variable, coordinates, compression, timed=True, members=members, series=series)
            field.setncatts({**rounding(significant_bits), **(variable_attributes or {})})

        super().__init__(path, calendar, attributes, series, define, length)

    def append(self, days: ArrayLike, values: NDArray[Any], series: Mapping[str, ArrayLike] | None = None) -> None:
        """Write further days.

        Args:
            days: yyyymmdd, ascending and after those already written.
            values: (time, y, x), or (time, member, y, x) with members, in working units; NaN becomes the fill value.
            series: name -> (time,), all that were defined.

        Raises:
            DownscaleError: the disk is full or the file cannot be written; the unfinished file is removed.
            ValueError: days out of order, or a shape that is not the grid's.
        """
        field = stored(np.asarray(values), self._conversion.scale, self._conversion.offset, self._bits)
        self._extend(days, {self.variable.name: field, **self._of_series(series)})


def write_static(
    path: str | Path,
    variable: Variable,
    coordinates: Coordinates | xr.Dataset,
    values: NDArray[Any],
    *,
    attributes: Mapping[str, str],
    variable_attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write one fixed field.

    Args:
        path: final name.
        variable: what it is.
        coordinates: as for FieldWriter.
        values: (y, x) in working units; NaN becomes the fill value.
        attributes: global attributes.
        variable_attributes: further attributes of the variable.

    Raises:
        DownscaleError: the file cannot be written; nothing is left.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    refuse_links(target)
    conversion = to_file(variable)
    try:
        with create(partial, attributes) as file:
            field = define_field(file, variable, coordinates, 1, timed=False)
            field.setncatts(dict(variable_attributes or {}))
            field[:] = stored(np.asarray(values), conversion.scale, conversion.offset)
        to_disk(partial)
        partial.replace(target)
    except (OSError, RuntimeError) as error:
        told = write_error(target, error, partial)
        remove(partial)
        raise told from error


def stored(values: NDArray[Any], scale: float, offset: float, bits: int | None = None) -> NDArray[np.float32]:
    """Values as they stand in the file: file units, float32, rounded to ``bits`` bits of mantissa, the fill value for NaN."""
    converted = values.astype(np.float64) * scale + offset if (scale, offset) != (1.0, 0.0) else values
    field = np.array(converted, dtype=np.float32, order="C")
    if bits is not None:
        round_bits(field, bits)
    missing = np.isnan(field)
    if missing.any():
        field[missing] = FILL
    return field


def round_bits(field: NDArray[np.float32], bits: int) -> None:
    """Round, in place, to the nearest number with ``bits`` explicit bits of mantissa, halves to even: the rest compresses well.

    The largest relative error is 2 ** -(bits + 1). NaN and infinity stay. Kloewer et al. 2021 (doi:10.1038/s43588-021-00156-2).
    """
    if bits >= MANTISSA_BITS:
        return
    drop = np.uint32(MANTISSA_BITS - bits)
    words = field.view(np.uint32)
    finite = np.isfinite(field)
    half = (np.uint32(1) << (drop - np.uint32(1))) - np.uint32(1)
    rounded = (words + half + ((words >> drop) & np.uint32(1))) & ~((np.uint32(1) << drop) - np.uint32(1))
    np.copyto(words, rounded, where=finite)


def rounding(bits: int | None) -> dict[str, Any]:
    """Attributes of a variable that say how it was rounded; none when it was not."""
    if bits is None or bits >= MANTISSA_BITS:
        return {}
    return {
        "downscale_quantization": f"rounded to {bits} explicit bits of the float32 mantissa, halves to even",
        "quantization_nsb": np.int32(bits),
        "quantization_maximum_relative_error": np.float32(2.0 ** -(bits + 1)),
    }
