"""Means over days of a quantity that each day and cell has, filled in any order, for every season and period and its interval."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from downscale.evaluate.metrics.bootstrap import Interval, no_interval, resampling, why_not
from downscale.evaluate.selection import Selection, TimeTable


@dataclass(frozen=True, eq=False)
class Bins:
    """Segments of a day axis that belong to the same selections: every selection is a union of bins.

    Attributes:
        table: the day axis.
        of_day: (time,) number of the segment of each day.
        of_segment: (segment,) number of its bin.
        count: of bins.
    """

    table: TimeTable
    of_day: np.ndarray
    of_segment: np.ndarray
    count: int

    @classmethod
    def of(cls, table: TimeTable) -> Bins:
        """The bins of a day axis."""
        belongs = np.stack([table.membership(selection).any(axis=0) for selection in table.selections])
        distinct, number = np.unique(belongs, axis=1, return_inverse=True)
        lengths = [segment.stop - segment.start for segment in table.segments]
        return cls(table, np.repeat(np.arange(len(lengths)), lengths), number.ravel(), distinct.shape[1])

    def chosen(self, selection: Selection) -> np.ndarray:
        """Numbers of the bins of a selection."""
        return np.unique(self.of_segment[self.table.membership(selection).any(axis=0)])

    def by_year(self, segments: np.ndarray, selection: Selection) -> np.ndarray:
        """Sums of each year of a selection: (segment, ...) to (year, ...)."""
        return np.tensordot(self.table.membership(selection).astype(np.float64), segments, axes=1)


@dataclass(eq=False)
class DayMeans:
    """One quantity.

    Attributes:
        bins: of the day axis.
        area: (cell,) weights, zero outside the region.
        sums, numbers: (bin, cell) of values that are there.
        segments: (segment, 2) area-weighted sums of the values, and the area with values.
    """

    bins: Bins
    area: np.ndarray
    sums: np.ndarray = field(init=False)
    numbers: np.ndarray = field(init=False)
    segments: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.bins.count, len(self.area)))
        self.numbers = np.zeros((self.bins.count, len(self.area)))
        self.segments = np.zeros((len(self.bins.of_segment), 2))

    def add(self, segment: int, values: np.ndarray, cells: slice = slice(None)) -> None:
        """Add days of one segment: (time, cell), NaN missing; ``cells`` are those that the values are of."""
        valid = np.isfinite(values)
        total, number = np.where(valid, values, 0.0).sum(axis=0, dtype=np.float64), valid.sum(axis=0)
        place = self.bins.of_segment[segment]
        self.sums[place, cells] += total
        self.numbers[place, cells] += number
        self.segments[segment] += total @ self.area[cells], number @ self.area[cells]

    def map(self, selection: Selection) -> np.ndarray:
        """(cell,) mean over the days of a selection; NaN without a day."""
        chosen = self.bins.chosen(selection)
        number = self.numbers[chosen].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(number > 0, self.sums[chosen].sum(axis=0) / number, np.nan)

    def mean(self, selection: Selection) -> tuple[float, int]:
        """Area mean of the map, and its number of cells; NaN without a cell."""
        values = self.map(selection)
        valid = np.isfinite(values) & (self.area > 0)
        return (float(np.average(values[valid], weights=self.area[valid])) if valid.any() else float("nan")), int(valid.sum())

    def draws(self, selection: Selection, weights: np.ndarray) -> np.ndarray:
        """(resample,) mean over cells and days together under weights (resample, year)."""
        return ratio(weights @ self.bins.by_year(self.segments, selection))


def ratio(sums: np.ndarray) -> np.ndarray:
    """(..., 2) sums of values and of weights to means; NaN without weight."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def weights_of(selection: Selection) -> np.ndarray:
    """(1 + resamples, year) weights; the plain ones alone where there is no interval."""
    return np.ones((1, len(selection.years))) if why_not(selection.strata) else resampling(selection.strata).weights


def interval_of(selection: Selection, draws: np.ndarray, value: float, *, non_negative: bool = False) -> Interval:
    """The interval of a statistic drawn with weights_of."""
    reason = why_not(selection.strata)
    return no_interval(reason) if reason else resampling(selection.strata).interval(draws, estimate=value, non_negative=non_negative)
