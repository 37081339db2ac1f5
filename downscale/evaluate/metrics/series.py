"""Maps of all scores of one prediction against one reference, from one set of sums and one sort per selection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from downscale.evaluate.metrics import indices as index_metrics
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.indices import PERCENTILES, IndexSet, index_sums
from downscale.evaluate.metrics.quantiles import QQ_PROBABILITIES, Sorted, ascending_cells, quantiles, wasserstein
from downscale.evaluate.metrics.yearly import by_year, weighted_years
from downscale.evaluate.selection import Selection, TimeTable

POINT_METRICS = ("bias", "mse", "rmse", "mae", "correlation", "std_ratio", "mean", "std")
_TABLE = (*PERCENTILES.values(), *QQ_PROBABILITIES)
_PERCENTILE_ROWS = {name: number for number, name in enumerate(PERCENTILES)}
QQ_ROWS = slice(len(PERCENTILES), len(_TABLE))
Totals = dict[str, np.ndarray]


@dataclass(eq=False)
class SeriesBlock:
    """One series (time, ...) in working units with what several scores share. NaN is missing."""

    values: np.ndarray
    table: TimeTable
    indices: IndexSet
    _quantiles: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @cached_property
    def missing(self) -> np.ndarray | None:
        """(time, ...) True where there is no value; None when nothing is missing."""
        mask = np.isnan(self.values)
        return mask if mask.any() else None

    @cached_property
    def anomalies(self) -> np.ndarray:
        """Values minus their seasonal cycle, each contiguous period with its own (a change of climate is no correlation)."""
        result = np.empty(self.values.shape, np.float32)
        for number in np.unique(self.table.stratum):
            rows = np.flatnonzero(self.table.stratum == number)
            n_years = len(np.unique(self.table.year[rows]))
            result[rows] = metrics.deseasonalised(self.values[rows], self.table.days[rows], self.table.calendar, n_years=n_years)
        return result

    @cached_property
    def sums(self) -> Totals:
        """Index sums of each segment."""
        there = None if self.missing is None else ~self.missing
        return index_sums(self.values, there, self.table.segments, self.indices, self.table.follows)

    @cached_property
    def own(self) -> Totals:
        """Sums of each segment for the mean and the standard deviation."""
        return metrics.paired_sums(self.values, self.values, self.table.segments, ("n", "o", "p", "pp"))

    def ascending(self, selection: Selection) -> Sorted:
        """The selected days sorted in each cell; as large as they are, so it is not kept."""
        found = _ascending(self.values[selection.rows])
        self._quantiles[selection.season, selection.period] = quantile_table(found)
        return found

    def quantiles(self, selection: Selection) -> np.ndarray:
        """(probability, ...) quantiles of the selected days, at the percentiles and the probabilities of the Q-Q plot."""
        if (selection.season, selection.period) not in self._quantiles:
            self.ascending(selection)
        return self._quantiles[selection.season, selection.period]


def _ascending(values: np.ndarray) -> Sorted:
    return ascending_cells(np.array(values.reshape(len(values), -1).T, order="C"), values.shape[1:])


def quantile_table(series: Sorted) -> np.ndarray:
    """(probability, ...) float32 quantiles of a series."""
    return quantiles(series, _TABLE).astype(np.float32)


def deleted_years(values: np.ndarray, year: np.ndarray) -> Iterator[Sorted]:
    """A series (time, cell) sorted in each cell, then without each year; year (time,) ascending."""
    cells = np.array(values.T, order="C")
    for deleted in [None, *np.unique(year)]:
        first, last = (0, 0) if deleted is None else np.searchsorted(year, [deleted, deleted + 1])
        left = np.concatenate([cells[:, :first], cells[:, last:]], axis=1)
        yield ascending_cells(left, values.shape[1:])


def matched(prediction: np.ndarray, reference: SeriesBlock) -> tuple[SeriesBlock, SeriesBlock]:
    """Both series on the days that both have; the reference stays as it is where the prediction lacks nothing more."""
    lacks = np.isnan(prediction)
    if reference.missing is not None:
        lacks_more = bool((lacks & ~reference.missing).any())
        prediction = np.where(reference.missing, np.float32(np.nan), prediction)
    else:
        lacks_more = bool(lacks.any())
    if lacks_more:
        reference = SeriesBlock(np.where(lacks, np.float32(np.nan), reference.values), reference.table, reference.indices)
    return SeriesBlock(prediction, reference.table, reference.indices), reference


@dataclass(frozen=True, eq=False)
class PairTotals:
    """Sums of a prediction and its reference; the leading axis is a segment, a year or a resample.

    Attributes:
        pair, anomaly: see metrics.paired_sums, of the values and of the deseasonalised values.
        prediction, reference: see indices.index_sums.
    """

    pair: Totals
    anomaly: Totals
    prediction: Totals
    reference: Totals

    @property
    def parts(self) -> tuple[Totals, Totals, Totals, Totals]:
        """The four in their order."""
        return self.pair, self.anomaly, self.prediction, self.reference

    def years(self, table: TimeTable, selection: Selection) -> PairTotals:
        """Segment sums to sums of each year of a selection."""
        return PairTotals(*(by_year(part, table.membership(selection), table.linked) for part in self.parts))

    def total(self, strata: np.ndarray) -> PairTotals:
        """Year sums (year, ...) to sums of all years (...); strata (year,) their periods."""
        once = self.weighted(np.ones((1, len(strata))), strata)
        return PairTotals(*({name: value[0] for name, value in part.items()} for part in once.parts))

    def weighted(self, weights: np.ndarray, strata: np.ndarray | None = None) -> PairTotals:
        """Year sums (year, ...) to weighted sums over years (resample, ...); weights (resample, year), strata (year,) their periods."""
        return PairTotals(*(weighted_years(part, weights, strata) for part in self.parts))


def pair_totals(prediction: SeriesBlock, reference: SeriesBlock) -> PairTotals:
    """Sums of each segment of the day axis."""
    segments = reference.table.segments
    return PairTotals(
        metrics.paired_sums(prediction.values, reference.values, segments),
        metrics.paired_sums(prediction.anomalies, reference.anomalies, segments, metrics.MOMENTS),
        prediction.sums,
        reference.sums,
    )


def sum_scores(totals: PairTotals, indices: IndexSet) -> dict[str, np.ndarray]:
    """Scores made of sums: name -> (resample, ...) or (...) in the leading shape of the totals."""
    result = {name: metrics.FROM_SUMS[name](totals.pair) for name in POINT_METRICS}
    if indices.wet_day_mm is not None:
        result["relative_bias"] = metrics.FROM_SUMS["relative_bias"](totals.pair)
    result["correlation_deseasonalised"] = metrics.FROM_SUMS["correlation"](totals.anomaly)
    for name in indices.names:
        index = index_metrics.FROM_SUMS[name]
        result[name], reference = index(totals.prediction), index(totals.reference)
        result[f"{name}_bias"] = result[name] - reference
        if name == "interannual_std":
            with np.errstate(divide="ignore", invalid="ignore"):
                result["interannual_std_ratio"] = np.where(reference > 0, result[name] / reference, np.nan)
    return result


def quantile_scores(prediction: Sorted, reference: Sorted) -> dict[str, np.ndarray]:
    """Scores made of sorted series: W1, the percentiles and their biases."""
    result = {"w1": wasserstein(prediction, reference)}
    p, r = (quantiles(one, list(PERCENTILES.values())).astype(np.float64) for one in (prediction, reference))
    for name, row in _PERCENTILE_ROWS.items():
        result |= {name: p[row], f"{name}_bias": p[row] - r[row]}
    return result


def reference_indices(block: SeriesBlock, selection: Selection) -> dict[str, np.ndarray]:
    """Mean, standard deviation, percentiles and indices of a series itself, as maps."""
    yearly = by_year(block.sums, block.table.membership(selection), block.table.linked)
    weights = np.ones((1, len(selection.years)))
    totals = {name: value[0] for name, value in weighted_years(yearly, weights, selection.strata).items()}
    own = by_year(block.own, block.table.membership(selection), block.table.linked)
    sums = {name: value.sum(axis=0) for name, value in own.items()}
    result = {name: metrics.FROM_SUMS[name](sums) for name in ("mean", "std")}
    result |= {name: index_metrics.FROM_SUMS[name](totals) for name in block.indices.names}
    table = block.quantiles(selection)
    return result | {name: table[row].astype(np.float64) for name, row in _PERCENTILE_ROWS.items()}


def with_absolute(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The scores, and the absolute value of every bias: its area mean is the error of a typical place, not what cancels."""
    return {**scores, **{f"abs_{name}": np.abs(value) for name, value in scores.items() if name.endswith("bias")}}
