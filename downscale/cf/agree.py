"""Do the files of one series belong together: one grid, equal data where two hold the same day, no day missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import iso
from downscale.cf.coordinates import mapping_difference, read_coordinates
from downscale.cf.days import gaps, spans
from downscale.cf.gather import Found
from downscale.cf.layout import Layout
from downscale.cf.series import Series
from downscale.errors import InputDataError
from downscale.variables import Channel

SNAP = 1e-3
"""Axes of one series may differ by this fraction of a cell (FAULTS G04: 1e-6 to 1e-4 degree); they are one grid."""
_COMPARED_AT_ONCE = 32


def one_grid(channel: Channel, found: Sequence[Found]) -> list[str]:
    """Refuse files on different grids (G05), all of them named; note the largest difference of axes that were snapped together."""
    largest, first = 0.0, found[0]
    compared: dict[int, tuple[float, str]] = {}
    plane = _Plane(first)
    others: dict[str, list[Found]] = {}
    for one in found[1:]:
        if one.layout is not first.layout and id(one.layout) not in compared:
            compared[id(one.layout)] = _compare_axes(first.layout, one.layout)
        difference, what = compared.get(id(one.layout), (0.0, ""))
        what = what or plane.compare(one)
        largest = max(largest, difference)
        if what:
            others.setdefault(what, []).append(one)
    if others:
        raise _different_grids(channel, first, others)
    return [f"axes of the files differ by up to {largest:.2g} and are taken as equal"] if largest > 0 else []


def _compare_axes(first: Layout, other: Layout) -> tuple[float, str]:
    """Largest difference of the axes of two layouts, and words for what differs when they are not one grid."""
    largest = 0.0
    for dim, ours, theirs in ((first.y, first.y_values, other.y_values), (first.x, first.x_values, other.x_values)):
        difference = _axis_difference(ours, theirs)
        if difference is None:
            return largest, f"see axis '{dim}': {_range(ours)} and {_range(theirs)}"
        largest = max(largest, difference)
    return largest, ""


def _different_grids(channel: Channel, first: Found, others: dict[str, list[Found]]) -> InputDataError:
    files = [one for group in others.values() for one in group]
    what = next(iter(others))
    return InputDataError(
        f"{channel.name}: files are on different grids, {what}",
        where=f"{first.header.path}; {files[0].header.path}{f' and {len(files) - 1} more' if len(files) > 1 else ''}",
        hint="files of one source share one grid; make a source of each, or remap",
        findings=[f"{one.header.path}: {words}" for words, group in others.items() for one in group] if len(files) > 1 else (),
    )


def _axis_difference(ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None) -> float | None:
    """Largest difference of two axes of one grid; None when they are not the same axis."""
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else None
    if ours.shape != theirs.shape:
        return None
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    cell = float(np.abs(np.diff(ours)).min()) if len(ours) > 1 else 1.0
    return difference if difference <= SNAP * cell else None


class _Plane:
    """Grids without axes are held against the first file's by their 2-D latitude and longitude, which is read once."""

    def __init__(self, first: Found) -> None:
        self._first = first
        self.has_axes = first.layout.y_values is not None and first.layout.x_values is not None
        self._lonlat = None if self.has_axes else _lonlat(first)

    def compare(self, other: Found) -> str:
        """What differs, empty when it is one grid."""
        what = mapping_difference(self._first.header, self._first.variable, other.header, other.variable)
        if what or self._lonlat is None:
            return what
        pairs = list(zip(self._lonlat, _lonlat(other), strict=True))
        same = all(a.shape == b.shape and float(np.abs((a - b + 180.0) % 360.0 - 180.0).max()) <= SNAP for a, b in pairs)
        return "" if same else "see their 2-D latitude and longitude"


def _lonlat(one: Found) -> list[NDArray[np.float64]]:
    coordinates = read_coordinates(one.header, one.variable, one.layout)[0]
    return [coordinates[name].values for name in ("lat", "lon")]


def _range(values: NDArray[np.float64] | None) -> str:
    return "no values" if values is None else f"{values[0]:g}..{values[-1]:g} ({len(values)})"


def check_repeats(series: Series) -> None:
    """Days that two files hold must hold the same numbers (T07); they are read once."""
    repeats, notes, counts = series.table.repeats, list(series.notes), dict(series._counts)
    for pair in np.unique(repeats[:, [1, 3]], axis=0) if len(repeats) else ():
        rows = repeats[(repeats[:, 1] == pair[0]) & (repeats[:, 3] == pair[1])]
        for start in range(0, len(rows), _COMPARED_AT_ONCE):
            block = rows[start : start + _COMPARED_AT_ONCE]
            first = series.read_days_of(int(pair[0]), block[:, 2], int(block[0, 0]))
            second = series.read_days_of(int(pair[1]), block[:, 4], int(block[0, 0]))
            equal = [np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True)]
            if not all(equal):
                raise InputDataError(
                    f"{series.channel.name}: two files hold {iso(block[equal.index(False), 0])} with different data",
                    where=f"{series.pieces[pair[0]].header.path}; {series.pieces[pair[1]].header.path}",
                    hint="remove one of them from the source's files",
                )
    series.close()
    series.notes[:], series._counts = notes, counts  # what was read here is counted when it is read for use
    if len(repeats):
        series.notes.append(f"{len(np.unique(repeats[:, 0]))} days are in two files with equal data: read once")


def check_gaps(name: str, series: Series, *, skip: bool, kept: bool = False) -> None:
    """Refuse missing days, the seam between files named (T05, T06), or note them when they are to be skipped, or kept as missing."""
    missing = gaps(series.days, series.calendar)
    if not missing:
        return
    if skip:
        series.notes.append(f"{spans(missing)}: {'missing' if kept else 'skipped'}")
        return
    after = int(np.searchsorted(series.days, missing[0][0]))
    files = [series.pieces[int(np.ravel(series.table.file[index])[place])].header.path for index, place in ((after - 1, -1), (after, 0))]
    seam = str(files[0]) if files[0] == files[1] else f"seam between {files[0]} and {files[1].name}"
    raise InputDataError(
        f"{name}: {series.channel.name} lacks days: {spans(missing)}",
        where=seam,
        hint="add the missing files, or accept gaps with missing: {gaps: skip}",
    )
