"""Is one emulator better than another? Differences of their losses on the same days, years as the independent cases.

The idea of Diebold and Mariano (1995, doi 10.1080/07350015.1995.10524599): test the mean of the loss difference, not two separate scores.
Days are not independent, years nearly are: Student's t over years, with the standard error of the interval of the difference (see
metrics.bootstrap): from resampled years with ten or more, from the jackknife with fewer (for a mean that is the correction of Harvey et
al. 1997, doi 10.1016/S0169-2070(96)00719-4, for one step ahead). With fewer than three years there is no test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from downscale.evaluate.metrics.bootstrap import Interval, Resampling, no_interval, resampling, why_not
from downscale.evaluate.metrics.fss import by_year
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable

COLUMNS = (
    *("case", "variable", "metric", "season", "run", "other", "difference", "lower", "upper", "p_value", "test", "n_years"),
    "p_adjusted",
)
METRICS = ("mse", "mae", "abs_bias")
SAMPLE_CELLS = 512


@dataclass(frozen=True)
class Comparison:
    """A difference with its interval and p-value; NaN where the years do not allow them."""

    difference: float
    interval: Interval
    p_value: float


def compare(ours: np.ndarray, theirs: np.ndarray, scheme: Resampling | None, reason: str = "") -> Comparison:
    """Test the difference of two statistics that were drawn with the same resampled years.

    Args:
        ours, theirs: (1 + resamples,) of a loss; the first is the estimate.
        scheme: of the draws; None: no test.
        reason: why there is none.
    """
    draws = ours - theirs
    difference = float(draws[0])
    if scheme is None:
        return Comparison(difference, no_interval(reason), float("nan"))
    interval = scheme.interval(draws)
    return Comparison(difference, interval, scheme.p_value(interval))


@dataclass(eq=False)
class Losses:
    """Losses of the runs of one group on the days and cells that all runs of a case have, filled block by block.

    Attributes:
        table: test days.
        area: (y, x) weights, zero outside the region.
        daily: (kind, variable, run) -> (2, time): area sums of the squared and the absolute error.
        present: (kind, variable) -> (time,) area with values.
        errors: (kind, variable, run) -> (segment, cell) sums of the error at sampled cells.
        numbers: (kind, variable) -> (segment, cell) days of them.
    """

    table: TimeTable
    area: np.ndarray
    daily: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    present: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    errors: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    numbers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inside = np.flatnonzero(self.area.ravel() > 0)
        self._cells = inside[np.unique(np.linspace(0, len(inside) - 1, min(SAMPLE_CELLS, len(inside))).astype(np.int64))]
        lengths = [segment.stop - segment.start for segment in self.table.segments]
        self._segment = np.repeat(np.arange(len(lengths)), lengths)

    def add(self, days: slice, truth: Mapping[str, np.ndarray], fields: Mapping[tuple[str, str, str], np.ndarray]) -> None:
        """Add a block of days: truth by variable, predictions by (run, kind, variable), each (time, y, x)."""
        for kind, name in {(kind, name) for _, kind, name in fields}:
            errors = {run: values - truth[name] for (run, other, variable), values in fields.items() if (other, variable) == (kind, name)}
            valid = np.logical_and.reduce([np.isfinite(error) for error in errors.values()])
            self._held(self.present, (kind, name))[days] = np.einsum("tyx,yx->t", valid, self.area)
            self._add_sampled(self.numbers, (kind, name), days, valid)
            for run, error in errors.items():
                error = np.where(valid, error, 0.0).astype(np.float64)
                parts = [np.einsum("tyx,yx->t", part, self.area) for part in (np.square(error), np.abs(error))]
                self._held(self.daily, (kind, name, run), 2)[:, days] = parts
                self._add_sampled(self.errors, (kind, name, run), days, error)

    def _held(self, into: dict[Any, np.ndarray], key: tuple[str, ...], parts: int = 0) -> np.ndarray:
        shape = (parts, len(self.table.days)) if parts else (len(self.table.days),)
        return into.setdefault(key, np.zeros(shape))

    def _add_sampled(self, into: dict[Any, np.ndarray], key: tuple[str, ...], days: slice, values: np.ndarray) -> None:
        """Add the sampled cells of some days (time, y, x) to the sums of their segments."""
        segment = self._segment[days]
        starts = np.flatnonzero(np.diff(segment, prepend=-1))
        sums = np.add.reduceat(values.reshape(len(values), -1)[:, self._cells].astype(np.float64), starts, axis=0)
        into.setdefault(key, np.zeros((len(self.table.segments), len(self._cells))))[segment[starts]] += sums

    def rows(self, group: str) -> list[dict[str, Any]]:
        """A row per case, variable, metric, season and pair of runs; p_adjusted controls the false discovery rate over the pairs."""
        result = []
        for kind, name in sorted(self.present):
            for selection in self.table.selections:
                if selection.period == ALL_PERIODS:
                    result += self._selected(group, kind, name, selection)
        return result

    def _selected(self, group: str, kind: str, name: str, selection: Selection) -> list[dict[str, Any]]:
        reason = why_not(selection.strata)
        scheme = None if reason else resampling(selection.strata)
        weights = np.ones((1, len(selection.years))) if scheme is None else scheme.weights
        draws = self._draws(kind, name, selection, weights)
        rows = []
        for metric in METRICS:
            compared = {
                (run, other): compare(draws[run, metric], draws[other, metric], scheme, reason) for run, other in self._pairs(kind, name)
            }
            adjusted = adjust([found.p_value for found in compared.values()])
            for ((run, other), found), p_adjusted in zip(compared.items(), adjusted, strict=True):
                place = (f"{group}/{kind}", name, metric, selection.season, run, other)
                numbers = (found.difference, found.interval.lower, found.interval.upper, found.p_value)
                row = (*place, *numbers, found.interval.method, len(selection.years), p_adjusted)
                rows.append(dict(zip(COLUMNS, row, strict=True)))
        return rows

    def _pairs(self, kind: str, name: str) -> Iterator[tuple[str, str]]:
        return combinations(sorted(run for other, variable, run in self.daily if (other, variable) == (kind, name)), 2)

    def _draws(self, kind: str, name: str, selection: Selection, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        members = self.table.membership(selection).astype(np.float64)
        present = weights @ by_year(self.present[kind, name], self.table, selection)
        days = weights @ (members @ self.numbers[kind, name])
        area = self.area.ravel()[self._cells] * (days > 0)
        result = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for other, variable, run in self.daily:
                if (other, variable) != (kind, name):
                    continue
                yearly = by_year(self.daily[kind, name, run], self.table, selection)
                result[run, "mse"], result[run, "mae"] = ((weights @ part) / present for part in yearly)
                bias = np.abs(weights @ (members @ self.errors[kind, name, run])) / np.maximum(days, 1e-9)
                result[run, "abs_bias"] = (bias * area).sum(axis=1) / area.sum(axis=1)
        return result


def adjust(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests adjusted for the false discovery rate (Benjamini and Hochberg 1995); NaN stays NaN."""
    values = np.array(p_values, dtype=np.float64)
    known = np.isfinite(values)
    if known.any():
        values[known] = stats.false_discovery_control(values[known])
    return [float(value) for value in values]
