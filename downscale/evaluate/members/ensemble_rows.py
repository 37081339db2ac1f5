"""From the sums of an ensemble to rows: scores with intervals, rank histogram, reliability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from downscale.evaluate.members.ensemble_sums import EnsembleSums
from downscale.evaluate.metrics.bootstrap import Interval, no_interval
from downscale.evaluate.metrics.point import skill
from downscale.evaluate.metrics.probabilistic import brier_parts, flatness, rank_distance, spread_skill
from downscale.evaluate.metrics.season_means import Bins, DayMeans, interval_of, ratio, weights_of
from downscale.evaluate.scorecard import Score
from downscale.evaluate.selection import ALL_PERIODS, Selection
from downscale.variables import lookup

RANK_COLUMNS = ("run", "case", "variable", "season", "rank", "count", "expected")
RELIABILITY_COLUMNS = ("run", "case", "variable", "threshold", "bin", "forecast", "observed", "n", "event", "unit")
OF_VARIABLE = ("crps", "ensemble_spread")
WITHOUT_MEMBERS = (*OF_VARIABLE, "spread_skill", "rank_chi2", "envelope_coverage")
NO_RESIDUALS = "one year has no other year's residuals"
NO_INTERVAL = "none: a test, not a score"
PARTS = ("reliability", "resolution", "uncertainty")


@dataclass(frozen=True, eq=False)
class EnsembleRows:
    """Makes the rows of one prediction.

    Attributes:
        run, case, region: where they belong.
        bins: of the test days.
    """

    run: str
    case: str
    region: str
    bins: Bins

    def scores(self, name: str, sums: EnsembleSums) -> list[Score]:
        """Rows of scores.csv of a variable: every season of all test days, and every period."""
        rows = [row for selection in self.bins.table.selections for row in self._selected(name, sums, selection)]
        return rows + list(self._brier(name, sums)) + list(self._envelope(name, sums))

    def skill(self, name: str, model: str, sums: EnsembleSums, theirs: DayMeans) -> list[Score]:
        """CRPSS against a baseline with the climatology of its residuals: 1 - CRPS / CRPS of the baseline, of area means."""
        rows, ours = [], sums.means["crps"]
        for selection in self.bins.table.selections:
            (mine, cells), (other, _) = ours.mean(selection), theirs.mean(selection)
            value, weights = float(skill(mine, other)), weights_of(selection)
            interval = interval_of(selection, skill(ours.draws(selection, weights), theirs.draws(selection, weights)), value)
            if np.isnan(other):
                interval = no_interval(NO_RESIDUALS)
            rows.append(self._row(name, f"crpss_vs_{model}", selection, (value, cells), interval, "1"))
        return rows

    def dressed(self, name: str, crps: DayMeans) -> list[Score]:
        """crps_dressed of a baseline: the CRPS of its field with the climatology of its residuals."""
        rows = []
        for selection in self.bins.table.selections:
            value, cells = crps.mean(selection)
            interval = interval_of(selection, crps.draws(selection, weights_of(selection)), value, non_negative=True)
            interval = no_interval(NO_RESIDUALS) if np.isnan(value) else interval
            rows.append(self._row(name, "crps_dressed", selection, (value, cells), interval, lookup(name).units))
        return rows

    def _selected(self, name: str, sums: EnsembleSums, selection: Selection) -> Iterator[Score]:
        unit, weights, (crps, cells) = lookup(name).units, weights_of(selection), sums.means["crps"].mean(selection)
        interval = interval_of(selection, sums.means["crps"].draws(selection, weights), crps)
        yield self._row(name, "crps", selection, (crps, cells), interval, unit)
        parts = {key: sums.means[key].mean(selection)[0] for key in ("variance", "squared_error")}
        drawn = {key: sums.means[key].draws(selection, weights) for key in parts}
        for metric, key in (("ensemble_spread", "variance"), ("ensemble_rmse", "squared_error")):
            value = float(np.sqrt(parts[key]))
            interval = interval_of(selection, np.sqrt(drawn[key]), value, non_negative=True)
            yield self._row(name, metric, selection, (value, cells), interval, unit)
        value = float(spread_skill(parts["variance"], parts["squared_error"], sums.members))
        draws = spread_skill(drawn["variance"], drawn["squared_error"], sums.members)
        yield self._row(name, "spread_skill", selection, (value, cells), interval_of(selection, draws, value, non_negative=True), "1")
        if selection.period == ALL_PERIODS:
            yield from self._flatness(name, sums, selection, weights, cells)

    def _flatness(self, name: str, sums: EnsembleSums, selection: Selection, weights: np.ndarray, cells: int) -> Iterator[Score]:
        yearly = self.bins.by_year(sums.ranks, selection)
        drawn = weights @ yearly
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = drawn / drawn.sum(axis=1, keepdims=True)
            frequencies = yearly / yearly.sum(axis=1, keepdims=True)
        value = float(rank_distance(draws[0]))
        interval = interval_of(selection, rank_distance(draws), value, non_negative=True)
        yield self._row(name, "rank_chi2", selection, (value, cells), interval, "1")
        p_value = flatness(frequencies[np.isfinite(frequencies).all(axis=1)])
        yield self._row(name, "rank_chi2_p", selection, (p_value, cells), Interval(np.nan, np.nan, NO_INTERVAL), "1")
        outside = ratio(np.stack([draws[:, 0] + draws[:, -1], np.full(len(draws), 2 / (sums.members + 1))], axis=-1))
        interval = interval_of(selection, outside, float(outside[0]), non_negative=True)
        yield self._row(name, "rank_outside", selection, (float(outside[0]), cells), interval, "1")

    def _brier(self, name: str, sums: EnsembleSums) -> Iterator[Score]:
        for event in sums.events:
            label = event.threshold.label
            for selection in self.bins.table.selections:
                if selection.period == ALL_PERIODS:
                    value, cells = event.brier.mean(selection)
                    interval = interval_of(selection, event.brier.draws(selection, weights_of(selection)), value, non_negative=True)
                    yield self._row(name, f"brier_{label}", selection, (value, cells), interval, "1")
            main = self.bins.table.selections[0]
            means = ratio(event.sums[:, [0, 2]]), ratio(event.sums[:, [1, 2]])
            for part, value in zip(PARTS, brier_parts(*means, event.sums[:, 2]), strict=True):
                found = (value, event.brier.mean(main)[1])
                yield self._row(name, f"brier_{label}_{part}", main, found, no_interval("a part of a score"), "1")

    def _envelope(self, name: str, sums: EnsembleSums) -> Iterator[Score]:
        main, members = self.bins.table.selections[0], sums.members
        cells = int((sums.area > 0).sum())
        for metric, column, expected in (
            ("envelope_coverage", 0, (members - 1) / (members + 1)),
            ("envelope_above", 1, 1 / (members + 1)),
        ):
            draws = ratio((weights_of(main) @ sums.envelope.years)[:, [column, 2]])
            found = (float(draws[0]), cells)
            yield self._row(name, metric, main, found, interval_of(main, draws, found[0], non_negative=True), "1")
            yield self._row(name, f"{metric}_expected", main, (expected, cells), no_interval("a description, not a score"), "1")

    def spread(self, name: str, variance: DayMeans) -> Iterator[Score]:
        """ensemble_spread of every season, where there is no truth to compare it with."""
        for selection in self.bins.table.selections:
            if selection.period == ALL_PERIODS:
                value, cells = variance.mean(selection)
                interval = no_interval("a description, not a score")
                yield self._row(name, "ensemble_spread", selection, (float(np.sqrt(value)), cells), interval, lookup(name).units)

    def reasons(self, name: str, reason: str) -> list[Score]:
        """NaN rows that say why there are no probabilistic scores."""
        main = self.bins.table.selections[0]
        return [
            self._row(name, metric, main, (float("nan"), 0), no_interval(reason), unit)
            for metric, unit in {**dict.fromkeys(WITHOUT_MEMBERS, "1"), **dict.fromkeys(OF_VARIABLE, lookup(name).units)}.items()
        ]

    def ranks(self, name: str, sums: EnsembleSums) -> list[dict[str, Any]]:
        """Rows of rank_histogram.csv: area-weighted counts of days and cells that add up to their number."""
        rows = []
        for selection in self.bins.table.selections:
            if selection.period != ALL_PERIODS:
                continue
            inside = self.bins.table.membership(selection).any(axis=0)
            shares, number = sums.ranks[inside].sum(axis=0), sums.ranked[inside].sum()
            with np.errstate(divide="ignore", invalid="ignore"):
                counts = shares / shares.sum() * number
            place = (self.run, self.case, name, selection.season)
            rows += [
                dict(zip(RANK_COLUMNS, (*place, rank, float(count), float(number / len(counts))), strict=True))
                for rank, count in enumerate(counts)
            ]
        return rows

    def reliability(self, name: str, sums: EnsembleSums) -> list[dict[str, Any]]:
        """Rows of reliability.csv: mean probability and observed frequency of each bin with cases, all test days."""
        rows = []
        for event in sums.events:
            one = event.threshold
            for number, (forecast, observed, weight, cases) in enumerate(event.sums):
                if weight > 0:
                    place = (self.run, self.case, name, float(one.number), number)
                    values = (*place, forecast / weight, observed / weight, int(cases), one.label, one.unit)
                    rows.append(dict(zip(RELIABILITY_COLUMNS, values, strict=True)))
        return rows

    def _row(self, name: str, metric: str, selection: Selection, found: tuple[float, int], interval: Interval, unit: str) -> Score:
        place = (self.run, self.case, name, metric, self.region, selection.season, selection.period)
        sizes = (len(selection.rows), len(selection.years), found[1])
        return Score(*place, found[0], interval.lower, interval.upper, unit, *sizes, interval.method)
