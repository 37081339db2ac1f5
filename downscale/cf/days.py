"""The day axis of one variable: which day each time step of each file is, in order, once, and which days are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import canonical, days_of, encode_days, iso, numbers_since_epoch
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.names import axis_of
from downscale.errors import InputDataError

_NOT_DAILY = 1.5
Index = NDArray[np.int64]


@dataclass(frozen=True)
class FileDays:
    """Days of one file, in the order of its time steps, and what was assumed about them."""

    days: Index
    calendar: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DayTable:
    """Where each day of a series lies.

    Attributes:
        days: yyyymmdd, ascending, unique.
        file: number of the file that holds it.
        step: its time step in that file.
        repeats: (day, first file, its step, other file, its step) of days that another file holds too.
    """

    days: Index
    file: Index
    step: Index
    repeats: Index

    def only(self, days: Index) -> DayTable:
        """The table of some of its days."""
        keep = np.isin(self.days, days, assume_unique=True)
        return DayTable(self.days[keep], self.file[keep], self.step[keep], self.repeats)


def file_days(header: FileHeader, variable: VariableHeader) -> FileDays:
    """The days of a variable's time steps, by its time bounds where it has them, else by its stamps.

    Raises:
        InputDataError: no readable time axis, bounds that are no intervals (T11), or steps that are not single days (T12).
    """
    dim = next(dim for dim in variable.dims if axis_of(header, dim) == "T")
    if dim not in header.values or dim not in header.variables:
        raise InputDataError(
            "the time dimension has no coordinate values",
            where=f"{header.path}: {variable.name}, dimension {dim}",
            hint="add a CF time axis to the file",
        )
    time = header.variables[dim]
    calendar = time.text("calendar") or "standard"
    notes = [] if time.text("calendar") else ["time axis without calendar attribute: taken as standard"]
    try:
        numbers = numbers_since_epoch(header.values[dim], time.text("units"), calendar)
        bounds = _bounds(header, time, calendar)
        if bounds is None:
            notes.append("no time bounds: each field belongs to the day of its time stamp")
        days = days_of(numbers if bounds is None else bounds.mean(axis=1), calendar)
    except InputDataError as error:
        raise InputDataError(error.message, where=f"{header.path}: {dim}", hint=error.hint) from None
    _require_daily(header, variable, days, numbers, bounds)
    return FileDays(days, canonical(calendar), tuple(notes))


def merge(files: Sequence[Index]) -> DayTable:
    """The table of several files' days; a day that several files hold is taken from the first of them."""
    if not files:
        empty = np.empty(0, np.int64)
        return DayTable(empty, empty, empty, np.empty((0, 5), np.int64))
    days = np.concatenate(files)
    file = np.repeat(np.arange(len(files)), [len(one) for one in files])
    step = np.concatenate([np.arange(len(one)) for one in files])
    order = np.lexsort((file, days))
    days, file, step = days[order], file[order], step[order]
    first = np.concatenate([[True], days[1:] != days[:-1]]) if len(days) else np.empty(0, bool)
    origin = np.maximum.accumulate(np.where(first, np.arange(len(days)), 0)) if len(days) else np.empty(0, np.int64)
    again = np.flatnonzero(~first)
    repeats = np.stack([days[again], file[origin[again]], step[origin[again]], file[again], step[again]], axis=1)
    return DayTable(days[first], file[first], step[first], repeats)


def gaps(days: Index, calendar: str) -> list[tuple[int, int, int]]:
    """Runs of missing days between the first and the last: (first missing, last missing, how many)."""
    if len(days) < 2:
        return []
    numbers = np.floor(encode_days(days, calendar)).astype(np.int64)
    holes = np.flatnonzero(np.diff(numbers) > 1)
    edges = np.stack([numbers[holes] + 1, numbers[holes + 1] - 1], axis=1)
    return [(int(days_of(a, calendar)), int(days_of(b, calendar)), int(b - a + 1)) for a, b in edges]


def spans(runs: Sequence[tuple[int, int, int]], most: int = 3) -> str:
    """Runs of days in words: ``3 gaps, 21 days: 2001-02-03, 2001-05-01 to 2001-05-20``."""
    shown = [iso(first) if first == last else f"{iso(first)} to {iso(last)}" for first, last, _ in runs[:most]]
    more = f" and {len(runs) - most} more" if len(runs) > most else ""
    return f"{len(runs)} gap{'s' * (len(runs) != 1)}, {sum(count for *_, count in runs)} days: {', '.join(shown)}{more}"


def _bounds(header: FileHeader, time: VariableHeader, calendar: str) -> NDArray[np.float64] | None:
    """(n, 2) day numbers of the time bounds, or None when the file has none."""
    name = time.text("bounds")
    if name not in header.variables:
        return None
    variable = header.variables[name]
    if variable.shape != (*time.shape, 2):
        raise InputDataError(f"time bounds '{name}' have shape {variable.shape}, not (n, 2)", hint="rewrite or remove the bounds")
    units, own = variable.text("units") or time.text("units"), variable.text("calendar") or calendar
    bounds = numbers_since_epoch(header.values[name], units, own)
    if (bounds[:, 1] <= bounds[:, 0]).any():
        step = int(np.argmax(bounds[:, 1] <= bounds[:, 0]))
        raise InputDataError(f"time bounds '{name}' are inverted or empty, first at time step {step}", hint="rewrite or remove the bounds")
    return bounds


def _require_daily(
    header: FileHeader, variable: VariableHeader, days: Index, numbers: NDArray[np.float64], bounds: NDArray[np.float64] | None
) -> None:
    where = f"{header.path}: {variable.name}"
    unique, counts = np.unique(days, return_counts=True)
    if len(unique) < len(days):
        day = int(unique[np.argmax(counts > 1)])
        repeated = len(np.unique(numbers)) < len(numbers)
        raise InputDataError(
            f"the file holds {iso(day)} {counts[counts > 1][0]} times" + (" with equal time stamps" if repeated else ": sub-daily data"),
            where=where,
            hint="remove the repeated time steps" if repeated else "make daily means first, e.g. cdo -daymean IN OUT (tasmax: -daymax)",
        )
    width = float(np.median(bounds[:, 1] - bounds[:, 0])) if bounds is not None else 0.0
    step = float(np.diff(np.sort(numbers)).min()) if len(numbers) > 1 and bounds is None else 0.0
    if max(width, step) > _NOT_DAILY:
        raise InputDataError(
            f"the file is not daily: {'each step spans' if width else 'steps are at least'} {max(width, step):.3g} days",
            where=where,
            hint="give daily files",
        )
