"""Daily means and extremes of sub-daily steps: which steps make a day, and what may be made of them (T12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from downscale.cf.calendar import iso
from downscale.cf.days import DayTable, FileDays, Index, merge
from downscale.cf.header import VariableHeader
from downscale.cf.names import time_method
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

_DAY = 1440
_HOURLY = 24
WORDS = {"mean": "means", "maximum": "maxima", "minimum": "minima"}
"""Of daily values, by the method that gives them."""


@dataclass(frozen=True)
class Reduction:
    """How the steps of a day become one value: "mean", "maximum" or "minimum", and of what, in words."""

    method: str
    of: str


def merge_steps(name: str, files: Sequence[FileDays], *, skip: bool, aggregate: str = "mean") -> tuple[DayTable, list[str]]:
    """The table of all files' steps, those of a day together; files may meet within a day.

    Args:
        name: of the channel, for errors.
        files: days and minutes of each file's steps.
        skip: leave days out that are not whole, and note them.
        aggregate: of the config, for errors.

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
    notes = _incomplete(name, days[~whole], counts[~whole], parts, skip=skip, aggregate=aggregate)
    index = begins[whole][:, None] + np.arange(parts)
    index = index if parts > 1 else index[:, 0]
    return DayTable(days[whole], steps.file[index], steps.step[index], repeats, parts), notes


def reduction(channel: Channel, variable: VariableHeader, where: str, *, parts: int, aggregate: str) -> Reduction:
    """How the steps of a day become the day's value, by the cell methods of the channel and of the variable in the file.

    A mean is the mean of means or of instantaneous values. A maximum (minimum) is, with ``aggregate: cell_methods``, the highest
    (lowest) of maxima (minima) over the steps, which is exact whatever their length; of instantaneous values it is taken from 24 a
    day on, since fewer miss the extreme between them. Means of steps have no daily extreme, nor have extremes a mean.

    Args:
        channel: what is wanted.
        variable: in one of the files.
        where: for errors.
        parts: steps a day.
        aggregate: "mean" or "cell_methods".

    Raises:
        InputDataError: the steps of the variable do not give what the channel means.
    """
    wanted, method = time_method(lookup(channel.variable).cell_methods), time_method(variable.text("cell_methods"))
    if wanted != "mean" and aggregate == "mean":
        raise InputDataError(
            f"{channel.name} is a daily {wanted}: a mean of sub-daily steps is something else",
            where=where,
            hint=f"aggregate: cell_methods takes the {wanted} of sub-daily ones; else make it first, e.g. cdo -day{wanted[:3]} IN OUT",
        )
    own = variable.name.lower() in (channel.variable, *lookup(channel.variable).also)
    allowed = {wanted: WORDS[wanted]}
    if wanted == "mean" or parts >= _HOURLY:
        allowed["point"] = "instantaneous values"
    if wanted == "mean" or own or parts >= _HOURLY:
        allowed[""] = "values without cell_methods"
    if method not in allowed:
        raise InputDataError(
            f"{channel.name} {_has(variable)}: {parts} sub-daily steps of it have no daily {wanted}",
            where=where,
            hint=f"give {WORDS[wanted]} or {'' if wanted == 'mean' else 'hourly '}instantaneous values, or daily files",
        )
    return Reduction(wanted, allowed[method])


def _has(variable: VariableHeader) -> str:
    method = time_method(variable.text("cell_methods"))
    return f"has cell_methods 'time: {method}'" if method else "has no cell_methods"


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


def _incomplete(name: str, days: Index, counts: Index, parts: int, *, skip: bool, aggregate: str) -> list[str]:
    if not len(days):
        return []
    listed = ", ".join(f"{iso(day)} has {count}" for day, count in zip(days[:3], counts[:3], strict=True))
    message = f"{len(days)} day{'s' * (len(days) != 1)} without all {parts} steps: {listed}{' ...' if len(days) > 3 else ''}"
    if skip:
        return [f"{message}: left out"]
    raise InputDataError(
        f"{name}: {message}",
        where=f"aggregate: {aggregate}, {iso(days[0])}",
        hint="add the missing steps, cut the days off, or leave such days out with missing: {gaps: skip}",
    )
