"""Winds of a source as true east and north, whatever its files give: components along the grid are turned as they are read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from downscale.cf.open import Source
from downscale.cf.series import Series
from downscale.errors import InputDataError, Problems
from downscale.grid.grid import Grid, require_same_grid
from downscale.grid.winds import Turn, turn_of
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)
ALONG_GRID = (*lookup("ua").also_standard, *lookup("va").also_standard)
"""CF standard names of components along a grid's x and y; grid_*ward_wind are older names of the same."""
_PARTNER = {"ua": "va", "va": "ua", "uas": "vas", "vas": "uas"}


def true_winds(source: Source, needed: Sequence[Channel], *, along_grid: bool = False) -> None:
    """Let every wind of a source be read as its component to true east or north.

    Which winds lie along the grid, the files' standard names say (x_wind, grid_eastward_wind, y_wind, grid_northward_wind); winds
    with other names stay, and so do all on a longitude-latitude grid. What was turned, and by how much, goes to the source's notes.

    Args:
        source: opened; series of winds that must be turned are replaced by ones that turn them.
        needed: channels that must be there; another that cannot be turned is taken out of the source and noted.
        along_grid: take all winds of the source as components along the grid, whatever the files say.

    Raises:
        InputDataError: one component without the other, both on different grids, files of one series that disagree, or a grid that
            does not say where its x and y point.
    """
    turns: dict[str, Turn] = {}
    held = _Held()
    problems = Problems()
    must = {channel.name for channel in needed}
    for name, series in list(source.series.items()):
        if series.channel.variable not in _PARTNER or isinstance(source.series[name], TrueWind):
            continue
        try:
            _turn(source, series, along_grid, turns, held)
        except InputDataError as error:
            if name in must:
                problems.errors.append(error)
            else:
                del source.series[name]
                source.notes.append(f"{source.name}: {name} is left out: {error.message}")
                log.warning("%s", source.notes[-1])
    problems.raise_any()


def _turn(source: Source, own: Series, along_grid: bool, turns: dict[str, Turn], held: _Held) -> None:
    """Replace a series along the grid and its partner by their true components."""
    name, other_name = own.channel.name, Channel(_PARTNER[own.channel.variable], own.channel.level_hpa).name
    other = source.series.get(other_name)
    relative = along_grid or _stated(own, source.name)
    if other is not None and (along_grid or _stated(other, source.name)) != relative:
        raise _contradiction(f"{name} and {other_name} of '{source.name}': one is along the grid, the other is not", (own, other))
    if not relative:
        return
    grid = Grid.from_dataset(own.coordinates)
    if grid.is_latlon:
        return
    if other is None:
        raise InputDataError(
            f"{name} of '{source.name}' is along the grid and cannot be turned to true east and north without {other_name}",
            where=f"{own.pieces[0].header.path}: {own.pieces[0].variable.name}",
            hint=f"make {other_name} a predictor too, or give files of winds to true east and north",
        )
    names = (f"{source.name}: {name}", f"{source.name}: {other_name}")
    require_same_grid(grid, Grid.from_dataset(other.coordinates), names=names, notes=source.notes)
    if grid.digest not in turns:
        turns[grid.digest] = turn_of(grid)
    turn = turns[grid.digest]
    for one in (own, other):
        one.restrict(np.intersect1d(own.days, other.days, assume_unique=True))
    source.series[name], source.series[other_name] = TrueWind.of(own, other, turn, held), TrueWind.of(other, own, turn, held)
    by = f"by {turn.degrees.min():.4g} to {turn.degrees.max():.4g} degrees"
    said = "as declared" if along_grid else own.pieces[0].variable.text("standard_name")
    source.notes.append(f"{source.name}: {name}, {other_name} are along the grid ({said}): turned to true east and north, {by}")
    log.info("%s", source.notes[-1])


def _stated(series: Series, source: str) -> bool:
    """Whether the files of a series say that it is along the grid."""
    said = {piece.variable.text("standard_name") in ALONG_GRID for piece in series.pieces}
    if len(said) > 1:
        raise _contradiction(f"{series.channel.name} of '{source}' is along the grid in some files and not in others", (series,))
    return any(said)


def _contradiction(message: str, series: Sequence[Series]) -> InputDataError:
    pieces = {piece.variable.text("standard_name"): piece for one in series for piece in one.pieces}
    return InputDataError(
        message,
        where=" | ".join(f"{piece.header.path}: {said or 'no standard_name'}" for said, piece in pieces.items()),
        hint="mend the standard_name that is wrong, e.g. with ncatted, or declare it with sources.NAME.winds: grid",
    )


def held_blocks(source: Source) -> int:
    """Blocks of fields that reading the turned winds of a source holds at most, besides the one that is asked for."""
    return sum(isinstance(series, TrueWind) for series in source.series.values()) // 2


class _Held:
    """Blocks of the components that were read on the way to their partners, each given out once."""

    def __init__(self) -> None:
        self._blocks: dict[str, tuple[tuple[int, int], NDArray[np.float32]]] = {}

    def put(self, name: str, days: tuple[int, int], block: NDArray[np.float32]) -> None:
        self._blocks[name] = (days, block)

    def take(self, name: str, days: tuple[int, int]) -> NDArray[np.float32] | None:
        found = self._blocks.pop(name, None)
        return found[1] if found is not None and found[0] == days else None

    def clear(self) -> None:
        self._blocks.clear()


@dataclass
class TrueWind(Series):
    """The component to true east (ua, uas) or north (va, vas) of two series along the grid; NaN where either is missing.

    It has the days that both have.

    Both components are read together; the partner's block waits until it is asked for or forgotten.
    """

    own: Series = field(repr=False, default=None)  # type: ignore[assignment]
    other: Series = field(repr=False, default=None)  # type: ignore[assignment]
    turn: Turn = field(repr=False, default=None)  # type: ignore[assignment]
    held: _Held = field(repr=False, default_factory=_Held)

    @classmethod
    def of(cls, own: Series, other: Series, turn: Turn, held: _Held) -> TrueWind:
        """The true component of ``own``, whose partner is ``other``."""
        return cls(**{one.name: getattr(own, one.name) for one in fields(Series)}, own=own, other=other, turn=turn, held=held)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """See Series.read."""
        start, stop, _ = slice(start, stop).indices(len(self.days))
        if self._kept is not None and self._kept[:2] == (start, stop):
            return self._kept[2]
        block = self.held.take(self.channel.name, (start, stop))
        if block is None:
            block = self._read_both(start, stop)
        if self.keep_block:
            block.flags.writeable = False
            self._kept = (start, stop, block)
        return block

    def _read_both(self, start: int, stop: int) -> NDArray[np.float32]:
        for one in (self.own, self.other):
            one.keep_open, one.shared_notes = self.keep_open, self.shared_notes
        mine, others = self.own.read(start, stop), self.other.read(start, stop)
        if self.channel.variable in ("va", "vas"):
            self.held.put(self.other.channel.name, (start, stop), self.turn.eastward(others, mine))
            return self.turn.northward(others, mine)
        self.held.put(self.other.channel.name, (start, stop), self.turn.northward(mine, others))
        return self.turn.eastward(mine, others)

    def forget(self) -> None:
        """See Series.forget; what waits for any partner goes too."""
        super().forget()
        self.held.clear()

    def restrict(self, days: NDArray[np.int64]) -> None:
        """See Series.restrict; both components keep these days."""
        for one in (self.own, self.other):
            one.restrict(days)
        self.table, self.days = self.own.table, self.own.days

    def close(self) -> None:
        """See Series.close."""
        self.held.clear()
        self.own.close()
