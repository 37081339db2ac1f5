"""Daily means of sub-daily steps: which steps make a day, and what may be averaged (T12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from downscale.cf.calendar import iso
from downscale.cf.days import DayTable, FileDays, Index, merge
from downscale.cf.header import VariableHeader
from downscale.cf.names import time_method
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

_DAY = 1440


def merge_steps(name: str, files: Sequence[FileDays], *, skip: bool) -> tuple[DayTable, list[str]]:
    """The table of all files' steps, those of a day together; files may meet within a day.

    Args:
        name: of the channel, for errors.
        files: days and minutes of each file's steps.
        skip: leave days out that are not whole, and note them.

    Raises:
        InputDataError: a day has fewer or more steps than the others, or the steps of no day add up to 24 hours.
    """
    steps = merge([_minutes(one) for one in files])
    own = np.concatenate([one.days for one in files]) if files else np.empty(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(one.days) for one in files])])
    daily = own[offsets[steps.file] + steps.step] if len(steps.days) else own
    repeats = steps.repeats.copy()
    if len(repeats):
        repeats[:, 0] = own[offsets[repeats[:, 1]] + repeats[:, 2]]
    days, begins, counts = np.unique(daily, return_index=True, return_counts=True)
    parts = int(np.bincount(counts).argmax()) if len(counts) else 1
    if parts > 1 or any(0.0 < one.width < 0.75 for one in files):
        _fill_a_day(name, steps.days, files, parts)
    whole = counts == parts
    notes = _incomplete(name, days[~whole], counts[~whole], parts, skip=skip)
    index = begins[whole][:, None] + np.arange(parts)
    index = index if parts > 1 else index[:, 0]
    return DayTable(days[whole], steps.file[index], steps.step[index], repeats, parts), notes


def may_average(channel: Channel, variable: VariableHeader, where: str) -> str:
    """A note on what is averaged; InputDataError where a mean of steps is not what the channel means."""
    wanted, method = time_method(lookup(channel.variable).cell_methods), time_method(variable.text("cell_methods"))
    if wanted != "mean":
        raise InputDataError(
            f"{channel.name} is a daily {wanted}: a mean of sub-daily steps is something else",
            where=where,
            hint=f"make it first, e.g. cdo -day{wanted[:3]} IN OUT, and give the daily file",
        )
    if method not in ("", "mean", "point"):
        raise InputDataError(
            f"{channel.name} has cell_methods 'time: {method}': sub-daily steps of it have no daily mean",
            where=where,
            hint="give means or instantaneous values, or daily files",
        )
    return "instantaneous values" if method == "point" else "means" if method == "mean" else "values without cell_methods"


def _minutes(one: FileDays) -> Index:
    return one.minutes if one.minutes is not None else np.empty(0, np.int64)


def _fill_a_day(name: str, minutes: Index, files: Sequence[FileDays], parts: int) -> None:
    """The usual number of steps must be all there are in 24 hours."""
    interval = float(np.median(np.diff(minutes))) if len(minutes) > 1 else _DAY
    widths = [one.width * _DAY for one in files if one.width]
    width = float(np.median(widths)) if widths else interval
    if abs(interval * parts - _DAY) > parts or abs(width * parts - _DAY) > parts:
        steps = f"{parts} step{'s' * (parts > 1)}, {interval / 60:.3g} h apart, that span {width / 60:.3g} h"
        raise InputDataError(
            f"{name}: most days have {steps}: no whole days",
            where=f"{len(files)} files",
            hint="give all steps of each day, or daily files",
        )


def _incomplete(name: str, days: Index, counts: Index, parts: int, *, skip: bool) -> list[str]:
    if not len(days):
        return []
    listed = ", ".join(f"{iso(day)} has {count}" for day, count in zip(days[:3], counts[:3], strict=True))
    message = f"{len(days)} day{'s' * (len(days) != 1)} without all {parts} steps: {listed}{' ...' if len(days) > 3 else ''}"
    if skip:
        return [f"{message}: left out"]
    raise InputDataError(
        f"{name}: {message}",
        where=f"aggregate: mean, {iso(days[0])}",
        hint="add the missing steps, cut the days off, or leave such days out with missing: {gaps: skip}",
    )
