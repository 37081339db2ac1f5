"""Scores, distances and change signals of predictions by weather regime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from downscale.evaluate.context import Context
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.weather.distances import Distances, distances_of
from downscale.evaluate.weather.error_collector import ErrorDays
from downscale.evaluate.weather.error_days import error_days
from downscale.evaluate.weather.regimes import NEW
from downscale.variables import lookup

SCORE_COLUMNS = ("run", "case", "variable", "regime", "metric", "value", "unit", "n_days")
SKILL_AGAINST = ("ridge", "climatology")
Regimes = Mapping[str, Mapping[int, int]]
"""Case -> day -> regime."""


def regime_scores(context: Context, regimes: Regimes, number: int) -> Iterator[dict[str, Any]]:
    """Rows for every prediction and variable on a case whose days have regimes; see docs/reference/metrics.md for the metrics.

    Args:
        context: the evaluation.
        regimes: of each case.
        number: of regimes.
    """
    means = error_days(context)
    baselines = {(one.case, one.model): one for one in context.predictions if one.model in SKILL_AGAINST and one.role == "baseline"}
    for one in context.predictions:
        if one.case not in regimes:
            continue
        distances = distances_of(context, one)
        for name in one.variables:
            mine = means[one.run, one.case, name]
            others = {
                model: means[other.run, other.case, name]
                for model in SKILL_AGAINST
                if (other := baselines.get((one.case, model))) is not None and other.run != one.run and name in other.variables
            }
            regime = np.array([regimes[one.case].get(day, -1) for day in mine.days.tolist()])
            for which in range(NEW, number + 1):
                inside = regime == which
                if inside.any():
                    for metric, (value, unit) in _values(context, mine, others, inside, name).items():
                        yield _row(one, name, which, metric, value, unit, int(inside.sum()))
                    if distances is not None:
                        far = _far(distances, mine.days[inside])
                        yield _row(one, name, which, "ood_share", far, "1", int(inside.sum()))


def _row(one: Prediction, name: str, which: int, metric: str, value: float, unit: str, days: int) -> dict[str, Any]:
    return {
        "run": one.run, "case": one.case, "variable": name, "regime": which, "metric": metric, "value": value, "unit": unit, "n_days": days
    }  # fmt: skip


def _values(
    context: Context, mine: ErrorDays, others: Mapping[str, ErrorDays], inside: np.ndarray, name: str
) -> dict[str, tuple[float, str]]:
    unit = lookup(name).units
    found: dict[str, tuple[float, str]] = {}
    scored = inside & mine.scored
    if scored.any():
        squared = mine.squared_error
        found["rmse"] = float(np.sqrt(squared[scored].mean())), unit
        found["bias"] = float(mine.error[scored].mean()), unit
        found["error_share"] = float(squared[scored].sum() / squared[mine.scored].sum()) if squared[mine.scored].sum() > 0 else np.nan, "1"
        for model, other in others.items():
            both = scored & other.scored
            base = other.squared_error[both].sum()
            found[f"skill_vs_{model}"] = float(1 - squared[both].sum() / base) if base > 0 else np.nan, "1"
    table = TimeTable(mine.days, mine.calendar, context.year_starts)
    if len(table.periods) > 1:
        change, reference = (_change(values, inside, table.stratum) for values in (mine.prediction, mine.truth))
        found["change"] = change, unit
        if scored.any():
            found["change_reference"] = reference, unit
            found["change_bias"] = change - reference, unit
    return found


def _change(values: np.ndarray, inside: np.ndarray, stratum: np.ndarray) -> float:
    """Mean of the last minus mean of the first period, of the days inside; NaN where one of them has none."""
    known = inside & np.isfinite(values)
    first, last = known & (stratum == stratum.min()), known & (stratum == stratum.max())
    return float(values[last].mean() - values[first].mean()) if first.any() and last.any() else np.nan


def _far(distances: Distances, days: np.ndarray) -> float:
    """Share of some days that are flagged, of those that have a distance."""
    chosen = np.isin(distances.days, days) & distances.known("pca")
    return float(distances.any_flagged[chosen].mean()) if chosen.any() else np.nan
