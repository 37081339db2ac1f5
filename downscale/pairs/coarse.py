"""Read the channels of a source on the coarse grid, block by block: upscaled from an RCM, or interpolated from a GCM."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from downscale.cf.open import Series, Source
from downscale.grid.cells import Edges
from downscale.grid.domain import Cells, columns_from, require_covered
from downscale.grid.engines import Engine, make_weights
from downscale.grid.grid import Grid, same_grid, take_notes
from downscale.grid.regrid import smooth
from downscale.grid.weights import Weights
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """How fields of one grid come to the coarse grid.

    Attributes:
        crop: (y, x) slices cut from the field first (relaxation zone).
        weights: applied next; None where the cropped grid is the coarse grid.
        min_valid_fraction: a coarse cell with less valid area is NaN.
    """

    crop: Cells
    weights: Weights | None
    min_valid_fraction: float = 0.5

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """(time, y, x) on the source's grid -> (time, H, W) on the coarse grid, same dtype."""
        cut = fields[:, self.crop[0], self.crop[1]]
        return cut if self.weights is None else self.weights.apply(cut, min_valid_fraction=self.min_valid_fraction)


@dataclass
class CoarseReader:
    """The coarse maps of some channels of one source.

    Attributes:
        source: the opened files.
        transfers: channel name -> Transfer.
        smooth: k, odd; k > 1 averages k x k cells of the coarse box, at its edges those that are there.
    """

    source: Source
    transfers: dict[str, Transfer]
    smooth: int = 1

    def read(self, channels: Sequence[Channel], days: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Maps (time, channel, H, W) float32, working units; NaN where the source lacks the channel, or the channel the day."""
        maps = np.full((len(days), len(channels), *shape), np.nan, np.float32)
        for position, channel in enumerate(channels):
            if channel.name in self.transfers:
                series = self.source.series[channel.name]
                there = _among(days, series.days)
                if there.any():
                    coarse = self.transfers[channel.name](read_days(series, days[there]))
                    maps[there, position] = smooth(coarse, self.smooth)
        return maps


def _among(days: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of some days are among sorted ones; np.isin would sort all of them again for every block."""
    position = np.searchsorted(known, days)
    found = position < len(known)
    found[found] = known[position[found]] == days[found]
    return found


def read_days(series: Series, days: np.ndarray) -> np.ndarray:
    """Fields of exactly these days (sorted, all of them in the series): (time, y, x) float32."""
    position = np.searchsorted(series.days, days)
    first, last = int(position[0]), int(position[-1]) + 1
    fields = series.read(first, last)
    return fields if last - first == len(days) else fields[position - first]


def upscaling_reader(
    source: Source, weights: Weights, crop: tuple[slice, slice], *, min_valid_fraction: float, smooth: int
) -> CoarseReader:
    """RCMu: every series of an RCM source through the same conservative weights."""
    transfer = Transfer(crop, weights, min_valid_fraction)
    return CoarseReader(source, dict.fromkeys(source.series, transfer), smooth)


def gcm_reader(source: Source, coarse: Grid, *, smooth: int, engine: Engine = "auto", edges: Edges = "great_circle") -> CoarseReader:
    """A GCM on the training grid: as it is where the cells are the same, else by the variable table's method.

    Engine and edges as make_weights takes them; an engine "file", which is for the RCM, counts as "auto".

    Raises:
        InputDataError: the source's grid does not cover the coarse grid (G09).
    """
    cache: dict[tuple[str, str], Transfer] = {}
    transfers = {}
    for name, series in source.series.items():
        grid = Grid.from_dataset(series.coordinates)
        take_notes(grid, source.name, source.notes)
        method = lookup(series.channel.variable).remap
        key = (grid.digest, method)
        if key not in cache:
            cache[key] = _gcm_transfer(source, series, grid, coarse, "auto" if engine == "file" else engine, edges)
        transfers[name] = cache[key]
    return CoarseReader(source, transfers, smooth)


def _gcm_transfer(source: Source, series: Series, grid: Grid, coarse: Grid, engine: Engine, edges: Edges) -> Transfer:
    method = lookup(series.channel.variable).remap
    window = _window_of(grid, coarse, source)
    if window is not None:
        return Transfer(window, None)
    if method == "conservative":
        weights = make_weights(grid, coarse, engine=engine, edges=edges)
    else:
        weights = make_weights(grid, coarse, method=method, engine=engine)
    require_covered(weights.coverage, f"the training grid ({coarse.summary}) by {series.channel.name} of '{source.name}' ({grid.summary})")
    source.notes.append(
        f"{source.name}: grid {grid.shape} brought to the training grid {coarse.shape} ({method}; e.g. {series.channel.name})"
    )
    log.info("%s", source.notes[-1])
    return Transfer((slice(None), slice(None)), weights)


def _window_of(grid: Grid, coarse: Grid, source: Source) -> Cells | None:
    """Slices of ``grid`` whose cells are the coarse grid's, or None."""
    if grid.shape[0] < coarse.shape[0] or grid.shape[1] < coarse.shape[1]:
        return None
    distance = np.hypot(grid.lat - coarse.lat[0, 0], (grid.lon - coarse.lon[0, 0] + 180.0) % 360.0 - 180.0)
    y, x = np.unravel_index(int(np.argmin(distance)), grid.shape)
    window = (slice(int(y), int(y) + coarse.shape[0]), columns_from(grid, int(x), coarse.shape[1]))
    cut = grid.crop(*window)
    return (
        window
        if cut.shape == coarse.shape and same_grid(cut, coarse, notes=source.notes, names=(source.name, "the training grid"))
        else None
    )
