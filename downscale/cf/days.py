"""The day axis of one variable: which day each time step of each file is, in order, once, and which days are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downscale.cf.axes import axis_of
from downscale.cf.calendar import DAY_SLACK, canonical, days_of, encode_days, iso, numbers_since_epoch, resolution
from downscale.cf.header import FileHeader, VariableHeader
from downscale.errors import InputDataError

_NOT_DAILY = 1.5
_PART_OF_A_DAY = 0.75
_COARSEST = 0.25
"""Days: a float32 time axis that cannot tell less than this apart tells no days."""
_MIDDAY_SLACK = 1.0 / 24.0
"""Days: time bounds whose middle lies less than an hour from 12:00 are plain days."""
Index = NDArray[np.int64]


@dataclass(frozen=True)
class FileDays:
    """Days of one file, in the order of its time steps, and what was assumed about them.

    Attributes:
        days: yyyymmdd of each step.
        calendar: canonical name.
        notes: what was assumed or rounded.
        minutes: of the middle of each step, since 1850-01-01.
        width: days that a step spans by its bounds, 0 without bounds.
    """

    days: Index
    calendar: str
    notes: tuple[str, ...] = ()
    minutes: Index | None = None
    width: float = 0.0


@dataclass(frozen=True)
class DayTable:
    """Where each day of a series lies.

    Attributes:
        days: yyyymmdd, ascending, unique.
        file: number of the file that holds it; (days, parts) where parts > 1.
        step: its time step in that file; (days, parts) where parts > 1.
        repeats: (day, first file, its step, other file, its step) of steps that another file holds too.
        parts: steps that make a day, 1 for daily files.
    """

    days: Index
    file: Index
    step: Index
    repeats: Index
    parts: int = 1

    def only(self, days: Index) -> DayTable:
        """The table of some of its days."""
        keep = np.isin(self.days, days, assume_unique=True)
        return DayTable(self.days[keep], self.file[keep], self.step[keep], self.repeats, self.parts)


def file_days(header: FileHeader, variable: VariableHeader, *, day_shift_hours: float = 12.0, sub_daily: bool = False) -> FileDays:
    """The days of a variable's time steps, by its time bounds where it has them, else by its stamps.

    Args:
        header, variable: the variable.
        day_shift_hours: how far the middle of time bounds may lie from 12:00.
        sub_daily: whether a day may have several steps.

    Raises:
        InputDataError: no readable time axis (T10, T14), bounds that are no intervals (T11), days that run from another hour (T09),
            or steps that are not single days (T12).
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
        stamps = numbers_since_epoch(header.values[dim], time.text("units"), calendar)
        bounds = _bounds(header, time, calendar, notes)
        middle = stamps if bounds is None else _middle(stamps, bounds)
        days = days_of(middle, calendar, _slack(header, time, bounds is not None, notes))
    except InputDataError as error:
        raise InputDataError(error.message, where=f"{header.path}: {dim}", hint=error.hint) from None
    width = float(np.sort(bounds[:, 1] - bounds[:, 0])[len(bounds) // 2]) if bounds is not None and len(bounds) else 0.0
    parts_of_days = width and width < _PART_OF_A_DAY
    if not (sub_daily and (parts_of_days or len(np.unique(days)) < len(days))):
        _require_daily(header, variable, days, stamps, width)
        if bounds is not None:
            notes += _shift(header, time, middle, days, day_shift_hours)
    return FileDays(days, canonical(calendar), tuple(notes), np.round(middle * 1440.0).astype(np.int64), width)


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


def _bounds(header: FileHeader, time: VariableHeader, calendar: str, notes: list[str]) -> NDArray[np.float64] | None:
    """(n, 2) day numbers of the time bounds, or None when the file has none."""
    name = time.text("bounds")
    if name not in header.variables:
        said = f"the time bounds '{name}' are not in the file" if name else "no time bounds"
        notes.append(f"{said}: each field belongs to the day of its time stamp")
        return None
    variable = header.variables[name]
    if variable.shape != (*time.shape, 2) or name not in header.values:
        wanted = (*time.shape, 2)
        raise InputDataError(f"time bounds '{name}' have shape {variable.shape}, not {wanted}", hint="rewrite or remove the bounds")
    units, own = variable.text("units") or time.text("units"), variable.text("calendar") or calendar
    bounds = numbers_since_epoch(header.values[name], units, own)
    if (bounds[:, 1] <= bounds[:, 0]).any():
        step = int(np.argmax(bounds[:, 1] <= bounds[:, 0]))
        raise InputDataError(f"time bounds '{name}' are inverted or empty, first at time step {step}", hint="rewrite or remove the bounds")
    return bounds


def _middle(stamps: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Middle of the bounds; refused where they lie elsewhere than the stamps."""
    middle: NDArray[np.float64] = bounds.mean(axis=1)
    away = np.abs(middle - stamps) > np.maximum(1.0, bounds[:, 1] - bounds[:, 0])
    if away.any():
        step = int(np.argmax(away))
        raise InputDataError(
            f"time bounds and time stamps contradict each other, first at time step {step}: {middle[step] - stamps[step]:+.4g} days apart",
            hint="rewrite the bounds, or remove them: each field then belongs to the day of its stamp",
        )
    return middle


def _slack(header: FileHeader, time: VariableHeader, bounded: bool, notes: list[str]) -> float:
    """Days before midnight that count to the next day: a minute, or what the time axis cannot tell apart (T10)."""
    values: NDArray[Any] = header.values[time.text("bounds") if bounded else time.name]
    step = resolution(values, (header.variables[time.text("bounds")].text("units") if bounded else "") or time.text("units"))
    if step >= _COARSEST:
        raise InputDataError(
            f"the {values.dtype} time axis cannot tell less than {24 * step:.3g} hours apart",
            hint="rewrite the axis as float64, or count from a later date",
        )
    if step / 2.0 > DAY_SLACK:
        notes.append(f"the {values.dtype} time axis is precise to {86400 * step:.0f} s: stamps that near midnight are taken as midnight")
    return max(DAY_SLACK, step)


def _shift(header: FileHeader, time: VariableHeader, middle: NDArray[np.float64], days: Index, limit: float) -> list[str]:
    """Refuse, or note, days that do not run from 00 to 24 h (T09)."""
    shift = (middle + DAY_SLACK) % 1.0 - DAY_SLACK - 0.5
    if not len(shift) or np.abs(shift).max() < _MIDDAY_SLACK:
        return []
    worst = int(np.argmax(np.abs(shift)))
    hours = 24.0 * float(shift[worst])
    begin = (middle[worst] - 0.5) % 1.0 * 24.0
    said = f"days run from {int(begin + 1e-3):02d}:{round(begin * 60) % 60:02d}, {hours:+.3g} h from 00-24 h"
    if abs(hours) > limit + 1.0 / 60.0:
        raise InputDataError(
            f"{said}, more than missing.day_shift_hours: {limit:g}",
            where=f"{header.path}: {time.name}, {iso(days[worst])}",
            hint="give files of days from 00 to 24 h, or raise missing.day_shift_hours; a day is then where its middle lies",
        )
    return [f"{said}: each is taken as the day of its middle"]


def _require_daily(header: FileHeader, variable: VariableHeader, days: Index, stamps: NDArray[np.float64], width: float) -> None:
    where = f"{header.path}: {variable.name}"
    if len(days) > 1 and (np.diff(days) <= 0).any():
        unique, counts = np.unique(days, return_counts=True)
        if len(unique) < len(days):
            first = int(np.argmax(counts > 1))
            raise _several_a_day(where, int(unique[first]), int(counts[first]), len(np.unique(stamps)) < len(stamps))
    if 0.0 < width < _PART_OF_A_DAY:
        raise InputDataError(
            f"the file is not daily: each step spans {24 * width:.3g} hours",
            where=f"{where}, {iso(days[0])}",
            hint="give daily files, or all steps of each day and sources.NAME.aggregate: mean",
        )
    step = float(np.diff(np.sort(stamps)).min()) if len(stamps) > 1 and not width else 0.0
    if max(width, step) > _NOT_DAILY:
        raise InputDataError(
            f"the file is not daily: {'each step spans' if width else 'steps are at least'} {max(width, step):.3g} days",
            where=where,
            hint="give daily files",
        )


def _several_a_day(where: str, day: int, count: int, repeated: bool) -> InputDataError:
    if repeated:
        return InputDataError(
            f"the file holds {iso(day)} {count} times with equal time stamps", where=where, hint="remove the repeated time steps"
        )
    return InputDataError(
        f"the file holds {iso(day)} {count} times: sub-daily data",
        where=where,
        hint="for means of each day set sources.NAME.aggregate: mean; with sub-daily tasmax or tasmin, cell_methods",
    )
