"""From a pass over the fields to rows of the scorecard, with intervals, skill scores and change signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.blocks import CHANGE_STATISTICS, FieldScores, GroupScores, Key
from downscale.evaluate.metrics.bootstrap import NON_NEGATIVE, Draws, Interval, area_mean_draws, no_interval, resampling, why_not
from downscale.evaluate.metrics.change import change_signal, compare_changes, is_relative
from downscale.evaluate.metrics.definitions import CHANGE, PER_DEGREE, SQUARED, VARIABLE, find
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.point import skill
from downscale.evaluate.metrics.spatial import pattern_correlation
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import TRUTH, Score
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.evaluate.transfer.tables import baseline_of, for_gaps
from downscale.variables import lookup

CHANGE_PERIOD = "change"
AllDraws = dict[Key, dict[tuple[str, str], Draws]]


@dataclass(frozen=True, eq=False)
class GroupTable:
    """Makes the rows of one group.

    Attributes:
        group: name.
        table: test days.
        area: (y, x) weights, zero outside the region.
        region: its name.
        wet_day_mm: wet-day threshold.
    """

    group: str
    table: TimeTable
    area: np.ndarray
    region: str
    wet_day_mm: float

    def rows(self, scores: GroupScores, predictions: Sequence[Prediction], kept: AllDraws | None = None) -> list[Score]:
        """All rows: indices of the truth, scores, skill and change signals.

        Args:
            scores, predictions: of the group.
            kept: takes the resampled area means of the transfer matrix's metrics, by run, case and variable.
        """
        draws = self._draws(scores)
        if kept is not None:
            kept |= {(run, f"{self.group}/{kind}", name): for_gaps(found) for (run, kind, name), found in draws.items()}
        result = [row for name, truth in scores.truth.items() for row in self._plain(TRUTH, "truth", name, truth, {})]
        for (run, kind, name), found in scores.predictions.items():
            result += self._plain(run, kind, name, found, draws[run, kind, name])
            result += self._change(run, kind, name, found, scores.truth[name])
        return result + self._skill(scores, draws, predictions)

    def _draws(self, scores: GroupScores) -> AllDraws:
        samples = {name: np.concatenate(truth.sample, axis=1) for name, truth in scores.truth.items()}
        area = self.area.ravel()[scores.cells]
        result: AllDraws = {}
        for key, found in scores.predictions.items():
            reference = samples[key[2]]
            indices = IndexSet.of(lookup(key[2]), self.wet_day_mm)
            result[key] = area_mean_draws(np.concatenate(found.sample, axis=1), reference, self.table, indices, area)
        return result

    def _plain(self, run: str, kind: str, name: str, found: FieldScores, draws: Mapping[tuple[str, str], Draws]) -> list[Score]:
        selections = {(selection.season, selection.period): selection for selection in self.table.selections}
        rows = []
        for (metric, season, period), mean in found.means.items():
            selection = selections[season, period]
            interval = _interval(metric, mean.value, selection, draws.get((season, period), {}))
            rows.append(self._score((run, kind, name), metric, selection, (mean.value, mean.cells), interval))
        return rows + self._spatial((run, kind, name), found)

    def _spatial(self, key: Key, found: FieldScores) -> list[Score]:
        """Rows of the mean over days of each day's correlation over space; the interval resamples its yearly means."""
        if "" not in found.daily:
            return []
        daily = pattern_correlation(found.daily[""])
        rows = []
        for selection in self.table.selections:
            chosen, year = daily[selection.rows], self.table.year_of(selection)
            finite = np.isfinite(chosen)
            total, count = (
                np.array([part[year == one].sum() for one in selection.years]) for part in (np.where(finite, chosen, 0.0), finite)
            )
            value = float(total.sum() / count.sum()) if count.sum() else float("nan")
            interval = no_interval(why_not(selection.strata))
            if not why_not(selection.strata):
                scheme = resampling(selection.strata)
                with np.errstate(divide="ignore", invalid="ignore"):
                    interval = scheme.interval((scheme.weights @ total) / (scheme.weights @ count), estimate=value)
            cells = found.means["bias", selection.season, selection.period].cells
            rows.append(self._score(key, "spatial_correlation", selection, (value, cells), interval))
        return rows

    def _score(self, key: Key, metric: str, selection: Selection, found: tuple[float, int], interval: Interval) -> Score:
        """A row of (run, kind, variable); found is the value and its number of cells."""
        run, kind, name = key
        sizes = (len(selection.rows), len(selection.years), found[1])
        place = (run, f"{self.group}/{kind}", name, metric, self.region, selection.season, selection.period)
        return Score(*place, found[0], interval.lower, interval.upper, unit_of(metric, name), *sizes, interval.method)

    def _skill(self, scores: GroupScores, draws: AllDraws, predictions: Sequence[Prediction]) -> list[Score]:
        rows = []
        models = sorted({prediction.model for prediction in predictions if prediction.role == "baseline"})
        for prediction in predictions:
            for model in models:
                baseline = baseline_of(prediction, model, predictions)
                for name in prediction.variables:
                    if baseline is not None and name in baseline.variables:
                        keys = (prediction.run, prediction.kind, name), (baseline.run, baseline.kind, name)
                        rows += self._skill_rows(keys, model, scores, draws)
        return rows

    def _skill_rows(self, keys: tuple[Key, Key], model: str, scores: GroupScores, draws: AllDraws) -> list[Score]:
        (ours, theirs), rows = (scores.predictions[key].means for key in keys), []
        for selection in self.table.selections:
            key = ("mse", selection.season, selection.period)
            value = float(skill(ours[key].value, theirs[key].value))
            pair = [draws[which].get(key[1:], {}).get("mse") for which in keys]
            interval = no_interval(why_not(selection.strata))
            if pair[0] is not None and pair[1] is not None:
                interval = pair[0][0].interval(skill(pair[0][1], pair[1][1]), estimate=value)
            rows.append(self._score(keys[0], f"skill_vs_{model}", selection, (value, ours[key].cells), interval))
        return rows

    def _change(self, run: str, kind: str, name: str, found: FieldScores, truth: FieldScores) -> list[Score]:
        if len(self.table.periods) < 2:
            return []
        rows = []
        for selection in self.table.selections:
            if selection.period != ALL_PERIODS:
                continue
            for statistic in CHANGE_STATISTICS:
                maps = [self.change_map(series, statistic, selection.season, name) for series in (found, truth)]
                if maps[0] is None or maps[1] is None:
                    continue
                cells = int((np.isfinite(maps[0]) & np.isfinite(maps[1]) & (self.area > 0)).sum())
                place = (self.region, selection.season, CHANGE_PERIOD)
                for part, value in compare_changes(maps[0], maps[1], self.area).items():
                    metric = f"change_{statistic}_{part}".removesuffix("_value")
                    unit = "1" if part in ("pattern_correlation", "captured", "slope") else change_unit(name)
                    sizes = (len(selection.rows), len(selection.years), cells)
                    case = f"{self.group}/{kind}"
                    rows.append(Score(run, case, name, metric, *place, value, np.nan, np.nan, unit, *sizes, "none: one signal"))
        return rows

    def change_map(self, series: FieldScores, statistic: str, season: str, name: str) -> np.ndarray | None:
        """Change of a statistic between the first and the last test period (y, x); None with one period or a season missing in one."""
        first, last = (series.maps.get((statistic, season, period)) for period in (self.table.periods[0], self.table.periods[-1]))
        if first is None or last is None or len(self.table.periods) < 2:
            return None
        return change_signal(last.astype(np.float64), first.astype(np.float64), lookup(name))


def _interval(metric: str, value: float, selection: Selection, draws: Draws) -> Interval:
    if metric not in draws:
        return no_interval(why_not(selection.strata) or "a description, not a score")
    scheme, values = draws[metric]
    return scheme.interval(values, estimate=value, non_negative=metric in NON_NEGATIVE or metric.startswith("abs_"))


def unit_of(metric: str, name: str) -> str:
    """Unit of a metric of a variable."""
    units, found = lookup(name).units, find(metric)
    if found is None or found.unit == VARIABLE:
        return "1" if metric.startswith("skill_vs_") else units
    known = {SQUARED: f"({units})2", CHANGE: change_unit(name), PER_DEGREE: f"{change_unit(name)} K-1"}
    return known.get(found.unit, found.unit)


def change_unit(name: str) -> str:
    """Unit of change signals of a variable."""
    return "%" if is_relative(lookup(name)) else lookup(name).units
