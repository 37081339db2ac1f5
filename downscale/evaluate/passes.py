"""One pass over the test days of a pair group, by blocks of map rows: every prediction against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from downscale.errors import InputDataError
from downscale.evaluate.blocks import AreaMean, FieldScores, GroupScores, Key, Spread, in_order, one_by_one, row_blocks, spread_cells
from downscale.evaluate.metrics.bootstrap import BOOTSTRAP_MIN_YEARS
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.series import (
    QQ_ROWS,
    SeriesBlock,
    matched,
    pair_totals,
    quantile_scores,
    reference_indices,
    sum_scores,
    with_absolute,
)
from downscale.evaluate.metrics.significance import bias_p_value
from downscale.evaluate.metrics.spatial import spatial_sums
from downscale.evaluate.predictions import Prediction, PredictionReader
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.transfer.error_split import daily_split
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

SAMPLE_CELLS = 512
SAMPLE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Window:
    """Area weights (y, x) of the rows that are worked on, those of other regions, and the sampled points among their flat cells."""

    area: np.ndarray
    regions: Mapping[str, np.ndarray]
    picked: np.ndarray


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
        regions: area weights of other regions.
        block_bytes: of a block of rows of one series; None: see row_blocks.
    """

    group: PairGroup
    targets: Sequence[str]
    table: TimeTable
    index: np.ndarray
    area: np.ndarray
    wet_day_mm: float
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    block_bytes: int | None = None

    def run(self, predictions: Sequence[Prediction], spread: Spread = one_by_one) -> GroupScores:
        """Score all predictions of the group, block by block.

        Args:
            predictions: of this group.
            spread: who does the blocks.

        Raises:
            InputDataError: other days, calendar, grid or units than the truth, or a field that never changes.
        """
        cells, own = self.sample_cells(len(predictions))
        tasks = [(self, list(predictions), rows, cells) for rows in row_blocks(self.area.shape, len(self.index), self.block_bytes)]
        result, shape = GroupScores(cells=cells, picked=own), (self.area.shape[0], self.area.shape[1])
        for start, block in in_order(spread(score_rows, tasks), [task[2].start for task in tasks]):
            result.merge(block, slice(start, start + block.height), shape)
        self._check_variance(result)
        return result

    def block(self, predictions: Sequence[Prediction], rows: slice, cells: np.ndarray) -> GroupScores:
        """The scores on some rows: a task that depends on nothing but its arguments.

        Args:
            predictions: of this group.
            rows: of the map.
            cells: flat positions on the whole map whose series are kept for the intervals.
        """
        result, width = GroupScores(height=rows.stop - rows.start), self.area.shape[1]
        picked = cells[(cells // width >= rows.start) & (cells // width < rows.stop)] - rows.start * width
        window = Window(self.area[rows], {name: area[rows] for name, area in self.regions.items()}, picked)
        with ExitStack() as stack:
            readers = self._open(stack, predictions)
            truth = read_targets(self.group, self.index, rows)
            for position, name in enumerate(self.targets):
                indices = IndexSet.of(lookup(name), self.wet_day_mm)
                reference = SeriesBlock(truth[position], self.table, indices)
                self._add_truth(result.truth.setdefault(name, FieldScores(truth.shape[2:])), reference, window)
                for run, kinds in _by_run(readers, name).items():
                    series = {kind: reader.read(rows) for kind, reader in kinds.items()}
                    self._add_run(result, reference, (run, name), series, window)
        return result

    def _open(self, stack: ExitStack, predictions: Sequence[Prediction]) -> dict[Key, PredictionReader]:
        readers: dict[Key, PredictionReader] = {}
        for prediction in predictions:
            for name in prediction.variables:
                reader = stack.enter_context(prediction.reader(name, self.table.days, self.table.calendar))
                if reader.shape != self.area.shape:
                    raise InputDataError(
                        f"a prediction has {reader.shape} cells, the truth {self.area.shape}",
                        where=str(prediction.folder),
                        hint="the run belongs to another fine grid: apply one trained on these pairs",
                    )
                readers[prediction.run, prediction.kind, name] = reader
        return readers

    def sample_cells(self, n_predictions: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Flat positions of grid points for the intervals, spread evenly over each region, and which of them are whose.

        The main region's name is empty; without others nobody needs to know.
        """
        series = max((n_predictions + 1) * len(self.targets) * len(self.index) * 4, 1)
        wanted = int(np.clip(SAMPLE_BYTES // series // (1 + len(self.regions)), 64, SAMPLE_CELLS))
        own = {name: spread_cells(area, wanted) for name, area in {"": self.area, **self.regions}.items()}
        cells = np.unique(np.concatenate(list(own.values())))
        return cells, {name: np.isin(cells, some) for name, some in own.items()} if self.regions else {}

    def _add_truth(self, into: FieldScores, reference: SeriesBlock, window: Window) -> None:
        for selection in self.table.selections:
            for metric, values in reference_indices(reference, selection).items():
                into.add((metric, selection.season, selection.period), values, window.area, window.regions)
        into.add_quantiles(reference.quantiles(self.table.selections[0])[QQ_ROWS], window.area)
        into.sample.append(reference.values.reshape(len(reference.values), -1)[:, window.picked])

    def _add_run(
        self, result: GroupScores, reference: SeriesBlock, key: tuple[str, str], series: Mapping[str, np.ndarray], window: Window
    ) -> None:
        run, name = key
        for kind, values in series.items():
            into = result.predictions.setdefault((run, kind, name), FieldScores((values.shape[1], values.shape[2])))
            self._add_prediction(into, values, reference, window)
        if len(series) == 2:
            for selection in self.table.selections:
                if selection.period == ALL_PERIODS:
                    parts = daily_split(*(array[selection.rows] for array in (series["imperfect"], series["perfect"], reference.values)))
                    for part, field_map in parts.items():
                        result.split.setdefault((run, name, selection.season, part), AreaMean()).add(field_map, window.area)

    def _add_prediction(self, into: FieldScores, values: np.ndarray, reference: SeriesBlock, window: Window) -> None:
        block, reference = matched(values, reference)
        area, totals = window.area, pair_totals(block, reference)
        for selection in self.table.selections:
            years = totals.years(self.table, selection)
            scores = sum_scores(years.total(selection.strata), reference.indices)
            scores |= quantile_scores(block.ascending(selection), reference.ascending(selection))
            for metric, value in with_absolute(scores).items():
                into.add((metric, selection.season, selection.period), value, area, window.regions)
            if selection.period == ALL_PERIODS and len(selection.years) >= BOOTSTRAP_MIN_YEARS:
                into.p_values[selection.season, selection.period] = bias_p_value(years.pair, selection.strata)
        into.daily = {name: spatial_sums(block.values, reference.values, one) for name, one in {"": area, **window.regions}.items()}
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


def score_rows(group_pass: GroupPass, predictions: Sequence[Prediction], rows: slice, cells: np.ndarray) -> tuple[int, GroupScores]:
    """The first row of a block, and its scores."""
    return rows.start, group_pass.block(predictions, rows, cells)


def read_targets(group: PairGroup, index: np.ndarray, rows: slice) -> np.ndarray:
    """Truth on some rows (target, time, y, x)."""
    return group.target_rows(index, rows)
