"""Error against warming: does an emulator hold where the climate is warmer than all it has learned from?

The warming of a year is the domain mean of a case's own predictor of air temperature (ta850, or the level nearest to it, or tas) minus
the same in the first contiguous training period of the run. It is an absolute distance: a GCM that is warmer than the training GCM in the
same decade starts with a warming above zero, because that is what the network sees. Years, not days, are the units: a hot day is weather.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from downscale.evaluate.context import Context, cell_areas
from downscale.evaluate.predictions import Prediction, prediction_days
from downscale.evaluate.selection import PERIOD_GAP_YEARS
from downscale.evaluate.transfer.large_scale import YearErrors, large_scale
from downscale.evaluate.transfer.shift import area_mean
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

log = logging.getLogger(__name__)
TABLE, SLOPE_TABLE, KEPT = "extrapolation", "extrapolation_slope", "warming"
COLUMNS = (
    "run",
    "case",
    "variable",
    "bin",
    "warming_low",
    "warming_high",
    "warming",
    "inside_training",
    "n_days",
    "n_years",
    "bias",
    "rmse",
    "unit",
    "channel",
    "training_low",
    "training_high",
)
SLOPE_COLUMNS = ("run", "case", "variable", "slope", "lower", "upper", "unit", "n_years", "note")
READ_DAYS = 512
MIN_YEARS = 3


@dataclass(frozen=True)
class Warming:
    """Warming of a case as seen by a run.

    Attributes:
        years: year -> warming (K) and number of days.
        training: lowest and highest warming of a training year, widened by the standard deviation of a year in its period.
    """

    years: Mapping[int, tuple[float, int]]
    training: tuple[float, float]

    def inside(self, value: float) -> bool:
        """Whether training has seen it."""
        return self.training[0] <= value <= self.training[1]

    @property
    def outside(self) -> float:
        """Share of days in years outside the training range; NaN without years."""
        days = sum(n for _, n in self.years.values())
        return sum(n for value, n in self.years.values() if not self.inside(value)) / days if days else float("nan")


def diagnose(context: Context) -> None:
    """Add extrapolation.csv and extrapolation_slope.csv; cases without truth have bins, and NaN for the error."""
    context.extend(TABLE, COLUMNS, [])
    context.extend(SLOPE_TABLE, SLOPE_COLUMNS, [])
    channel = temperature_channel(context.store.channels)
    if channel is None:
        log.info("no extrapolation curve: no predictor is an air temperature")
        return
    found, errors = warmings(context, channel), large_scale(context).errors
    context.kept[KEPT] = found
    for one in context.predictions:
        warming = found.get((one.run, one.case))
        for variable in one.variables if warming else ():
            assert warming is not None
            mine, key = errors.get((one.run, one.case, variable)), {"run": one.run, "case": one.case, "variable": variable}
            rows = bins(warming, mine, context.options["warming_bin"])
            unit = lookup(variable).units
            same = {"unit": unit, "channel": channel, "training_low": warming.training[0], "training_high": warming.training[1]}
            context.extend(TABLE, COLUMNS, [{**key, **row, **same} for row in rows])
            if mine is not None:
                context.extend(SLOPE_TABLE, SLOPE_COLUMNS, [{**key, **slope(warming, mine), "unit": f"{unit} K-1"}])


def temperature_channel(channels: Sequence[str]) -> str | None:
    """ta850, or the ta level nearest to it, or tas; None without either."""
    levels = {name: int(found[1]) for name in channels if (found := re.fullmatch(r"ta(\d+)", name))}
    if levels:
        return min(levels, key=lambda name: abs(levels[name] - 850))
    return "tas" if "tas" in channels else None


def warmings(context: Context, channel: str) -> dict[tuple[str, str], Warming]:
    """(run, case) -> warming; runs whose training pairs are not in the store are left out."""
    yearly: dict[tuple[str, str, str], dict[int, tuple[float, int]]] = {}
    result: dict[tuple[str, str], Warming] = {}
    for one in context.predictions:
        learned = [pair.partition("/") for pair in one.trained_on]
        known = [(name, kind) for name, _, kind in learned if name in context.store.groups and kind in context.store.groups[name].kinds]
        training = [_means(context, name, kind, "train", channel, yearly) for name, kind in known]
        training = [means for means in training if means]
        if not training:
            continue
        group = context.store.groups[one.group]
        case = _of_days(context, group, one, channel, yearly)
        zero = _first_period(training[0])
        values = [value - zero for means in training for value, _ in means.values()]
        spread = max(_spread(means) for means in training)
        years = {year: (value - zero, n) for year, (value, n) in case.items()}
        result[one.run, one.case] = Warming(years, (min(values) - spread, max(values) + spread))
    return result


def _spread(means: Mapping[int, tuple[float, int]]) -> float:
    """Standard deviation of yearly values about the mean of their contiguous period; 0 without two years in any."""
    years = np.array(sorted(means))
    parts = np.split(years, np.flatnonzero(np.diff(years) > PERIOD_GAP_YEARS) + 1)
    away = [means[year][0] - np.mean([means[other][0] for other in part]) for part in parts if len(part) > 1 for year in part]
    freedom = len(away) - sum(len(part) > 1 for part in parts)
    return float(np.sqrt(np.sum(np.square(away)) / freedom)) if freedom > 0 else 0.0


def _of_days(
    context: Context, group: PairGroup, one: Prediction, channel: str, yearly: dict[tuple[str, str, str], dict[int, tuple[float, int]]]
) -> dict[int, tuple[float, int]]:
    if group.has_truth and len(group.split("test")):
        return _means(context, one.group, one.kind, "test", channel, yearly)
    days, _ = prediction_days(one)
    return yearly_means(context, group, one.kind, np.flatnonzero(np.isin(group.days, days)), channel)


def _means(
    context: Context, name: str, kind: str, part: str, channel: str, yearly: dict[tuple[str, str, str], dict[int, tuple[float, int]]]
) -> dict[int, tuple[float, int]]:
    if (name, kind, part) not in yearly:
        group = context.store.groups[name]
        yearly[name, kind, part] = yearly_means(context, group, kind, group.split(part), channel)
    return yearly[name, kind, part]


def yearly_means(context: Context, group: PairGroup, kind: str, index: np.ndarray, channel: str) -> dict[int, tuple[float, int]]:
    """year -> domain mean of a channel over the year's days, and their number."""
    position, area = context.store.channels.index(channel), cell_areas(context.store.coarse)
    daily = [
        area_mean(field, area)
        for start in range(0, len(index), READ_DAYS)
        for field in group.predictors(kind, index[start : start + READ_DAYS])[:, position]
    ]
    values, year = np.array(daily), context.table(group, index).year
    finite = np.isfinite(values)
    return {
        int(one): (float(values[inside].mean()), int(inside.sum())) for one in np.unique(year) if (inside := finite & (year == one)).any()
    }


def _first_period(means: Mapping[int, tuple[float, int]]) -> float:
    """Mean over the days of the first contiguous run of years."""
    years = np.array(sorted(means))
    last = np.flatnonzero(np.diff(years) > PERIOD_GAP_YEARS)
    first = years[: last[0] + 1] if len(last) else years
    return float(np.average([means[year][0] for year in first], weights=[means[year][1] for year in first]))


def bins(warming: Warming, errors: YearErrors | None, width: float) -> list[dict[str, Any]]:
    """A row per warming class of ``width`` K that has years: bias and RMSE over its days and the region, NaN without truth.

    ``inside_training`` is 1 where the mean warming of the class lies within that of the training years.
    """
    classes: dict[int, list[int]] = {}
    for year, (value, _) in warming.years.items():
        classes.setdefault(int(np.floor(value / width)), []).append(year)
    rows = []
    for number, (low, years) in enumerate(sorted(classes.items())):
        days = [warming.years[year][1] for year in years]
        mean = float(np.average([warming.years[year][0] for year in years], weights=days))
        totals = sum((errors.totals[year] for year in years if year in errors.totals), np.zeros(4)) if errors else np.zeros(4)
        known = totals[1] > 0
        rows.append(
            {
                "bin": number,
                "warming_low": low * width,
                "warming_high": (low + 1) * width,
                "warming": mean,
                "inside_training": int(warming.inside(mean)),
                "n_days": int(totals[0]) if errors else sum(days),
                "n_years": len(years),
                "bias": totals[2] / totals[1] if known else float("nan"),
                "rmse": float(np.sqrt(totals[3] / totals[1])) if known else float("nan"),
            }
        )
    return rows


def slope(warming: Warming, errors: YearErrors) -> dict[str, Any]:
    """Regression of the yearly bias on the warming, with the 95 % t interval of the slope (Wilks 2011, section 7.2)."""
    years = [year for year in warming.years if year in errors.totals and errors.totals[year][1] > 0]
    x = np.array([warming.years[year][0] for year in years])
    y = np.array([errors.totals[year][2] / errors.totals[year][1] for year in years])
    nan = float("nan")
    if len(years) < 2 or np.ptp(x) == 0:
        return {"slope": nan, "lower": nan, "upper": nan, "n_years": len(years), "note": "fewer than two years of different warming"}
    fit = stats.linregress(x, y)
    if len(years) < MIN_YEARS:
        return {"slope": float(fit.slope), "lower": nan, "upper": nan, "n_years": len(years), "note": "no interval: two years"}
    half = float(stats.t.ppf(0.975, len(years) - 2)) * float(fit.stderr)
    return {"slope": float(fit.slope), "lower": fit.slope - half, "upper": fit.slope + half, "n_years": len(years), "note": ""}
