"""Fractions skill score: is rain in the right neighbourhood? (Roberts and Lean 2008, doi 10.1175/2007MWR2123.1)

For a threshold and a window of n x n cells, with f and o the shares of cells at or above the threshold in a window of the prediction and
of the reference: FSS = 1 - sum (f - o)^2 / sum (f^2 + o^2), over days and windows. 1 is perfect, 0 no overlap; from
0.5 + (observed share of events) / 2 on a scale is called useful. Windows lie wholly in the domain; one that holds a missing cell does
not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from downscale.evaluate.metrics.bootstrap import Resampling, no_interval, resampling, why_not
from downscale.evaluate.scorecard import TRUTH, Score
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.variables import lookup

NO_EVENT = "none: no day reaches the threshold"
TOO_LARGE = "none: no whole window in the region"


def fss(prediction: np.ndarray, reference: np.ndarray, threshold: float, cells: int, area: np.ndarray | None = None) -> float:
    """FSS of fields (time, y, x), NaN missing.

    Args:
        prediction, reference: in the unit of the threshold.
        threshold: an event is at or above it.
        cells: odd side of the window.
        area: (y, x) weight of the window around each cell; default: equal.

    Returns:
        0 to 1; NaN without an event or a whole window.
    """
    area = np.ones(reference.shape[1:]) if area is None else area
    valid = np.isfinite(prediction) & np.isfinite(reference)
    error, most, _ = fss_parts(counts(prediction, threshold, cells), counts(reference, threshold, cells), cells, area, valid)
    return float(1.0 - error.sum() / most.sum()) if most.sum() > 0 else float("nan")


def counts(values: np.ndarray, threshold: float, cells: int) -> np.ndarray:
    """Cells at or above a threshold in every whole window: (time, y - cells + 1, x - cells + 1) integers."""
    with np.errstate(invalid="ignore"):
        return _box(values >= threshold, cells)


def _box(events: np.ndarray, cells: int) -> np.ndarray:
    if cells > min(events.shape[1:]):
        return np.zeros((len(events), 0, 0), np.int16)
    number = events.astype(np.int16 if cells <= 181 else np.int32)
    return np.moveaxis(_neighbours(np.moveaxis(_neighbours(number, cells), 1, 2), cells), 1, 2)


def _neighbours(values: np.ndarray, cells: int) -> np.ndarray:
    """Sums of neighbours along the second axis, put together from runs of 1, 2, 4, 8 ..."""
    final, run, length, start = values.shape[1] - cells + 1, values, 1, 0
    result = np.zeros_like(values[:, :final])
    while cells:
        if cells & 1:
            result += run[:, start : start + final]
            start += length
        cells >>= 1
        if cells:
            run, length = run[:, :-length] + run[:, length:], 2 * length
    return result


def fss_parts(
    prediction: np.ndarray, reference: np.ndarray, cells: int, area: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Weighted sums over windows of (f - o)^2 and of f^2 + o^2 (time,), and the number of windows in the region.

    Args:
        prediction, reference: see counts.
        cells: odd side of the window.
        area: (y, x) weights, zero outside the region; a window has the weight of its centre.
        valid: (time, y, x) cells that both have.
    """
    half = cells // 2
    weight = area[half : area.shape[0] - half, half : area.shape[1] - half]
    if not prediction.size or not (weight > 0).any():
        return np.zeros(len(valid)), np.zeros(len(valid)), 0
    p, r = prediction.astype(np.float64), reference.astype(np.float64)
    weights = np.broadcast_to(weight, p.shape) if valid.all() else weight * (_box(~valid, cells) == 0)
    squares, other, product = (_weighted(one, two, weights) for one, two in ((p, p), (r, r), (p, r)))
    most = squares + other
    return np.maximum(most - 2.0 * product, 0.0) / cells**4, most / cells**4, int((weight > 0).sum())


def _weighted(one: np.ndarray, two: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("tyx,tyx->t", one * weights, two))


@dataclass(eq=False)
class Fractions:
    """Daily parts of the FSS of one group's precipitation, filled block by block.

    Attributes:
        table: test days.
        area: (y, x) weights, zero outside the region.
        thresholds: in working units; cells: sides of windows.
        parts: (run, kind, variable, threshold, cells) -> (2, time): error and most.
        events: (variable, threshold) -> (2, time): area with an event and area with a value, of the truth.
        windows: cells -> number of windows.
    """

    table: TimeTable
    area: np.ndarray
    thresholds: Sequence[float]
    cells: Sequence[int]
    parts: dict[tuple[str, str, str, float, int], np.ndarray] = field(default_factory=dict)
    events: dict[tuple[str, float], np.ndarray] = field(default_factory=dict)
    windows: dict[int, int] = field(default_factory=dict)

    def add(self, days: slice, truth: Mapping[str, np.ndarray], fields: Mapping[tuple[str, str, str], np.ndarray]) -> None:
        """Add a block of days: truth by variable, predictions by (run, kind, variable), each (time, y, x)."""
        for name, reference in truth.items():
            if lookup(name).standard_name != "precipitation_flux":
                continue
            mine = {key: (values, np.isfinite(values) & np.isfinite(reference)) for key, values in fields.items() if key[2] == name}
            for threshold in self.thresholds:
                self._add_events(days, name, reference, threshold)
                for cells in self.cells:
                    expected = counts(reference, threshold, cells)
                    for key, (values, valid) in mine.items():
                        found = counts(values, threshold, cells)
                        error, most, self.windows[cells] = fss_parts(found, expected, cells, self.area, valid)
                        self._held(self.parts, (*key, threshold, cells))[:, days] = error, most

    def _add_events(self, days: slice, name: str, reference: np.ndarray, threshold: float) -> None:
        with np.errstate(invalid="ignore"):
            shares = [np.einsum("tyx,yx->t", chosen, self.area) for chosen in (reference >= threshold, np.isfinite(reference))]
        self._held(self.events, (name, threshold))[:, days] = shares

    def _held(self, into: dict[Any, np.ndarray], key: tuple[Any, ...]) -> np.ndarray:
        return into.setdefault(key, np.zeros((2, len(self.table.days))))

    def rows(self, group: str, region: str) -> list[Score]:
        """Rows of every season: fss_5mm_3 of the predictions, fss_5mm_useful of the truth."""
        result = []
        for selection in self.table.selections:
            if selection.period == ALL_PERIODS:
                scheme = None if why_not(selection.strata) else resampling(selection.strata)
                result += [self._row(key, (group, region), selection, scheme) for key in self.parts]
                result += [self._useful(key, group, region, selection) for key in self.events]
        return result

    def _row(self, key: tuple[str, str, str, float, int], where: tuple[str, str], selection: Selection, scheme: Resampling | None) -> Score:
        run, kind, name, threshold, cells = key
        yearly = by_year(self.parts[key], self.table, selection)
        error, most = yearly.sum(axis=1)
        value = 1.0 - error / most if most > 0 else float("nan")
        interval = no_interval(why_not(selection.strata))
        if most > 0 and scheme is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                draws = 1.0 - (scheme.weights @ yearly[0]) / (scheme.weights @ yearly[1])
            interval = scheme.interval(draws, estimate=value)
        reason = TOO_LARGE if not self.windows[cells] else (NO_EVENT if not most > 0 else interval.method)
        place = (run, f"{where[0]}/{kind}", name, f"fss_{threshold:g}mm_{cells}", where[1], selection.season, ALL_PERIODS)
        sizes = (len(selection.rows), len(selection.years), self.windows[cells])
        return Score(*place, value, interval.lower, interval.upper, "1", *sizes, reason)

    def _useful(self, key: tuple[str, float], group: str, region: str, selection: Selection) -> Score:
        name, threshold = key
        events, present = by_year(self.events[key], self.table, selection).sum(axis=1)
        value = 0.5 + events / present / 2 if present > 0 else float("nan")
        place = (TRUTH, f"{group}/{TRUTH}", name, f"fss_{threshold:g}mm_useful", region, selection.season, ALL_PERIODS)
        sizes = (len(selection.rows), len(selection.years), int((self.area > 0).sum()))
        return Score(*place, value, np.nan, np.nan, "1", *sizes, "none: a description, not a score")


def by_year(daily: np.ndarray, table: TimeTable, selection: Selection) -> np.ndarray:
    """Sums over the days of each year of a selection: (..., time) to (..., year)."""
    starts = [segment.start for segment in table.segments]
    return np.add.reduceat(daily, starts, axis=-1) @ table.membership(selection).T.astype(np.float64)
