"""Learning curves of few-shot adaptation: scores of fields in memory, and what the grid of cells says together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from downscale.evaluate.context import Region
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.change import change_signal, compare_changes
from downscale.evaluate.metrics.indices import mean, percentile
from downscale.evaluate.scorecard import write_table
from downscale.evaluate.selection import TimeTable
from downscale.pairs.store import PairStore
from downscale.variables import lookup

SCORES = ("abs_bias", "w1", "abs_p99_bias", "std_ratio", "rmse", "change_captured")
"""Of each target: |bias|, Wasserstein-1 distance, |P99 error|, ratio of standard deviations, RMSE, captured share of the change."""
LABEL_FREE = ("zero_shot", "gcm_align", "adabn")
"""Methods that need no day of truth: their shots are 0."""
SCRATCH = "scratch"
FRESH = (SCRATCH, "ridge")
"""Methods that learn from the few years alone."""
ENOUGH, LAND_PERCENT = 0.9, 50.0
TABLE_COLUMNS = (
    "method", "shots", "cells", "error", "error_low", "error_high", *(f"{{target}}_{name}" for name in SCORES), "data_equivalence",
    "forgetting", "parameters", "seconds",
)  # fmt: skip
"""Of the table; a column with {target} stands for one of each target."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores emulations of one case on its test days.

    Attributes:
        truth: (time, target, y, x) working units; NaN where there is none.
        targets: names.
        table: the days.
        area: (y, x) weights, 0 outside the region.
    """

    truth: np.ndarray
    targets: Sequence[str]
    table: TimeTable
    area: np.ndarray

    @classmethod
    def of(cls, store: PairStore, group: str, year_starts: int, region: str = "all") -> Scorer:
        """For the test days of a pair group; cells count by their area, with region "land" those with at least half land."""
        pairs = store.group(group)
        index = pairs.split("test")
        table = TimeTable(pairs.days[index], pairs.calendar, year_starts)
        return cls(pairs.target(index), list(store.targets), table, Region.of(store, region, land_percent=LAND_PERCENT).area)

    def __call__(self, fields: np.ndarray) -> dict[str, dict[str, float]]:
        """Target -> score (see SCORES) of fields (time, target, y, x); change_captured is NaN with one test period."""
        return {name: self._of(name, fields[:, i], self.truth[:, i]) for i, name in enumerate(self.targets)}

    def _of(self, name: str, fields: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        both = np.isfinite(fields) & np.isfinite(truth)
        ours, theirs = np.where(both, fields, np.nan), np.where(both, truth, np.nan)
        maps = {
            "abs_bias": np.abs(metrics.bias(ours, theirs)),
            "w1": metrics.w1(ours, theirs),
            "abs_p99_bias": np.abs(percentile(ours, 0.99) - percentile(theirs, 0.99)),
            "std_ratio": metrics.std_ratio(ours, theirs),
        }
        scores = {key: self._mean(values) for key, values in maps.items()}
        scores["rmse"] = math.sqrt(self._mean(metrics.rmse(ours, theirs) ** 2))
        return {**scores, "change_captured": self._change(name, ours, theirs)}

    def _mean(self, values: np.ndarray) -> float:
        valid = np.isfinite(values) & (self.area > 0)
        return float(np.average(values[valid], weights=self.area[valid])) if valid.any() else math.nan

    def _change(self, name: str, fields: np.ndarray, truth: np.ndarray) -> float:
        if len(self.table.periods) < 2:
            return math.nan
        first, last = (self.table.stratum == number for number in (0, self.table.stratum.max()))
        ours, theirs = (change_signal(mean(series[last]), mean(series[first]), lookup(name)) for series in (fields, truth))
        return compare_changes(ours, theirs, self.area)["captured"]


def relative_error(scores: Mapping[str, Mapping[str, float]], start: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over targets of the Wasserstein-1 distance in units of the start's: below 1 is better than the start."""
    parts = [scores[name]["w1"] / start[name]["w1"] for name in scores if start[name]["w1"] > 0]
    return float(np.mean(parts)) if parts else math.nan


@dataclass(frozen=True)
class Summary:
    """What a grid says.

    Attributes:
        rows: of the table, one for each method and number of shots, see TABLE_COLUMNS.
        n90: method -> years after which it has 90 % of the gain; inf where it has not on this grid, NaN without gain.
        best: shots -> method with the lowest error.
        targets: names.
    """

    rows: list[dict[str, Any]]
    n90: dict[str, float]
    best: dict[int, str]
    targets: list[str]

    @property
    def columns(self) -> list[str]:
        """Of the table, for these targets."""
        plain = [[column.format(target=name) for name in self.targets] if "{" in column else [column] for column in TABLE_COLUMNS]
        return [column for some in plain for column in some]

    def curve(self, method: str) -> list[tuple[int, float, float, float]]:
        """(years, mean, lowest and highest error) of a method by years; an adapted run starts at zero-shot."""
        start = [(0, 1.0, 1.0, 1.0)] if method not in (*LABEL_FREE, *FRESH) else []
        return start + [(row["shots"], row["error"], row["error_low"], row["error_high"]) for row in self.rows if row["method"] == method]


def summarise(cells: Sequence[Mapping[str, Any]]) -> Summary:
    """Means over draws and seeds, and what follows from them.

    ``error`` is the relative error (see relative_error) against zero-shot: means over cells, lowest and highest. It rests on the
    distributions alone: where the GCM's weather has drifted from the RCM's, RMSE rewards a field that is too smooth, so RMSE stands
    beside the ratio of standard deviations and decides nothing.

    - n90: years after which a method has 90 % of the gain from zero-shot to the lowest error at the largest number of years of the
      grid; straight lines between the numbers of years.
    - data_equivalence: years that training from scratch needs for the same error, by straight lines; inf where more than the grid has.
    - forgetting: error on the source's pairs, after / before - 1 (relative error as above).

    Args:
        cells: as curve.run_grid returns them: method, shots, draw, seed, scores, source_scores, parameters, seconds.
    """
    start = next(cell for cell in cells if cell["method"] == "zero_shot")
    targets = list(start["scores"])
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["method"], cell["shots"]), []).append(cell)
    rows = [_row(method, shots, some, start) for (method, shots), some in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0]))]
    curves = {method: [(row["shots"], row["error"]) for row in rows if row["method"] == method] for method, _ in groups}
    for row in rows:
        row["data_equivalence"] = _years_for(curves.get(SCRATCH, []), row["error"])
    best = {shots: min((row for row in rows if row["shots"] == shots), key=_error)["method"] for shots in {row["shots"] for row in rows}}
    return Summary(rows, _n90(curves), dict(sorted(best.items())), targets)


def _error(row: Mapping[str, Any]) -> float:
    return float(row["error"]) if math.isfinite(row["error"]) else math.inf


def _row(method: str, shots: int, cells: Sequence[Mapping[str, Any]], start: Mapping[str, Any]) -> dict[str, Any]:
    errors = [relative_error(cell["scores"], start["scores"]) for cell in cells]
    row: dict[str, Any] = {"method": method, "shots": shots, "cells": len(cells)}
    row |= {"error": float(np.mean(errors)), "error_low": min(errors), "error_high": max(errors)}
    for target in start["scores"]:
        row |= {f"{target}_{name}": _mean(cell["scores"][target][name] for cell in cells) for name in SCORES}
    after = [relative_error(cell["source_scores"], start["source_scores"]) - 1.0 for cell in cells if cell.get("source_scores")]
    row["forgetting"] = _mean(after)
    row["parameters"] = max(int(cell["parameters"]) for cell in cells)
    return {**row, "seconds": _mean(cell["seconds"] for cell in cells)}


def _mean(values: Iterable[float]) -> float:
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _n90(curves: Mapping[str, list[tuple[int, float]]]) -> dict[str, float]:
    most = max(shots for curve in curves.values() for shots, _ in curve)
    if not most:
        return {}
    full = min(error for curve in curves.values() for shots, error in curve if shots == most)
    wanted = 1.0 - ENOUGH * (1.0 - full)
    adapted = {method: curve for method, curve in curves.items() if method not in LABEL_FREE}
    starts = {method: [] if method in FRESH else [(0, 1.0)] for method in adapted}
    return {method: _years_for([*starts[method], *curve], wanted) if full < 1.0 else math.nan for method, curve in adapted.items()}


def _years_for(curve: Sequence[tuple[int, float]], error: float) -> float:
    """Years at which a curve first comes down to an error, by straight lines between its points; inf: never, NaN: no curve."""
    points = sorted(curve)
    if not points or not math.isfinite(error):
        return math.nan
    if points[0][1] <= error:
        return float(points[0][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 <= error:
            return x0 + (x1 - x0) * (y0 - error) / (y0 - y1)
    return math.inf


def write_summary(folder: Path, summary: Summary, cells: Sequence[Mapping[str, Any]]) -> None:
    """table.csv (a row for each method and number of years) and cells.csv (a row for each cell, target and score) in a folder."""
    write_table(
        folder / "table.csv", [{**row, "n90": summary.n90.get(row["method"], "")} for row in summary.rows], [*summary.columns, "n90"]
    )
    keys = ("method", "shots", "draw", "seed")
    rows = [
        {**{key: cell[key] for key in keys}, "on": on, "target": target, "score": name, "value": value}
        for cell in cells
        for on, scores in (("target", cell["scores"]), ("source", cell.get("source_scores") or {}))
        for target, found in scores.items()
        for name, value in found.items()
    ]
    write_table(folder / "cells.csv", rows, [*keys, "on", "target", "score", "value"])


def screen(summary: Summary) -> list[str]:
    """The table as lines of equal columns."""
    targets, most = summary.targets, max(row["shots"] for row in summary.rows)
    head = ["years", "method", "error", *(f"{name} {what}" for name in targets for what in ("W1", "std", "RMSE", "change"))]
    head += ["= scratch y", "forgets", "weights", "s"]
    lines = [head]
    for row in summary.rows:
        shown = [str(row["shots"]), row["method"], f"{row['error']:.3f}"]
        for name in targets:
            shown += [_short(row[f"{name}_{what}"]) for what in ("w1", "std_ratio", "rmse", "change_captured")]
        shown += [_short(row["data_equivalence"], beyond=f"> {most}"), _short(row["forgetting"], percent=True)]
        lines.append([*shown, str(row["parameters"]), f"{row['seconds']:.0f}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines]


def _short(value: float, *, beyond: str = "", percent: bool = False) -> str:
    if math.isinf(value):
        return beyond or "inf"
    return "-" if math.isnan(value) else f"{value:+.1%}" if percent else f"{value:.3g}"
