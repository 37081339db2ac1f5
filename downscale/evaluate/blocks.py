"""Blocks of map rows: how large they are, who does them, and how what was found on each becomes one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from downscale.evaluate.selection import ALL_PERIODS

BLOCK_BYTES = 80 * 2**20
KEPT_MAPS = (
    "mean",
    "std",
    "bias",
    "rmse",
    "correlation",
    "std_ratio",
    "w1",
    "p99",
    "p99_bias",
    "wet_day_frequency",
    "wet_day_frequency_bias",
    "relative_bias",
    "txx_bias",
    "txn_bias",
    "rx1day_bias",
    "sdii_bias",
    "cdd_bias",
    "cwd_bias",
)
CHANGE_STATISTICS = ("mean", "p99")
Key = tuple[str, str, str]
Spread = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]]
"""Calls a function with each of some tuples of arguments, here or in other processes, and gives the results in any order."""


def one_by_one(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """A Spread that does everything itself, in order."""
    for task in tasks:
        yield work(*task)


@dataclass
class AreaMean:
    """Area mean of a map that comes in blocks of rows."""

    total: float = 0.0
    area: float = 0.0
    cells: int = 0

    def add(self, values: np.ndarray, area: np.ndarray) -> None:
        """Add cells that have a value and a positive area."""
        valid = np.isfinite(values) & (area > 0)
        self.total += float(np.sum(values[valid] * area[valid]))
        self.area += float(area[valid].sum())
        self.cells += int(valid.sum())

    @property
    def value(self) -> float:
        """NaN without cells."""
        return self.total / self.area if self.cells else float("nan")

    def merge(self, other: AreaMean) -> None:
        """Add the cells of another."""
        self.total += other.total
        self.area += other.area
        self.cells += other.cells


@dataclass(eq=False)
class FieldScores:
    """What the pass finds for one series: a prediction's variable, or the truth's; of a block of rows, or of the whole map.

    Attributes:
        shape: of the maps.
        means: (metric, season, period) -> area mean.
        maps: the same keys -> (y, x) float32, for the metrics worth a map.
        qq: (probability, 2) area-mean quantiles of prediction and reference in the main season.
        sample: (time, cell) values at the sampled grid points.
        varies: whether any cell of the region changes in time.
        regions: (metric, season, period) -> area mean, by the name of another region.
        daily: region -> (6, time) sums over cells of spatial.spatial_sums; the main region's name is empty.
        p_values: (season, period) -> (y, x) p-value of the bias.
    """

    shape: tuple[int, int]
    means: dict[Key, AreaMean] = field(default_factory=dict)
    maps: dict[Key, np.ndarray] = field(default_factory=dict)
    qq: list[AreaMean] = field(default_factory=list)
    sample: list[np.ndarray] = field(default_factory=list)
    varies: bool = False
    regions: dict[str, dict[Key, AreaMean]] = field(default_factory=dict)
    daily: dict[str, np.ndarray] = field(default_factory=dict)
    p_values: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def add(self, key: Key, values: np.ndarray, area: np.ndarray, regions: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        """Add one metric's map; area and those of other regions are (y, x)."""
        self.means.setdefault(key, AreaMean()).add(values, area)
        for name, other in regions.items():
            self.regions.setdefault(name, {}).setdefault(key, AreaMean()).add(values, other)
        metric, _, period = key
        if (metric in KEPT_MAPS and period == ALL_PERIODS) or metric in CHANGE_STATISTICS:
            self.maps[key] = values.astype(np.float32)

    def add_quantiles(self, values: np.ndarray, area: np.ndarray) -> None:
        """Add a block of (probability, y, x) quantiles for the Q-Q plot."""
        if not self.qq:
            self.qq = [AreaMean() for _ in values]
        for mean, row in zip(self.qq, values, strict=True):
            mean.add(row, area)

    def merge(self, block: FieldScores, rows: slice) -> None:
        """Add what was found on some rows; blocks come in the order of their rows, because of the samples."""
        for key, mean in block.means.items():
            self.means.setdefault(key, AreaMean()).merge(mean)
        for key, values in block.maps.items():
            self.maps.setdefault(key, np.full(self.shape, np.nan, np.float32))[rows] = values
        self.qq = self.qq or [AreaMean() for _ in block.qq]
        for mean, more in zip(self.qq, block.qq, strict=True):
            mean.merge(more)
        for region, found in block.regions.items():
            for key, mean in found.items():
                self.regions.setdefault(region, {}).setdefault(key, AreaMean()).merge(mean)
        for region, sums in block.daily.items():
            self.daily[region] = self.daily.get(region, 0.0) + sums
        for where, values in block.p_values.items():
            self.p_values.setdefault(where, np.full(self.shape, np.nan))[rows] = values
        self.sample += block.sample
        self.varies |= block.varies

    def of_region(self, name: str, picked: np.ndarray) -> FieldScores:
        """The same in a region, the main one's name is empty; picked: which of the sampled grid points are its."""
        sample = [np.concatenate(self.sample, axis=1)[:, picked]] if self.sample else []
        if not name:
            return replace(self, sample=sample)
        daily = {"": self.daily[name]} if name in self.daily else {}
        return replace(self, means=self.regions.get(name, {}), sample=sample, daily=daily, p_values={})


@dataclass(eq=False)
class GroupScores:
    """All of one group, on a block of rows or on the whole map.

    Attributes:
        predictions: (run, kind, variable) -> scores.
        truth: by variable.
        split: (run, variable, season, part) of the daily error split.
        cells: the sampled flat cells of the whole map.
        picked: which of them belong to the sample of a region, by name; the main region's is empty.
        height: rows of a block.
    """

    predictions: dict[Key, FieldScores] = field(default_factory=dict)
    truth: dict[str, FieldScores] = field(default_factory=dict)
    split: dict[tuple[str, str, str, str], AreaMean] = field(default_factory=dict)
    cells: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    height: int = 0
    picked: dict[str, np.ndarray] = field(default_factory=dict)

    def of_region(self, name: str) -> GroupScores:
        """The same in a region; the main one's name is empty."""
        if not self.picked:
            return self
        picked = self.picked[name]
        predictions = {key: one.of_region(name, picked) for key, one in self.predictions.items()}
        truth = {variable: one.of_region(name, picked) for variable, one in self.truth.items()}
        return GroupScores(predictions, truth, self.split, self.cells[picked])

    def merge(self, block: GroupScores, rows: slice, shape: tuple[int, int]) -> None:
        """Add what was found on some rows of maps of a shape; blocks come in the order of their rows."""
        for key, found in block.predictions.items():
            self.predictions.setdefault(key, FieldScores(shape)).merge(found, rows)
        for name, found in block.truth.items():
            self.truth.setdefault(name, FieldScores(shape)).merge(found, rows)
        for part, mean in block.split.items():
            self.split.setdefault(part, AreaMean()).merge(mean)


def in_order(results: Iterable[tuple[int, Any]], starts: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Results (start, what) in the order of ``starts``, each as soon as all before it are there."""
    waiting: dict[int, Any] = {}
    wanted = iter(starts)
    following = next(wanted, None)
    for start, what in results:
        waiting[start] = what
        while following in waiting:
            yield following, waiting.pop(following)
            following = next(wanted, None)


def row_blocks(shape: tuple[int, ...], n_days: int, block_bytes: int | None = None) -> Iterator[slice]:
    """Blocks of map rows of which one series has about so many bytes; 80 MiB where None."""
    step = max(1, (block_bytes or BLOCK_BYTES) // max(n_days * shape[1] * 4, 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def spread_cells(area: np.ndarray, wanted: int) -> np.ndarray:
    """Flat positions of some cells with a weight, spread evenly over them."""
    inside = np.flatnonzero(area.ravel() > 0)
    return inside[np.unique(np.linspace(0, len(inside) - 1, min(wanted, len(inside))).astype(np.int64))] if len(inside) else inside
