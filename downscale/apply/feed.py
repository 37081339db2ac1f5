"""What a run is fed with: days of a pair group, or of files that the run has never seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from downscale.apply.flow import HDF5
from downscale.apply.hints import options_told
from downscale.cf.calendar import encode_days, expected_days
from downscale.cf.open import Source, open_files
from downscale.errors import ConfigError, InputDataError
from downscale.grid.cells import Edges
from downscale.grid.domain import require_covered
from downscale.grid.engines import make_weights
from downscale.grid.grid import Grid, take_notes
from downscale.pairs.coarse import CoarseReader, gcm_reader, upscaling_reader
from downscale.pairs.scalars import Forcings
from downscale.pairs.store import PairGroup
from downscale.pairs.winds import true_winds
from downscale.training.reading import Holes, Windows, read_windows
from downscale.variables import Channel

log = logging.getLogger(__name__)
MOST_MISSING = 364
"""A gap of a year or more parts two periods; a shorter one is days that are missing."""
Block = tuple[Windows, np.ndarray, np.ndarray]
"""Predictors, scalars and surface of some days."""


class Feed(Protocol):
    """Days and the arrays that a run reads for them."""

    calendar: str
    days: np.ndarray

    def block(self, start: int, stop: int, holes: Holes) -> Block:
        """Predictors with those of the days around (see read_windows; ``holes`` says which days, and what may be missing), scalars (n, K)
        and surface (n, V, H, W) of ``days[start:stop]``, float32, working units."""

    def close(self) -> None:
        """Close what reading has left open; it is opened again when it is needed."""


@dataclass
class GroupFeed:
    """A pair group's predictors of one kind, on all its days or some."""

    group: PairGroup
    kind: str
    index: np.ndarray
    calendar: str = field(init=False)
    days: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.calendar = self.group.calendar
        self.days = self.group.days[self.index]

    def block(self, start: int, stop: int, holes: Holes) -> Block:
        """See Feed. Days around may be any day of the group, also one that is not emulated itself."""
        index, group = self.index[start:stop], self.group
        windows = read_windows(lambda some: group.predictors(self.kind, some), group.days, group.calendar, index, holes)
        return windows, group.scalars(index), group.surface(self.kind, index)

    def close(self) -> None:
        """See Feed."""


@dataclass
class FileFeed:
    """NetCDF files brought to the run's coarse grid as they are read.

    Its days are those that any channel has; a channel that lacks one is missing on it. A day that no channel has stands in the feed with
    missing values, unless more than ``MOST_MISSING`` days in a row are lacking: then the files are of several periods.
    """

    source: Source
    reader: CoarseReader
    channels: Sequence[Channel]
    targets: Sequence[Channel]
    shape: tuple[int, int]
    forcings: Forcings
    calendar: str = field(init=False)
    days: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.calendar = self.source.calendar
        self.days = with_missing(self.source.days, self.calendar)
        absent = len(self.days) - len(self.source.days)
        if absent:
            some = np.setdiff1d(self.days, self.source.days)[:5].tolist()
            self.source.notes.append(f"input: {absent} day(s) are missing and are written as missing: {', '.join(map(str, some))}")
            log.warning("%s", self.source.notes[-1])

    def block(self, start: int, stop: int, holes: Holes) -> Block:
        """See Feed."""
        days, index = self.days[start:stop], np.arange(start, min(stop, len(self.days)))
        with HDF5, options_told():
            read = self.reader.read
            windows = read_windows(lambda some: read(self.channels, self.days[some], self.shape), self.days, self.calendar, index, holes)
            surface = read(self.targets, days, self.shape)
        return windows, self.forcings(days, self.calendar), surface

    def close(self) -> None:
        """See Feed."""
        with HDF5:
            self.source.close()


def with_missing(days: np.ndarray, calendar: str) -> np.ndarray:
    """Days yyyymmdd with those that are missing between them, but for gaps of more than ``MOST_MISSING`` days."""
    if len(days) < 2:
        return days
    numbers = np.rint(encode_days(days, calendar) - 0.5).astype(np.int64)
    steps = np.diff(numbers)
    gaps = np.flatnonzero((steps > 1) & (steps <= MOST_MISSING + 1))
    lost = [expected_days(int(days[at]), int(days[at + 1]), calendar)[1:-1] for at in gaps]
    return np.sort(np.concatenate([days, *lost])) if lost else days


@dataclass(frozen=True)
class Needs:
    """What a run asks of its input, from its own folder."""

    channels: Sequence[Channel]
    targets: Sequence[Channel]
    forcing_columns: Sequence[str]
    coarse: Grid
    smooth: int
    min_valid_fraction: float
    edges: Edges = "great_circle"


@dataclass(frozen=True)
class Reading:
    """How files are read: as the keys of the same names of a source in the config."""

    assume_units: Mapping[str, str] = field(default_factory=dict)
    fill_values: Sequence[float] = ()
    aggregate: str = "none"


def open_feed(
    paths: Sequence[Path], needs: Needs, *, forcings: Path | None, reading: Reading | None = None, member: int | str | None = None
) -> FileFeed:
    """Open files of a GCM, or of an RCM whose fields are then upscaled as in training.

    A grid whose cells are on average less than half a training cell is taken for an RCM's and upscaled conservatively;
    any other is brought to the training grid by the variable table's method. Which of the two happened is in the notes.

    Raises:
        ConfigError: forcings given to a run that reads none.
        InputDataError: files rejected, channels or levels missing, grid does not cover the training grid, forcings missing.
    """
    if needs.forcing_columns and forcings is None:
        raise InputDataError(
            f"the run was trained with the forcings {', '.join(needs.forcing_columns)}",
            where="no --forcings given",
            hint="give the scenario's CSV with these columns: --forcings FILE.csv",
        )
    if forcings is not None and not needs.forcing_columns:
        raise ConfigError("the run was trained without forcings", where=f"--forcings {forcings}", hint="leave --forcings out")
    reading = reading or Reading()
    with options_told():
        source = open_files(
            "input",
            list(paths),
            list(needs.channels),
            optional=list(needs.targets),
            assume_units=reading.assume_units,
            fill_values=reading.fill_values,
            aggregate=reading.aggregate,
            member=member,
            gaps="missing",
            day_shift_hours=12.0,  # whatever a day is in these files, it is noted
        )
        true_winds(source, needs.channels)
    grid = Grid.from_dataset(next(iter(source.series.values())).coordinates)
    take_notes(grid, source.name, source.notes)
    if _mean_area(grid) < 0.5 * _mean_area(needs.coarse):
        reader = _upscale(source, grid, needs)
    else:
        reader = gcm_reader(source, needs.coarse, smooth=needs.smooth, edges=needs.edges)
    table = Forcings(forcings, list(needs.forcing_columns))
    return FileFeed(source, reader, needs.channels, needs.targets, needs.coarse.shape, table)


def _upscale(source: Source, grid: Grid, needs: Needs) -> CoarseReader:
    weights = make_weights(grid, needs.coarse, edges=needs.edges)
    require_covered(weights.coverage, f"the training grid ({needs.coarse.summary}) by the input ({grid.summary})")
    source.notes.append(f"input: grid {grid.shape} is finer than the training grid {needs.coarse.shape}: upscaled conservatively (RCMu)")
    log.info("%s", source.notes[-1])
    everything = (slice(None), slice(None))
    return upscaling_reader(source, weights, everything, min_valid_fraction=needs.min_valid_fraction, smooth=needs.smooth)


def _mean_area(grid: Grid) -> float:
    """Mean distance product of neighbouring centres, in square degrees of arc: corners are not needed for it."""
    north = np.abs(np.diff(grid.lat, axis=0)).mean() if grid.shape[0] > 1 else 0.0
    scale = np.cos(np.deg2rad(grid.lat[:, :-1]))
    east = np.hypot(((np.diff(grid.lon, axis=1) + 180.0) % 360.0 - 180.0) * scale, np.diff(grid.lat, axis=1)).mean()
    return float(max(north, 1e-6) * east)
