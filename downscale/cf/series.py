"""One channel of one source: a day axis over many files, read block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import iso
from downscale.cf.chunks import bound_cache
from downscale.cf.days import DayTable
from downscale.cf.fields import CACHED_VALUES, Decoder, accumulates, clip_negligible, implausible, plausible_range
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import Layout
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)
_READ_BYTES = 2**23
"""Fields read at a time: small enough for the allocator to use the same memory again, large enough for the calls not to count."""
_MEAN_BYTES = 2**25
"""Sub-daily fields held at a time while they become daily."""
_REDUCE: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "mean": lambda steps: steps.mean(axis=1, dtype=np.float64),
    "maximum": lambda steps: steps.max(axis=1),
    "minimum": lambda steps: steps.min(axis=1),
}
"""(day, step, y, x) to (day, y, x)."""
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
        method: what becomes of the steps of a day where there are several: "mean", "maximum" or "minimum".
    """

    channel: Channel
    calendar: str
    days: NDArray[np.int64]
    coordinates: Coordinates
    notes: list[str]
    pieces: Sequence[Piece] = field(repr=False, default=())
    table: DayTable = field(repr=False, default=None)  # type: ignore[assignment]
    label: str = field(repr=False, default="")
    keep_block: bool = field(repr=False, default=False)
    keep_open: bool = field(repr=False, default=True)
    shared_notes: list[str] = field(repr=False, default_factory=list)
    method: str = "mean"
    _open: tuple[int, netCDF4.Dataset, bool] | None = field(repr=False, default=None)
    _counts: dict[str, int] = field(repr=False, default_factory=dict)
    _kept: tuple[int, int, NDArray[np.float32]] | None = field(repr=False, default=None)

    @property
    def counts(self) -> dict[str, int]:
        """What reading has set right so far: kind of value -> number."""
        return dict(self._counts)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Fields of ``days[start:stop]``.

        Returns:
            (time, y, x) float32 in working units on ``coordinates``; NaN is missing. Memory is one block and what a file's
            storage chunks add.

        Raises:
            InputDataError: a file cannot be read (F05), has changed since it was catalogued (F07), or holds values outside the
                variable's plausible range (U02, U04, U06, U07), or precipitation that only ever grows (T13).
        """
        start, stop, _ = slice(start, stop).indices(len(self.days))
        if self._kept is not None and self._kept[:2] == (start, stop):
            return self._kept[2]
        block = self._read_days(start, stop) if self.table.parts == 1 else self._read_steps_of_days(start, stop)
        if self.channel.variable == "pr" and accumulates(block):
            path = self.pieces[int(np.ravel(self.table.file[start])[0])].header.path
            raise InputDataError(
                f"pr only ever grows over {len(block)} days: accumulated since the start, not a daily amount",
                where=f"{path}: {iso(self.days[start])} to {iso(self.days[stop - 1])}",
                hint="take differences of the days first, e.g. cdo -deltat IN OUT",
            )
        if self.keep_block:
            block.flags.writeable = False
            self._kept = (start, stop, block)
        if not self.keep_open:
            self.close()
        return block

    def forget(self) -> None:
        """Let go of the block that is kept."""
        self._kept = None

    def _read_days(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._read_steps(self.table.file[start:stop], self.table.step[start:stop], self.days[start:stop])

    def _read_steps_of_days(self, start: int, stop: int) -> NDArray[np.float32]:
        """Mean, maximum or minimum of the steps of each day, some days at a time; NaN where a step is NaN."""
        block = np.empty((max(stop - start, 0), *self._plane()), np.float32)
        parts = self.table.parts
        many = max(_MEAN_BYTES // (parts * max(block[:1].nbytes, 1)), 1)
        for first in range(0, len(block), many):
            part = slice(start + first, min(start + first + many, stop))
            files, steps = self.table.file[part], self.table.step[part]
            fields = self._read_steps(files.ravel(), steps.ravel(), np.repeat(self.days[part], parts))
            block[first : first + many] = _REDUCE[self.method](fields.reshape(len(files), parts, *fields.shape[1:]))
        return block

    def _read_steps(self, files: NDArray[np.int64], steps: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.float32]:
        block = np.empty((len(days), *self._plane()), np.float32)
        for begin, end in _runs(files, steps):
            self._fill(block[begin:end], int(files[begin]), steps[begin:end], days[begin:end])
        return block

    def read_days_of(self, file: int, steps: NDArray[np.int64], first: int) -> NDArray[np.float32]:
        """Fields of given steps of one of the series' files; ``first`` is the day (yyyymmdd) named in errors."""
        return self._fill(np.empty((len(steps), *self._plane()), np.float32), file, steps, np.full(len(steps), first))

    def restrict(self, days: NDArray[np.int64]) -> None:
        """Keep only the given days, all of which the series has."""
        if len(days) != len(self.days):
            self.table = self.table.only(days)
            self.days = self.table.days

    def close(self) -> None:
        """Close the file that the last read left open.

        Raises:
            InputDataError: the file was changed, replaced or removed while it was in use (F07).
        """
        if self._open is not None:
            file = self._open[0]
            self._release()
            unchanged(self.pieces[file].header)

    def _release(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _fill(self, out: NDArray[np.float32], file: int, steps: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read steps of one file into ``out``, a part that the storage chunks and the memory allow at a time."""
        self._dataset(file)
        assert self._open is not None
        many = max(_READ_BYTES // max(out[:1].nbytes, 1), 1) if self._open[2] else max(len(out), 1)
        for first in range(0, len(out), many):
            part = slice(first, first + many)
            when = f"{iso(days[part][0])} to {iso(days[part][-1])}"
            self._decode(out[part], file, self._raw(file, steps[part], when), days[part])
        return out

    def _raw(self, file: int, steps: NDArray[np.int64], when: str) -> NDArray[Any]:
        """Stored numbers of the steps, as (time, y, x), rows and columns in the order of the file."""
        piece = self.pieces[file]
        low, high = int(steps.min()), int(steps.max()) + 1
        layout = piece.layout
        key = tuple(self._key(piece, dim, low, high) for dim in layout.dims)
        dataset = self._dataset(file)
        try:
            raw = np.asarray(dataset[piece.variable.name][key])
        except (RuntimeError, OSError, IndexError, KeyError) as error:
            self._release()
            unchanged(piece.header)
            raise InputDataError(
                f"{self.channel.name} cannot be read: {str(error).splitlines()[0]}",
                where=f"{piece.header.path}: {piece.variable.name}, {when}",
                hint="the file is damaged; fetch it again",
            ) from error
        kept = [dim for dim in layout.dims if dim in (layout.time, layout.y, layout.x)]
        raw = np.ascontiguousarray(raw.transpose([kept.index(dim) for dim in (layout.time, layout.y, layout.x) if dim is not None]))
        return raw if high - low == len(steps) and bool((np.diff(steps) == 1).all()) else raw[steps - low]

    def _key(self, piece: Piece, dim: str, low: int, high: int) -> int | slice:
        if dim == piece.layout.time:
            return slice(low, high)
        if dim in (piece.layout.y, piece.layout.x):
            return slice(None)
        return piece.layout.index(dim, piece.level_index)

    def _decode(self, out: NDArray[np.float32], file: int, raw: NDArray[Any], days: NDArray[np.int64]) -> None:
        """Order, decode and screen into ``out``, one piece that fits the cache after the other."""
        piece, variable = self.pieces[file], lookup(self.channel.variable)
        many = max(CACHED_VALUES // max(out[:1].size, 1), 1)
        undeclared = extra = clipped = 0
        for first in range(0, len(out), many):
            fields = piece.layout.order(raw[first : first + many], (str(piece.layout.time), piece.layout.y, piece.layout.x))
            values = out[first : first + many]
            missing = piece.decoder.decode_into(fields, values)
            undeclared, extra = undeclared + missing.undeclared, extra + missing.extra
            clipped += clip_negligible(variable, values)
            fault = implausible(self.channel, values)
            if fault is not None:
                raise self._implausible(piece, int(days[first + fault[0]]), fault[1], fault[2])
        self._count("values of the undeclared netCDF default fill value read as missing", undeclared)
        self._count("values equal to the config's fill_values read as missing", extra)
        self._count("negligible negative values set to 0", clipped)

    def _implausible(self, piece: Piece, day: int, low: float, high: float) -> InputDataError:
        variable = lookup(self.channel.variable)
        lowest, highest = plausible_range(self.channel)
        stated = piece.decoder.conversion.source
        return InputDataError(
            f"{self.channel.name} holds values from {low:.6g} to {high:.6g} {variable.units}, plausible are {lowest:g} to {highest:g}",
            where=f"{piece.header.path}: {piece.variable.name}, {iso(day)} (read as '{stated}')",
            hint=f"wrong units: sources.NAME.assume_units: {{{variable.name}: ...}}; a fill value: _FillValue or sources.NAME.fill_values",
        )

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
        unchanged(header)
        try:
            dataset = netCDF4.Dataset(header.path)
        except (RuntimeError, OSError) as error:
            raise InputDataError(
                f"an input file cannot be opened any more: {error.strerror if isinstance(error, OSError) else error}",
                where=str(header.path),
                hint="see whether it is still there and readable, and run the command again",
            ) from error
        dataset.set_auto_maskandscale(False)
        self._open = (file, dataset, bound_cache(dataset[self.pieces[file].variable.name]))
        return dataset

    def _plane(self) -> tuple[int, int]:
        piece = self.pieces[0]
        sizes = dict(zip(piece.variable.dims, piece.variable.shape, strict=True))
        return sizes[piece.layout.y], sizes[piece.layout.x]


def unchanged(header: FileHeader) -> None:
    """Refuse a file that is not the one that was catalogued: gone, or of another size or time (F07)."""
    try:
        stat = header.path.stat()
    except OSError as error:
        problem = f"vanished while it was in use ({error.strerror})"
    else:
        if (stat.st_size, stat.st_mtime_ns) == (header.size, header.mtime_ns):
            return
        problem = "was replaced while it was in use"
    raise InputDataError(
        f"an input file {problem}", where=str(header.path), hint="let nothing write to the inputs, and run the command again"
    )


def _runs(files: NDArray[np.int64], steps: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of a block that one read of one file serves: (begin, end)."""
    if not len(files):
        return
    breaks = np.flatnonzero((np.diff(files) != 0) | (np.abs(np.diff(steps)) > _LEAP)) + 1
    edges = [0, *breaks.tolist(), len(files)]
    yield from pairwise(edges)
