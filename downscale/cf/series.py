"""One channel of one source: a day axis over many files, read block by block."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from downscale.cf.calendar import iso
from downscale.cf.days import DayTable
from downscale.cf.fields import Decoder, clip_negligible, implausible
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import Layout
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)
_CACHE_BYTES = (2**20, 2**26)
_LEAP = 31
"""Steps of a file skipped within one read; a longer jump is worth a read of its own."""


@dataclass(frozen=True)
class Piece:
    """The channel in one file.

    Attributes:
        header: the file.
        variable: the variable.
        layout: where its dimensions lie.
        level_index: position on the level dimension, None without one.
        decoder: from stored numbers to working units.
    """

    header: FileHeader
    variable: VariableHeader
    layout: Layout
    level_index: int | None
    decoder: Decoder


@dataclass
class Series:
    """One channel of one source on its day axis; no field is read before read().

    Attributes:
        channel: variable and level.
        calendar: canonical name.
        days: yyyymmdd, ascending, unique.
        coordinates: horizontal coordinates, see cf.coordinates; rows ascend, columns run eastward without a seam.
        notes: what was renamed, converted, flipped, wrapped, assumed; reading may add to them.
    """

    channel: Channel
    calendar: str
    days: NDArray[np.int64]
    coordinates: xr.Dataset
    notes: list[str]
    pieces: Sequence[Piece] = field(repr=False, default=())
    table: DayTable = field(repr=False, default=None)  # type: ignore[assignment]
    label: str = field(repr=False, default="")
    shared_notes: list[str] = field(repr=False, default_factory=list)
    _open: tuple[int, netCDF4.Dataset] | None = field(repr=False, default=None)
    _counts: dict[str, int] = field(repr=False, default_factory=dict)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Fields of ``days[start:stop]``.

        Returns:
            (time, y, x) float32 in working units on ``coordinates``; NaN is missing. Memory is one block and what a file's
            storage chunks add.

        Raises:
            InputDataError: a file cannot be read (F05), has changed since it was catalogued (F07), or holds values outside the
                variable's plausible range (U02, U06, U07).
        """
        start, stop, _ = slice(start, stop).indices(len(self.days))
        files, steps = self.table.file[start:stop], self.table.step[start:stop]
        runs = list(_runs(files, steps))
        if len(runs) == 1:
            return self._read_run(int(files[0]), steps, start)
        shape = (max(stop - start, 0), *self._plane())
        block = np.empty(shape, np.float32)
        for begin, end in runs:
            block[begin:end] = self._read_run(int(files[begin]), steps[begin:end], start + begin)
        return block

    def read_days_of(self, file: int, steps: NDArray[np.int64], first: int) -> NDArray[np.float32]:
        """Fields of given steps of one of the series' files; ``first`` is the day (yyyymmdd) named in errors."""
        return self._decode(file, self._raw(file, steps, iso(first)), np.full(len(steps), first))

    def restrict(self, days: NDArray[np.int64]) -> None:
        """Keep only the given days, all of which the series has."""
        if len(days) != len(self.days):
            self.table = self.table.only(days)
            self.days = self.table.days

    def close(self) -> None:
        """Close the file that the last read left open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _read_run(self, file: int, steps: NDArray[np.int64], start: int) -> NDArray[np.float32]:
        days = self.days[start : start + len(steps)]
        return self._decode(file, self._raw(file, steps, f"{iso(days[0])} to {iso(days[-1])}"), days)

    def _raw(self, file: int, steps: NDArray[np.int64], when: str) -> NDArray[Any]:
        """Stored numbers of the steps, as (time, y, x)."""
        piece = self.pieces[file]
        low, high = int(steps.min()), int(steps.max()) + 1
        layout = piece.layout
        key = tuple(self._key(piece, dim, low, high) for dim in layout.dims)
        try:
            raw = np.asarray(self._dataset(file)[piece.variable.name][key])
        except (RuntimeError, OSError, IndexError, KeyError) as error:
            self.close()
            raise InputDataError(
                f"{self.channel.name} cannot be read: {str(error).splitlines()[0]}",
                where=f"{piece.header.path}: {piece.variable.name}, {when}",
                hint="the file is damaged; fetch it again",
            ) from error
        kept = [dim for dim in layout.dims if dim in (layout.time, layout.y, layout.x)]
        raw = raw.transpose([kept.index(dim) for dim in (layout.time, layout.y, layout.x) if dim is not None])
        raw = layout.order(raw, (str(layout.time), layout.y, layout.x))
        return raw if high - low == len(steps) and bool((np.diff(steps) == 1).all()) else raw[steps - low]

    def _key(self, piece: Piece, dim: str, low: int, high: int) -> int | slice:
        if dim == piece.layout.time:
            return slice(low, high)
        if dim in (piece.layout.y, piece.layout.x):
            return slice(None)
        return piece.level_index or 0 if dim == piece.layout.level else 0

    def _decode(self, file: int, raw: NDArray[Any], days: NDArray[np.int64]) -> NDArray[np.float32]:
        piece, variable = self.pieces[file], lookup(self.channel.variable)
        values, undeclared = piece.decoder.decode(np.ascontiguousarray(raw))
        self._count("values of the undeclared netCDF default fill value read as missing", undeclared)
        self._count("negligible negative values set to 0", clip_negligible(variable, values))
        fault = implausible(variable, values)
        if fault is not None:
            step, low, high = fault
            lowest, highest = variable.valid_range
            stated = piece.decoder.conversion.source
            raise InputDataError(
                f"{self.channel.name} holds values from {low:.6g} to {high:.6g} {variable.units}, plausible are {lowest:g} to {highest:g}",
                where=f"{piece.header.path}: {piece.variable.name}, {iso(days[step])} (read as '{stated}')",
                hint=f"wrong units: sources.NAME.assume_units: {{{variable.name}: ...}}; a fill value: declare it as _FillValue",
            )
        return values

    def _count(self, what: str, number: int) -> None:
        """Keep one note with the total; the log speaks once a series."""
        if not number:
            return
        before = self._counts.get(what, 0)
        self._counts[what] = before + number
        old, new = f"{self.label}: {before} {what}", f"{self.label}: {before + number} {what}"
        for notes in (self.notes, self.shared_notes):
            if old in notes:
                notes[notes.index(old)] = new
            else:
                notes.append(new)
        if not before:
            log.warning("%s: %s", self.label, what)

    def _dataset(self, file: int) -> netCDF4.Dataset:
        if self._open is not None and self._open[0] == file:
            return self._open[1]
        self.close()
        header = self.pieces[file].header
        stat = header.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (header.size, header.mtime_ns):
            raise InputDataError("an input file was replaced while it was in use", where=str(header.path), hint="run the command again")
        dataset = netCDF4.Dataset(header.path)
        dataset.set_auto_maskandscale(False)
        _bound_cache(dataset[self.pieces[file].variable.name])
        self._open = (file, dataset)
        return dataset

    def _plane(self) -> tuple[int, int]:
        piece = self.pieces[0]
        sizes = dict(zip(piece.variable.dims, piece.variable.shape, strict=True))
        return sizes[piece.layout.y], sizes[piece.layout.x]


def _bound_cache(variable: netCDF4.Variable) -> None:
    """Keep one row of chunks in time, which two neighbouring blocks share, and not tens of MB of every open file."""
    chunks = variable.chunking()
    if isinstance(chunks, str) or chunks is None:
        return
    time = variable.dimensions.index("time") if "time" in variable.dimensions else 0
    row = chunks[time] * variable.dtype.itemsize * int(np.prod(variable.shape)) // max(variable.shape[time], 1)
    variable.set_var_chunk_cache(size=int(min(max(row, _CACHE_BYTES[0]), _CACHE_BYTES[1])), nelems=521, preemption=1.0)


def _runs(files: NDArray[np.int64], steps: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of a block that one read of one file serves: (begin, end)."""
    if not len(files):
        return
    breaks = np.flatnonzero((np.diff(files) != 0) | (np.abs(np.diff(steps)) > _LEAP)) + 1
    edges = [0, *breaks.tolist(), len(files)]
    yield from pairwise(edges)
