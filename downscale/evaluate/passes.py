"""One pass over the test days of a pair group, by blocks of map rows: every prediction against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from downscale.errors import InputDataError
from downscale.evaluate.error_split import daily_split
from downscale.evaluate.indices import IndexSet
from downscale.evaluate.predictions import Prediction, PredictionReader
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.series import (
    QQ_ROWS,
    SeriesBlock,
    matched,
    pair_totals,
    quantile_scores,
    reference_indices,
    sum_scores,
    with_absolute,
)
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

BLOCK_BYTES = 80 * 2**20
READ_DAYS = 256
SAMPLE_CELLS = 512
SAMPLE_BYTES = 256 * 2**20
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
)
CHANGE_STATISTICS = ("mean", "p99")
Key = tuple[str, str, str]


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


@dataclass(eq=False)
class FieldScores:
    """What the pass finds for one series: a prediction's variable, or the truth's.

    Attributes:
        means: (metric, season, period) -> area mean.
        maps: the same keys -> (y, x) float32, for the metrics worth a map.
        qq: (probability, 2) area-mean quantiles of prediction and reference in the main season.
        sample: (time, cell) values at the sampled grid points.
        varies: whether any cell of the region changes in time.
    """

    shape: tuple[int, int]
    means: dict[Key, AreaMean] = field(default_factory=dict)
    maps: dict[Key, np.ndarray] = field(default_factory=dict)
    qq: list[AreaMean] = field(default_factory=list)
    sample: list[np.ndarray] = field(default_factory=list)
    varies: bool = False

    def add(self, key: Key, values: np.ndarray, area: np.ndarray, rows: slice) -> None:
        """Add a block of rows of one metric."""
        self.means.setdefault(key, AreaMean()).add(values, area)
        metric, _, period = key
        if (metric in KEPT_MAPS and period == ALL_PERIODS) or metric in CHANGE_STATISTICS:
            if key not in self.maps:
                self.maps[key] = np.full(self.shape, np.nan, np.float32)
            self.maps[key][rows] = values

    def add_quantiles(self, values: np.ndarray, area: np.ndarray) -> None:
        """Add a block of (probability, y, x) quantiles for the Q-Q plot."""
        if not self.qq:
            self.qq = [AreaMean() for _ in values]
        for mean, row in zip(self.qq, values, strict=True):
            mean.add(row, area)


@dataclass(frozen=True)
class Window:
    """Rows of the map that are worked on, and the sampled grid points among their flat cells."""

    rows: slice
    picked: list[int]


@dataclass(eq=False)
class GroupScores:
    """All of one group: (run, kind, variable) -> scores, the truth by variable, the daily error split, the sampled flat cells."""

    predictions: dict[Key, FieldScores] = field(default_factory=dict)
    truth: dict[str, FieldScores] = field(default_factory=dict)
    split: dict[tuple[str, str, str, str], AreaMean] = field(default_factory=dict)
    cells: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class GroupPass:
    """The pass itself.

    Attributes:
        group: with truth.
        targets: variable names in the order of the group's target axis.
        table: the test days.
        index: their positions in the group.
        area: (y, x) weights, zero outside the region.
        wet_day_mm: wet-day threshold.
    """

    group: PairGroup
    targets: Sequence[str]
    table: TimeTable
    index: np.ndarray
    area: np.ndarray
    wet_day_mm: float

    def run(self, predictions: Sequence[Prediction]) -> GroupScores:
        """Score all predictions of the group.

        Raises:
            InputDataError: other days, calendar, grid or units than the truth, or a field that never changes.
        """
        result, shape = GroupScores(), self.area.shape
        result.cells = self._sample_cells(len(predictions))
        with ExitStack() as stack:
            readers = self._open(stack, predictions)
            for rows in row_blocks(shape, len(self.index)):
                truth = read_targets(self.group, self.index, rows)
                inside = result.cells[(result.cells // shape[1] >= rows.start) & (result.cells // shape[1] < rows.stop)]
                window = Window(rows, (inside - rows.start * shape[1]).tolist())
                for position, name in enumerate(self.targets):
                    indices = IndexSet.of(lookup(name), self.wet_day_mm)
                    reference = SeriesBlock(truth[position], self.table, indices)
                    self._add_truth(result.truth.setdefault(name, FieldScores(shape)), reference, window)
                    for run, kinds in _by_run(readers, name).items():
                        series = {kind: reader.read(rows) for kind, reader in kinds.items()}
                        self._add_run(result, reference, (run, name), series, window)
        self._check_variance(result)
        return result

    def _open(self, stack: ExitStack, predictions: Sequence[Prediction]) -> dict[Key, PredictionReader]:
        readers: dict[Key, PredictionReader] = {}
        for prediction in predictions:
            for name in prediction.variables:
                reader = stack.enter_context(PredictionReader(prediction, name, self.table.days, self.table.calendar))
                if reader.shape != self.area.shape:
                    raise InputDataError(
                        f"a prediction has {reader.shape} cells, the truth {self.area.shape}",
                        where=str(prediction.folder),
                        hint="the run belongs to another fine grid: apply one trained on these pairs",
                    )
                readers[prediction.run, prediction.kind, name] = reader
        return readers

    def _sample_cells(self, n_predictions: int) -> np.ndarray:
        """Flat positions of grid points for the intervals, spread evenly over the region."""
        inside = np.flatnonzero(self.area.ravel() > 0)
        series = max((n_predictions + 1) * len(self.targets) * len(self.index) * 4, 1)
        wanted = int(np.clip(SAMPLE_BYTES // series, 64, SAMPLE_CELLS))
        return inside[np.unique(np.linspace(0, len(inside) - 1, min(wanted, len(inside))).astype(np.int64))] if len(inside) else inside

    def _add_truth(self, into: FieldScores, reference: SeriesBlock, window: Window) -> None:
        rows = window.rows
        for selection in self.table.selections:
            for metric, values in reference_indices(reference, selection).items():
                into.add((metric, selection.season, selection.period), values, self.area[rows], rows)
        into.add_quantiles(reference.quantiles(self.table.selections[0])[QQ_ROWS], self.area[rows])
        into.sample.append(reference.values.reshape(len(reference.values), -1)[:, window.picked])

    def _add_run(
        self, result: GroupScores, reference: SeriesBlock, key: tuple[str, str], series: Mapping[str, np.ndarray], window: Window
    ) -> None:
        run, name = key
        for kind, values in series.items():
            into = result.predictions.setdefault((run, kind, name), FieldScores((self.area.shape[0], self.area.shape[1])))
            self._add_prediction(into, values, reference, window)
        if len(series) == 2:
            for selection in self.table.selections:
                if selection.period == ALL_PERIODS:
                    parts = daily_split(*(array[selection.rows] for array in (series["imperfect"], series["perfect"], reference.values)))
                    for part, field_map in parts.items():
                        result.split.setdefault((run, name, selection.season, part), AreaMean()).add(field_map, self.area[window.rows])

    def _add_prediction(self, into: FieldScores, values: np.ndarray, reference: SeriesBlock, window: Window) -> None:
        rows = window.rows
        block, reference = matched(values, reference)
        area, totals = self.area[rows], pair_totals(block, reference)
        for selection in self.table.selections:
            scores = sum_scores(totals.whole(self.table, selection), reference.indices)
            scores |= quantile_scores(block.quantiles(selection), reference.quantiles(selection))
            for metric, value in with_absolute(scores).items():
                into.add((metric, selection.season, selection.period), value, area, rows)
        into.add_quantiles(block.quantiles(self.table.selections[0])[QQ_ROWS], area)
        into.sample.append(block.values.reshape(len(values), -1)[:, window.picked])
        inside = values[:, area > 0]
        with np.errstate(invalid="ignore"):
            into.varies |= bool(inside.size and (np.fmax.reduce(inside, axis=0) > np.fmin.reduce(inside, axis=0)).any())

    def _check_variance(self, result: GroupScores) -> None:
        dead = [
            f"{run} on {self.group.name}/{kind}: {name}" for (run, kind, name), scores in result.predictions.items() if not scores.varies
        ]
        if dead:
            raise InputDataError(
                f"{len(dead)} predicted field(s) never change in time or hold no value on the test days",
                where=dead[0],
                hint="the run is broken: look at its metrics.csv, train and apply it again",
                findings=dead,
            )


def _by_run(readers: Mapping[Key, PredictionReader], name: str) -> dict[str, dict[str, PredictionReader]]:
    result: dict[str, dict[str, PredictionReader]] = {}
    for (run, kind, variable), reader in readers.items():
        if variable == name:
            result.setdefault(run, {})[kind] = reader
    return result


def row_blocks(shape: tuple[int, ...], n_days: int) -> Iterator[slice]:
    """Blocks of map rows of which one series has about 80 MiB."""
    step = max(1, BLOCK_BYTES // max(n_days * shape[1] * 4, 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def read_targets(group: PairGroup, index: np.ndarray, rows: slice) -> np.ndarray:
    """Truth on some rows (target, time, y, x), read a few hundred days at a time."""
    first = group.target(index[:1])[:, :, rows]
    result = np.empty((first.shape[1], len(index), *first.shape[2:]), np.float32)
    for start in range(0, len(index), READ_DAYS):
        result[:, start : start + READ_DAYS] = np.moveaxis(group.target(index[start : start + READ_DAYS])[:, :, rows], 1, 0)
    return result
