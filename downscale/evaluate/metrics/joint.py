"""How temperature and precipitation go together: their correlation, and how often it is hot and wet or hot and dry.

Hot and wet: both above their own 90th percentile of the season (of each series itself, so that the marginal distributions do not count);
independent variables have 0.01. Hot and dry: temperature above its own 90th percentile on a day below the wet-day threshold.
After Zscheischler and Seneviratne (2017), doi 10.1126/sciadv.1700263.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from downscale.evaluate.blocks import AreaMean, row_blocks, spread_cells
from downscale.evaluate.context import Context
from downscale.evaluate.metrics.bootstrap import Interval, no_interval, resampling, why_not
from downscale.evaluate.metrics.point import FROM_SUMS, paired_sums
from downscale.evaluate.metrics.quantiles import ascending, quantiles
from downscale.evaluate.metrics.yearly import weighted_years
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import TRUTH, Score
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.pairs.store import PairGroup

TEMPERATURES = ("tasmax", "tas", "tasmin")
PRECIPITATION = "pr"
HIGH = 0.9
STATISTICS = ("temperature_correlation", "hot_wet_days", "hot_dry_days")
SAMPLE_CELLS = 512
Sums = dict[str, np.ndarray]


def joint_sums(temperature: np.ndarray, precipitation: np.ndarray, year: np.ndarray, wet_day_mm: float) -> Sums:
    """Sums of each year, of the days of one season.

    Args:
        temperature, precipitation: (time, ...) K and mm/day; a day counts where both are finite.
        year: (time,) year of each day.
        wet_day_mm: a dry day has less.

    Returns:
        name -> (year, ...): those of metrics.paired_sums, hot_wet and hot_dry days.
    """
    both = np.isfinite(temperature) & np.isfinite(precipitation)
    t, p = (np.where(both, field, np.nan) for field in (temperature, precipitation))
    limits = [quantiles(ascending(field), [HIGH])[0] for field in (t, p)]
    hot = t > limits[0]
    order = np.argsort(year, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(year[order])) + 1).tolist(), len(year)]
    pieces = [slice(edges[number], edges[number + 1]) for number in range(len(edges) - 1)]
    sums = paired_sums(t[order], p[order], pieces)
    for name, days in (("hot_wet", hot & (p > limits[1])), ("hot_dry", hot & (p < wet_day_mm))):
        sums[name] = np.stack([days[order][piece].sum(axis=0, dtype=np.float64) for piece in pieces])
    return sums


def joint_statistics(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The statistics of STATISTICS from sums in any leading shape; NaN without a day, the correlation where one is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [np.where(sums["n"] > 0, sums[name] / sums["n"], np.nan) for name in ("hot_wet", "hot_dry")]
    return dict(zip(STATISTICS, (FROM_SUMS["correlation"](sums), *shares), strict=True))


def joint_maps(temperature: np.ndarray, precipitation: np.ndarray, wet_day_mm: float = 1.0) -> dict[str, np.ndarray]:
    """The statistics of one pair of series (time, ...) as maps (...)."""
    sums = joint_sums(temperature, precipitation, np.zeros(len(temperature), np.int64), wet_day_mm)
    return _of_all(sums)


def _of_all(sums: Sums) -> dict[str, np.ndarray]:
    """The statistics of all years together."""
    return joint_statistics({name: value.sum(axis=0) for name, value in sums.items()})


@dataclass(eq=False)
class _Found:
    """Area means of one run (or the truth) in one season, and year sums at the sampled grid points, by region."""

    means: dict[tuple[str, str], AreaMean] = field(default_factory=dict)
    sample: list[Sums] = field(default_factory=list)

    def add(self, sums: Sums, truth: Sums | None, areas: Mapping[str, np.ndarray], picked: np.ndarray) -> None:
        reference = _of_all(truth) if truth else {}
        for name, value in _of_all(sums).items():
            maps = {name: value}
            if reference:
                maps |= {f"{name}_bias": value - reference[name], f"abs_{name}_bias": np.abs(value - reference[name])}
            for metric, values in maps.items():
                for region, area in areas.items():
                    self.means.setdefault((region, metric), AreaMean()).add(values, area)
        self.sample.append({name: value.reshape(len(value), -1)[:, picked] for name, value in sums.items()})


def diagnose(context: Context) -> None:
    """Rows of variable ``pr``: the statistics of every emulation with a temperature and precipitation, their biases, and the truth's."""
    names = [name for name in TEMPERATURES if name in context.store.targets]
    if not names or PRECIPITATION not in context.store.targets:
        return
    for group in context.store.groups.values():
        mine = [one for one in context.of_group(group) if {names[0], PRECIPITATION} <= set(one.variables)]
        if group.has_truth and len(group.split("test")) and mine:
            _JointPass(context, group, names[0], context.table(group, group.split("test"))).run(mine)


@dataclass(frozen=True, eq=False)
class _JointPass:
    context: Context
    group: PairGroup
    temperature: str
    table: TimeTable

    @property
    def selections(self) -> list[Selection]:
        return [selection for selection in self.table.selections if selection.period == ALL_PERIODS]

    def run(self, predictions: list[Prediction]) -> None:
        context = self.context
        areas = {context.region.name: context.region.area, **context.regions}
        cells = spread_cells(context.region.area, SAMPLE_CELLS)
        found: dict[tuple[str, str, str], _Found] = {}
        for rows, series in self._blocks(predictions):
            width = context.region.area.shape[1]
            picked = cells[(cells // width >= rows.start) & (cells // width < rows.stop)] - rows.start * width
            block_areas = {name: area[rows] for name, area in areas.items()}
            for selection in self.selections:
                self._add(found, series, selection, block_areas, picked)
        weights = context.region.area.ravel()[cells]
        for (run, case, season), one in found.items():
            selection = next(selection for selection in self.selections if selection.season == season)
            truth = found[TRUTH, f"{self.group.name}/{TRUTH}", season] if run != TRUTH else None
            self._rows((run, case), selection, one, _intervals(one, truth, selection, weights, context.region.name))

    def _blocks(self, predictions: list[Prediction]) -> Iterator[tuple[slice, dict[tuple[str, str], list[np.ndarray]]]]:
        index, places = self.group.split("test"), [self.context.store.targets.index(name) for name in (self.temperature, PRECIPITATION)]
        with ExitStack() as stack:
            readers = {
                (one.run, one.case): [
                    stack.enter_context(one.reader(name, self.table.days, self.table.calendar))
                    for name in (self.temperature, PRECIPITATION)
                ]
                for one in predictions
            }
            for rows in row_blocks(self.context.region.area.shape, len(index)):
                truth = self.group.target_rows(index, rows)
                series = {(TRUTH, f"{self.group.name}/{TRUTH}"): [truth[place] for place in places]}
                yield rows, series | {key: [reader.read(rows) for reader in both] for key, both in readers.items()}

    def _add(
        self,
        found: dict[tuple[str, str, str], _Found],
        series: Mapping[tuple[str, str], list[np.ndarray]],
        selection: Selection,
        areas: Mapping[str, np.ndarray],
        picked: np.ndarray,
    ) -> None:
        year, wet_day_mm = self.table.year_of(selection), self.context.options["wet_day_mm"]
        truth: Sums | None = None
        for (run, case), (temperature, precipitation) in series.items():
            sums = joint_sums(temperature[selection.rows], precipitation[selection.rows], year, wet_day_mm)
            found.setdefault((run, case, selection.season), _Found()).add(sums, truth, areas, picked)
            truth = sums if run == TRUTH else truth

    def _rows(self, key: tuple[str, str], selection: Selection, found: _Found, intervals: Mapping[str, Interval]) -> None:
        for (region, metric), mean in found.means.items():
            main = region == self.context.region.name
            interval = intervals.get(metric, no_interval("a description, not a score")) if main else no_interval("of the whole region only")
            place = (*key, PRECIPITATION, metric, region, selection.season, ALL_PERIODS, mean.value, interval.lower, interval.upper, "1")
            row = Score(*place, len(selection.rows), len(selection.years), mean.cells, interval.method)
            (self.context.rows if main else self.context.regional).append(row)


def _intervals(found: _Found, truth: _Found | None, selection: Selection, weights: np.ndarray, region: str) -> dict[str, Interval]:
    """Metric -> interval from resampled years; thresholds stay those of all years."""
    if truth is None:
        return {}
    reason = why_not(selection.strata)
    if reason:
        return {f"{prefix}{name}{suffix}": no_interval(reason) for name in STATISTICS for prefix, suffix in _FORMS}
    scheme = resampling(selection.strata)
    draws = []
    for one in (found, truth):
        years = {name: np.concatenate([part[name] for part in one.sample], axis=1) for name in one.sample[0]}
        draws.append(joint_statistics(weighted_years(years, scheme.weights)))
    result = {}
    for name in STATISTICS:
        difference = draws[0][name] - draws[1][name]
        for (prefix, suffix), values in zip(_FORMS, (draws[0][name], difference, np.abs(difference)), strict=True):
            finite = np.isfinite(values)
            with np.errstate(divide="ignore", invalid="ignore"):
                means = (np.where(finite, values, 0.0) @ weights) / (finite @ weights)
            metric = f"{prefix}{name}{suffix}"
            share = bool(prefix) or (name != STATISTICS[0] and not suffix)
            result[metric] = scheme.interval(means, estimate=found.means[region, metric].value, non_negative=share)
    return result


_FORMS = (("", ""), ("", "_bias"), ("abs_", "_bias"))
