"""Return levels of the highest day of a year, of each case and pooled over an emulated ensemble.

Emulated GCMs of one period are pooled at each cell when a k-sample Anderson-Darling test on the area means of their maxima does not part
them; when it does, their maxima are first divided by (precipitation) or taken relative to (others) each series' own mean maximum, the index
flood (Hosking and Wallis 1997, doi 10.1017/CBO9780511529443); when they still differ, there is no pooled level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from downscale.evaluate.climate import context_case
from downscale.evaluate.context import Context
from downscale.evaluate.daily import bounded
from downscale.evaluate.members.block_maxima import Blocks, has_extremes, maxima, spread_cells
from downscale.evaluate.metrics.bootstrap import COVERAGE
from downscale.evaluate.metrics.gev import MIN_BLOCKS, REACH, fit_gev, same_distribution
from downscale.evaluate.predictions import Prediction, PredictionReader, count_members, prediction_days
from downscale.evaluate.scorecard import TRUTH
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

COLUMNS = (
    *("variable", "scope", "run", "season", "period", "return_years", "value", "lower", "upper", "unit", "n_years", "n_series", "method"),
    "p_same",
)
POOLED = {"imperfect": "pooled", "perfect": "pooled perfect"}
SIGNIFICANT = 0.05
FIRST_SCENARIO_YEAR = 2015
RESAMPLES = 300
SAMPLE_CELLS = 128
BATCH = 25
PLAIN = "GEV by L-moments; t interval from resampled years"
INDEXED = "GEV by L-moments of maxima relative to their mean; t interval from resampled years"


@dataclass(frozen=True, eq=False)
class Series:
    """Block maxima of one case.

    Attributes:
        run, case, variable, season: whose.
        kind: "perfect", "imperfect" or "truth".
        windows: (year,) label of each year's window.
        values: (member, year, cell), working units.
    """

    run: str
    case: str
    variable: str
    season: str
    kind: str
    windows: np.ndarray
    values: np.ndarray

    def inside(self, window: str) -> np.ndarray:
        """(member, year, cell) of a window."""
        return self.values[:, self.windows == window]


def diagnose(context: Context) -> None:
    """Table return_levels: every case, the truth of it, and the pooled emulations of each run."""
    cells = spread_cells(context.region.area)
    area, years = context.region.area.ravel()[cells], list(context.options["return_years"])
    found = list(_all_series(context, cells))
    rows = []
    for key in sorted({(one.run, one.case, one.variable) for one in found}):
        (one,) = (series for series in found if (series.run, series.case, series.variable) == key)
        rows += [row for window in dict.fromkeys(one.windows) for row in _rows([one], one.case, window, area, years)]
    for run, variable, kind in sorted({(one.run, one.variable, one.kind) for one in found}):
        alike = [one for one in found if (one.run, one.variable, one.kind) == (run, variable, kind)]
        for season, window in sorted({(one.season, label) for one in alike for label in one.windows}):
            together = [one for one in alike if one.season == season and window in one.windows]
            for scenario, some in _by_scenario(context, together, window).items():
                if len(some) > 1:
                    rows += _rows(some, f"{POOLED.get(kind, 'pooled')} {scenario}".strip(), window, area, years)
    context.extend("return_levels", COLUMNS, rows)


def _by_scenario(context: Context, together: Sequence[Series], window: str) -> dict[str, list[Series]]:
    """Series of one scenario each, as the facets of their sources say; all together in windows that end before the scenarios part."""
    sources = context.sources
    found: dict[str, list[Series]] = {}
    for one in together:
        group = one.case.partition("/")[0]
        facets = {**sources.facets.get(group, {}), **sources.facets.get(sources.drivers.get(group) or "", {})}
        stated = facets.get("experiment_id") or facets.get("driving_experiment_id") or ""
        found.setdefault(stated if int(window[-4:]) >= FIRST_SCENARIO_YEAR else "", []).append(one)
    return found if len(found) > 1 else {"": list(together)}


def _all_series(context: Context, cells: np.ndarray) -> Iterator[Series]:
    """Maxima of every prediction on all of its days, and of the truth on the days that predictions of its group hold."""
    truths: dict[str, np.ndarray] = {}
    for one in context.predictions:
        names = [name for name in one.variables if has_extremes(lookup(name))]
        if not names:
            continue
        days, calendar = prediction_days(one)
        group = context.store.groups[one.group]
        if group.has_truth:
            truths[one.group] = np.union1d(truths.get(one.group, days), days)
        blocks = Blocks.of(days, calendar, context.year_starts)
        for name in names:
            values = np.stack(
                [
                    maxima(blocks, _emulated(one, name, (days, calendar), member, cells), len(cells))
                    for member in range(max(1, count_members(one, name)))
                ]
            )
            yield Series(one.run, one.case, name, blocks.season, one.kind, blocks.windows, values)
    for group_name, days in truths.items():
        yield from _of_truth(context, context.store.groups[group_name], days, cells)


def _emulated(
    one: Prediction, name: str, axis: tuple[np.ndarray, str], member: int, cells: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    with PredictionReader(one, name, *axis, member=member) as reader:
        for days in bounded(len(axis[0]), int(np.prod(reader.shape))):
            values = reader.read(days=days)
            yield days, values.reshape(len(values), -1)[:, cells]


def _of_truth(context: Context, group: PairGroup, days: np.ndarray, cells: np.ndarray) -> Iterator[Series]:
    index = np.flatnonzero(np.isin(np.asarray(group.days), days))
    blocks = Blocks.of(np.asarray(group.days)[index], group.calendar, context.year_starts)
    names = list(context.store.targets)
    found = {name: np.full((len(blocks.years), len(cells)), np.nan, np.float32) for name in names if has_extremes(lookup(name))}
    for part in bounded(len(index), len(names) * context.region.area.size):
        truth = group.target(index[part]).reshape(part.stop - part.start, len(names), -1)[:, :, cells]
        some = replace(blocks, of_day=blocks.of_day[part])
        for name, values in found.items():
            tops = maxima(some, iter([(slice(None), truth[:, names.index(name)])]), len(cells))
            values[:] = np.fmax(values, tops)
    for name, values in found.items():
        yield Series(TRUTH, context_case(group), name, blocks.season, TRUTH, blocks.windows, values[None])


def _rows(together: Sequence[Series], scope: str, window: str, area: np.ndarray, years: Sequence[float]) -> list[dict[str, Any]]:
    variable = lookup(together[0].variable)
    samples = [one.inside(window) for one in together]
    n_years, n_series = sum(sample.shape[1] for sample in samples), sum(len(sample) for sample in samples)
    indexed, p_same, reason = False, float("nan"), ""
    if len(samples) > 1:
        p_same = _tested(samples, area, ratio=None)
        if p_same < SIGNIFICANT:
            indexed, p_same = True, _tested(samples, area, ratio=variable.non_negative)
            if p_same < SIGNIFICANT:
                reason = "none: the series differ"
    if not reason and n_years < MIN_BLOCKS:
        reason = f"none: fewer than {MIN_BLOCKS} years"
    levels = np.full((len(years), 3), np.nan)
    if not reason:
        levels = _levels(samples, area, years, ratio=variable.non_negative if indexed else None)
    rows = []
    for place, period in enumerate(years):
        too_long = period > REACH * n_years
        value, lower, upper = (float("nan"),) * 3 if too_long else (float(number) for number in levels[place])
        method = reason or (f"none: more than {REACH} times the years there are" if too_long else (INDEXED if indexed else PLAIN))
        if not reason and not too_long and not np.isfinite(value):
            method = "none: the maxima do not vary, or have gaps"
        who = (variable.name, scope, together[0].run, together[0].season, window, period)
        what = (value, lower, upper, variable.units, n_years, n_series)
        rows.append(dict(zip(COLUMNS, (*who, *what, method, p_same), strict=True)))
    return rows


def _tested(samples: Sequence[np.ndarray], area: np.ndarray, *, ratio: bool | None) -> float:
    """The test of area means of the first members; relative to their mean where ``ratio`` says how."""
    means = []
    for sample in samples:
        valid = np.isfinite(sample[0]).all(axis=0)
        yearly = sample[0][:, valid] @ area[valid] / area[valid].sum() if valid.any() else np.full(sample.shape[1], np.nan)
        if ratio is not None:
            yearly = yearly / yearly.mean() if ratio else yearly - yearly.mean()
        means.append(yearly)
    return same_distribution(means)


def _levels(samples: Sequence[np.ndarray], area: np.ndarray, years: Sequence[float], *, ratio: bool | None) -> np.ndarray:
    """(period, 3): area mean of the return levels, and its 95 % interval: Student's t with the spread under resampled years.

    The percentiles of the resampled levels are no interval: a resample repeats years and lacks others, so that its levels are too low.
    """
    maps = _pooled([sample.astype(np.float64)[None] for sample in samples], years, ratio)[:, 0]
    valid = np.flatnonzero(np.isfinite(maps).all(axis=0))
    if not len(valid):
        return np.full((len(years), 3), np.nan)
    values = np.average(maps[:, valid], axis=1, weights=area[valid])
    picked = valid[np.unique(np.linspace(0, len(valid) - 1, min(SAMPLE_CELLS, len(valid))).astype(np.int64))]
    n, generator, draws = sum(sample.shape[1] for sample in samples), np.random.default_rng(0), []
    for _ in range(0, RESAMPLES, BATCH):
        maps = _pooled([_resampled(sample[:, :, picked].astype(np.float64), generator) for sample in samples], years, ratio)
        finite = np.isfinite(maps)
        with np.errstate(invalid="ignore"):
            draws.append((np.where(finite, maps, 0.0) @ area[picked]) / (finite @ area[picked]))
    spread = np.nanstd(np.concatenate(draws, axis=1), axis=1, ddof=1) * np.sqrt(n / (n - len(samples)))
    half = stats.t.ppf(0.5 + COVERAGE / 2, n - len(samples)) * spread
    return np.stack([values, values - half, values + half], axis=1)


def _resampled(sample: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(resample, member, year, cell): years of (member, year, cell) drawn with replacement, the same for all members."""
    chosen = generator.integers(0, sample.shape[1], (BATCH, sample.shape[1]))
    return np.moveaxis(sample[:, chosen], 1, 0)


def _pooled(samples: Sequence[np.ndarray], years: Sequence[float], ratio: bool | None) -> np.ndarray:
    """(period, resample, cell) return levels of samples (resample, member, year, cell), all blocks of all series together."""
    flat = [np.moveaxis(sample.reshape(len(sample), -1, sample.shape[-1]), 1, 0) for sample in samples]
    if ratio is None:
        fitted = fit_gev(np.concatenate(flat))
        return np.stack([fitted.level(one) for one in years])
    means = [one.mean(axis=0) for one in flat]
    index = np.mean(means, axis=0)
    scaled = [one / mean if ratio else one - mean for one, mean in zip(flat, means, strict=True)]
    fitted = fit_gev(np.concatenate(scaled))
    return np.stack([index * fitted.level(one) if ratio else index + fitted.level(one) for one in years])
