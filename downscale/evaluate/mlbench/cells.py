"""The point-wise diagnostics of the CORDEX ML-Bench from series (cell, time), each sorted once.

Series are put in the order of their seasons, see SeasonPlan. Sums are taken in float64 of the differences from each cell's first value, so
that they do not cancel. A cell that lacks a value on any day is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from downscale.evaluate.mlbench.plan import ALL, SeasonPlan

WET_MM = 1.0
SUMMER_DAY = 298.15
"""K: 25 degC. The benchmark's own default is 300 K, given beside it as su300."""
BINS = 2**18
"""Of the distribution of a whole field over all cells and days."""
CELLS = 64
"""Cells that are worked on at a time: what they need stays in the cache."""
COMMON = ("mean", "q02", "q98", "lag1_corr", "interannual_var")
OF_CELLS = {"tasmax": (*COMMON, "txx", "txn", "su", "su300"), "pr": (*COMMON, "rx1day", "sdii")}
"""Variable -> its indices; any other variable has the common ones. Spells are counted day by day, see mlbench_days."""
WHICH = ("truth", "pred")
_EPSILON = 1e-12
Pair = dict[str, np.ndarray]


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of a variable in truth and prediction: what the bins of its distribution span."""

    low: float
    high: float

    def bins(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value."""
        scale = BINS / max(self.high - self.low, 1e-30)
        found = ((values - np.float32(self.low)) * np.float32(scale)).astype(np.int32)
        return np.clip(found, 0, BINS - 1, out=found)

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.high - self.low) / BINS


@dataclass(eq=False)
class CellScores:
    """What was found on some cells.

    Attributes:
        maps: (diagnostic, variable, season) -> (cell,) float64.
        squares, counts: (variable, season) -> sum of squared errors and number of values that both have.
        bins: (variable, season) -> (2, BINS) values of truth and prediction in each bin, of whole cells; seasons only.
    """

    maps: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    squares: dict[tuple[str, str], float] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    bins: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def add_bins(self, key: tuple[str, str], which: int, found: np.ndarray) -> None:
        """Count values in bins."""
        self.bins.setdefault(key, np.zeros((2, BINS), np.int64))[which] += np.bincount(found.ravel(), minlength=BINS)


@dataclass(eq=False)
class _Series:
    """One field of some cells in the order of seasons, with its sums.

    Attributes:
        values: (cell, time) float32; anomalies: float64, from the first value.
        totals: (segment, cell) sums of anomalies; squares: season -> (cell,) sums of their squares.
    """

    values: np.ndarray
    plan: SeasonPlan

    def __post_init__(self) -> None:
        self.offset = self.values[:, 0].astype(np.float64)
        self.anomalies = self.values - self.offset[:, None]
        self.totals = np.add.reduceat(self.anomalies, self.plan.starts, axis=1).T
        self.squares = self.dot(self)

    def dot(self, other: _Series) -> dict[str, np.ndarray]:
        """Season -> (cell,) sums of products of the anomalies."""
        found = {name: np.einsum("ct,ct->c", self.anomalies[:, part], other.anomalies[:, part]) for name, part in self.plan.slices.items()}
        return {ALL: sum_of(found), **found}

    def total(self, season: str) -> np.ndarray:
        """(cell,) sum of the anomalies of a season."""
        return np.asarray(self.totals[np.concatenate(self.plan.segments[season])].sum(axis=0))

    def ends(self, season: str) -> tuple[np.ndarray, np.ndarray]:
        """(cell,) first and last anomaly of a season in time."""
        if season != ALL:
            part = self.plan.slices[season]
            return self.anomalies[:, part.start], self.anomalies[:, part.stop - 1]
        place = np.argsort(self.plan.order)
        return self.anomalies[:, place[0]], self.anomalies[:, place[-1]]

    def lagged(self) -> dict[str, np.ndarray]:
        """Season -> (cell,) sums of products of each day's anomaly with that of the day before it in the season."""
        a, found = self.anomalies, {}
        for name, part in self.plan.slices.items():
            found[name] = np.einsum("ct,ct->c", a[:, part.start : part.stop - 1], a[:, part.start + 1 : part.stop])
        apart, crossing = self.plan.neighbours
        whole = sum_of(found)
        whole = whole - np.einsum("ct,ct->c", a[:, apart[:, 0]], a[:, apart[:, 1]])
        return {ALL: whole + np.einsum("ct,ct->c", a[:, crossing[:, 0]], a[:, crossing[:, 1]]), **found}

    def yearly_means(self, season: str) -> np.ndarray:
        """(year, cell) means of the anomalies."""
        return np.stack([self.totals[own].sum(axis=0) / self.plan.lengths[own].sum() for own in self.plan.segments[season]])

    def count(self, season: str) -> int:
        """Days of a season."""
        return int(sum(self.plan.lengths[own].sum() for own in self.plan.segments[season]))


def sum_of(found: dict[str, np.ndarray]) -> np.ndarray:
    """The sum over seasons."""
    return np.asarray(sum(found.values()))


def correlate(n: int, product: np.ndarray, one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Pearson correlation of sums: of products, and for each of the two of values and of squares; NaN where one is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = product - one[0] * other[0] / n
        variances = [np.where(square - total**2 / n > _EPSILON * square, square - total**2 / n, 0.0) for total, square in (one, other)]
        spread = np.sqrt(variances[0] * variances[1])
        return np.asarray(np.where(spread > 0, covariance / spread, np.nan))


def score_cells(plan: SeasonPlan, fields: dict[str, Pair], ranges: dict[str, Range]) -> CellScores:
    """All point-wise diagnostics of some cells.

    Args:
        plan: the days.
        fields: variable -> "truth" and "pred" -> (time, cell) float32, days in time order.
        ranges: of each variable.
    """
    result = CellScores()
    parts = []
    n_cells = next(iter(fields.values()))["truth"].shape[1]
    for start in range(0, n_cells, CELLS):
        part = slice(start, start + CELLS)
        ordered = {
            name: {which: np.ascontiguousarray(pair[which][:, part][plan.order].T) for which in WHICH} for name, pair in fields.items()
        }
        with np.errstate(invalid="ignore", over="ignore"):
            parts.append(_score(plan, ordered, ranges, result))
    for key in parts[0] if parts else ():
        result.maps[key] = np.concatenate([found[key] for found in parts])
    return result


def _score(plan: SeasonPlan, fields: dict[str, Pair], ranges: dict[str, Range], into: CellScores) -> dict[tuple[str, str, str], np.ndarray]:
    maps: dict[tuple[str, str, str], np.ndarray] = {}
    series: dict[str, list[_Series]] = {}
    both = np.ones(len(next(iter(fields.values()))["truth"]), bool)
    for name, pair in fields.items():
        whole = np.asarray(np.isfinite(pair["truth"]).all(axis=1) & np.isfinite(pair["pred"]).all(axis=1))
        own: dict[tuple[str, str, str], np.ndarray] = {}
        series[name] = [_Series(pair[which], plan) for which in WHICH]
        for which, one in zip(WHICH, series[name], strict=True):
            for (index, season), values in _indices(one, name).items():
                own[f"index_{index}_{which}", name, season] = values
        own |= _errors(plan, name, pair, whole, into)
        own |= _distributions(plan, name, pair, whole, ranges[name], into)
        maps |= {key: np.where(whole, values, np.nan) for key, values in own.items()}
        both &= whole | (name not in ("tasmax", "pr"))
    if {"tasmax", "pr"} <= set(series):
        maps |= {key: np.where(both, values, np.nan) for key, values in _together(series["tasmax"], series["pr"]).items()}
    return maps


def _indices(one: _Series, variable: str) -> dict[tuple[str, str], np.ndarray]:
    plan, result, lagged = one.plan, {}, one.lagged()
    wanted = OF_CELLS.get(variable, COMMON)
    extremes = {name: ufunc for name, ufunc in (("txx", np.maximum), ("rx1day", np.maximum), ("txn", np.minimum)) if name in wanted}
    yearly = {name: ufunc.reduceat(one.values, plan.starts, axis=1).T for name, ufunc in extremes.items()}
    for season in plan.names:
        n, total, square = one.count(season), one.total(season), one.squares[season]
        first, last = one.ends(season)
        result["mean", season] = one.offset + total / n
        earlier, later = (total - last, square - last**2), (total - first, square - first**2)
        result["lag1_corr", season] = correlate(max(n - 1, 1), lagged[season], later, earlier)
        result["interannual_var", season] = one.yearly_means(season).std(axis=0)
        for name, found in yearly.items():
            tops = [extremes[name].reduce(found[own], axis=0) for own in plan.segments[season]]
            result[name, season] = np.mean(tops, axis=0, dtype=np.float64)
    if "su" in wanted:
        for name, limit in (("su", SUMMER_DAY), ("su300", 300.0)):
            days = {season: np.count_nonzero(one.values[:, part] > limit, axis=1) for season, part in plan.slices.items()}
            for season, count in {ALL: sum_of(days), **days}.items():
                result[name, season] = count / len(plan.segments[season])
    if "sdii" in wanted:
        wet = one.values >= WET_MM
        amounts = np.where(wet, one.values, np.float32(0.0))
        days = {season: np.count_nonzero(wet[:, part], axis=1) for season, part in plan.slices.items()}
        amount = {season: amounts[:, part].sum(axis=1, dtype=np.float64) for season, part in plan.slices.items()}
        for season, count in {ALL: sum_of(days), **days}.items():
            total = sum_of(amount) if season == ALL else amount[season]
            result["sdii", season] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def _errors(plan: SeasonPlan, name: str, pair: Pair, whole: np.ndarray, into: CellScores) -> dict[tuple[str, str, str], np.ndarray]:
    difference = pair["pred"].astype(np.float64) - pair["truth"]
    there = None if whole.all() else np.isfinite(difference)
    if there is not None:
        difference = np.where(there, difference, 0.0)
    squares = {season: np.einsum("ct,ct->c", difference[:, part], difference[:, part]) for season, part in plan.slices.items()}
    lengths = {season: part.stop - part.start for season, part in plan.slices.items()}
    result = {}
    for season, square in {ALL: sum_of(squares), **squares}.items():
        n = lengths.get(season, len(plan.days))
        result["rmse_time", name, season] = np.sqrt(square / n)
        part = plan.slices.get(season, slice(None))
        count = len(whole) * n if there is None else int(there[:, part].sum())
        into.squares[name, season] = into.squares.get((name, season), 0.0) + float(square.sum())
        into.counts[name, season] = into.counts.get((name, season), 0) + count
    return result


def _distributions(
    plan: SeasonPlan, name: str, pair: Pair, whole: np.ndarray, span: Range, into: CellScores
) -> dict[tuple[str, str, str], np.ndarray]:
    result, both = {}, [pair[which].copy() for which in WHICH]
    for season in (*plan.slices, ALL):
        part = plan.slices.get(season, slice(None))
        for number, (which, values) in enumerate(zip(WHICH, both, strict=True)):
            values[:, part].sort(axis=1)
            for index, q in (("q02", 0.02), ("q98", 0.98)):
                result[f"index_{index}_{which}", name, season] = _quantile(values[:, part], q)
            if season != ALL and whole.any():
                into.add_bins((name, season), number, span.bins(values[:, part] if whole.all() else values[whole][:, part]))
        result["wasserstein_spatial", name, season] = np.abs(both[1][:, part] - both[0][:, part]).mean(axis=1, dtype=np.float64)
    return result


def _quantile(ascending: np.ndarray, q: float) -> np.ndarray:
    """Linear between order statistics (Hyndman and Fan type 7)."""
    place = q * (ascending.shape[1] - 1)
    low = int(place)
    high = min(low + 1, ascending.shape[1] - 1)
    below = ascending[:, low].astype(np.float64)
    return np.asarray(below + (ascending[:, high] - below) * (place - low))


def _together(tasmax: list[_Series], pr: list[_Series]) -> dict[tuple[str, str, str], np.ndarray]:
    """Correlations of tasmax and pr in truth (x0) and prediction (x1), and their difference."""
    result = {}
    for number, (warm, wet) in enumerate(zip(tasmax, pr, strict=True)):
        product = warm.dot(wet)
        for season in warm.plan.names:
            sums = [(one.total(season), one.squares[season]) for one in (warm, wet)]
            result[f"correlation_x{number}", "tasmax_pr", season] = correlate(warm.count(season), product[season], *sums)
    for season in tasmax[0].plan.names:
        found = [result[f"correlation_x{number}", "tasmax_pr", season] for number in (0, 1)]
        result["correlation_bias", "tasmax_pr", season] = found[1] - found[0]
    return result
