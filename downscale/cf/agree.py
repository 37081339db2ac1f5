"""Do the files of one series belong together: one grid, equal data where two hold the same day, no day missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import iso
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import gaps, spans
from downscale.cf.series import Piece, Series
from downscale.errors import InputDataError
from downscale.variables import Channel

SNAP = 1e-3
"""Axes of one series may differ by this fraction of a cell (FAULTS G04: 1e-6 to 1e-4 degree); they are one grid."""
_COMPARED_AT_ONCE = 32


def one_grid(channel: Channel, pieces: Sequence[Piece]) -> list[str]:
    """Refuse files on different grids (G05); note the largest difference of axes that were snapped together."""
    largest, first = 0.0, pieces[0].layout
    for piece in pieces[1:]:
        for dim, ours, theirs in ((first.y, first.y_values, piece.layout.y_values), (first.x, first.x_values, piece.layout.x_values)):
            difference = _axis_difference(ours, theirs)
            if difference is None:
                raise InputDataError(
                    f"{channel.name}: files are on different grids, see axis '{dim}': {_range(ours)} and {_range(theirs)}",
                    where=f"{pieces[0].header.path}; {piece.header.path}",
                    hint="files of one source share one grid; make a source of each, or remap",
                )
            largest = max(largest, difference)
        _same_plane(channel, pieces[0], piece)
    return [f"axes of the files differ by up to {largest:.2g} and are taken as equal"] if largest > 0 else []


def _axis_difference(ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None) -> float | None:
    """Largest difference of two axes of one grid; None when they are not the same axis."""
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else None
    if ours.shape != theirs.shape:
        return None
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    cell = float(np.abs(np.diff(ours)).min()) if len(ours) > 1 else 1.0
    return difference if difference <= SNAP * cell else None


def _same_plane(channel: Channel, first: Piece, other: Piece) -> None:
    """Grids without axes are held against each other by their 2-D latitude and longitude."""
    if first.layout.y_values is not None and first.layout.x_values is not None:
        return
    one, two = (read_coordinates(piece.header, piece.variable, piece.layout)[0] for piece in (first, other))
    same = one["lat"].shape == two["lat"].shape
    if not same or max(float(np.abs(one[name].values - two[name].values).max()) for name in ("lat", "lon")) > SNAP:
        raise InputDataError(
            f"{channel.name}: files are on different grids, see their 2-D latitude and longitude",
            where=f"{first.header.path}; {other.header.path}",
            hint="files of one source share one grid",
        )


def _range(values: NDArray[np.float64] | None) -> str:
    return "no values" if values is None else f"{values[0]:g}..{values[-1]:g} ({len(values)})"


def check_repeats(series: Series) -> None:
    """Days that two files hold must hold the same numbers (T07); they are read once."""
    repeats = series.table.repeats
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
    if len(repeats):
        series.notes.append(f"{len(np.unique(repeats[:, 0]))} days are in two files with equal data: read once")


def check_gaps(name: str, series: Series, *, skip: bool) -> None:
    """Refuse missing days, the seam between files named (T05, T06), or note them when they are to be skipped."""
    missing = gaps(series.days, series.calendar)
    if not missing:
        return
    if skip:
        series.notes.append(f"{spans(missing)}: skipped")
        return
    before, after = (int(np.searchsorted(series.days, missing[0][0])) + shift for shift in (-1, 0))
    files = [series.pieces[int(series.table.file[index])].header.path for index in (before, after)]
    seam = str(files[0]) if files[0] == files[1] else f"seam between {files[0]} and {files[1].name}"
    raise InputDataError(
        f"{name}: {series.channel.name} lacks days: {spans(missing)}",
        where=seam,
        hint="add the missing files, or accept gaps with missing: {gaps: skip}",
    )
