"""One pass over all predictions by blocks of days: each upscaled beside its coarse input, and its error year by year."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from downscale.errors import DownscaleError
from downscale.evaluate.context import Context
from downscale.evaluate.predictions import Prediction, PredictionReader, prediction_days
from downscale.evaluate.scorecard import TRUTH
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.grid.engines import make_weights
from downscale.grid.weights import Weights
from downscale.pairs.store import PairGroup

log = logging.getLogger(__name__)
BLOCK_BYTES = 32 * 2**20
KEPT = "large_scale"
Key = tuple[str, str, str]


@dataclass(eq=False)
class PairedMoments:
    """Sums of two series over days, cell by cell (y, x); a day counts where both are finite."""

    shape: tuple[int, ...]
    totals: dict[str, np.ndarray] = field(default_factory=dict)
    offset: np.ndarray | None = None

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """Add days (time, y, x)."""
        if not len(one):
            return
        if self.offset is None:
            finite = np.isfinite(other)
            self.offset = np.where(finite.any(axis=0), np.where(finite, other, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1), 0.0)
            self.totals = {name: np.zeros(self.shape) for name in ("n", "p", "r", "pp", "rr", "pr")}
        valid = np.isfinite(one) & np.isfinite(other)
        p, r = (np.where(valid, values - self.offset, 0.0).astype(np.float64) for values in (one, other))
        for name, value in (("n", valid), ("p", p), ("r", r), ("pp", p * p), ("rr", r * r), ("pr", p * r)):
            self.totals[name] += value.sum(axis=0)


@dataclass(eq=False)
class YearErrors:
    """Area-weighted sums of error and squared error of each year."""

    totals: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, error: np.ndarray, years: np.ndarray, area: np.ndarray) -> None:
        """Add days: error (time, y, x), NaN missing; years (time,); area (y, x) weights."""
        valid = (np.isfinite(error) & (area > 0)).reshape(len(error), -1)
        values = np.where(valid, error.reshape(len(error), -1), 0.0).astype(np.float64)
        weight = area.ravel().astype(np.float64)
        covered = valid @ weight
        sums = np.stack([covered > 0, covered, values @ weight, np.square(values) @ weight], axis=1)
        for year in np.unique(years):
            self.totals[int(year)] = self.totals.get(int(year), np.zeros(4)) + sums[years == year].sum(axis=0)


@dataclass(eq=False)
class LargeScale:
    """What the pass found.

    Attributes:
        surface: (run, case, variable) -> season -> moments of the upscaled field and of the coarse field of the same name.
        errors: (run, case, variable) -> errors by year; only where there is truth.
    """

    surface: dict[Key, dict[str, PairedMoments]] = field(default_factory=dict)
    errors: dict[Key, YearErrors] = field(default_factory=dict)


def large_scale(context: Context) -> LargeScale:
    """The pass, made once for all diagnostics of an evaluation."""
    if KEPT not in context.kept:
        context.kept[KEPT] = _make(context)
    found = context.kept[KEPT]
    assert isinstance(found, LargeScale)
    return found


def _make(context: Context) -> LargeScale:
    result, weights = LargeScale(), _upscaling(context)
    for group, index, predictions in _batches(context):
        _Pass(context, group, index, weights, result).run(predictions)
    return result


def _upscaling(context: Context) -> Weights | None:
    try:
        return make_weights(context.store.fine, context.store.coarse, engine="builtin")
    except DownscaleError as error:
        log.info("no upscaling of the emulations: %s", error.message)
        return None


def _batches(context: Context) -> Iterator[tuple[PairGroup, np.ndarray, list[Prediction]]]:
    for group in context.store.groups.values():
        mine = context.of_group(group)
        if mine and group.has_truth and len(group.split("test")):
            yield group, group.split("test"), mine
            continue
        for one in mine:
            days, _ = prediction_days(one)
            index = np.flatnonzero(np.isin(group.days, days))
            if len(index):
                yield group, index, [one]


@dataclass(frozen=True, eq=False)
class _Pass:
    context: Context
    group: PairGroup
    index: np.ndarray
    weights: Weights | None
    result: LargeScale

    def run(self, predictions: Sequence[Prediction]) -> None:
        group, targets = self.group, self.context.store.targets
        table = self.context.table(group, self.index)
        with ExitStack() as stack:
            readers = {
                (one.run, one.kind, name): stack.enter_context(PredictionReader(one, name, table.days, table.calendar))
                for one in predictions
                for name in one.variables
            }
            for block in _blocks(len(self.index), int(np.prod(self.context.store.fine.shape)) * len(targets)):
                part = self.index[block]
                truth = group.target(part) if group.has_truth else None
                surfaces = {kind: group.surface(kind, part) for kind in group.kinds} if self.weights is not None else {}
                if truth is not None and "imperfect" in surfaces:
                    for position, name in enumerate(targets):
                        self._follow((TRUTH, f"{group.name}/imperfect", name), truth[:, position], surfaces["imperfect"], table, block)
                for (run, kind, name), reader in readers.items():
                    values, key = reader.read(days=block), (run, f"{group.name}/{kind}", name)
                    if kind in surfaces:
                        self._follow(key, values, surfaces[kind], table, block)
                    if truth is not None:
                        errors = self.result.errors.setdefault(key, YearErrors())
                        errors.add(values - truth[:, targets.index(name)], table.year[block], self.context.region.area)

    def _follow(self, key: Key, values: np.ndarray, surface: np.ndarray, table: TimeTable, block: slice) -> None:
        """Add a block of days of a fine field to the sums beside its coarse namesake."""
        own = surface[:, self.context.store.targets.index(key[2])]
        if self.weights is None or not np.isfinite(own).any():
            return
        coarse, rows = self.weights.apply(values), np.arange(block.start, block.stop)
        seasons = self.result.surface.setdefault(key, {})
        for selection in table.selections:
            if selection.period == ALL_PERIODS:
                inside = np.isin(rows, selection.rows, assume_unique=True)
                seasons.setdefault(selection.season, PairedMoments(own.shape[1:])).add(coarse[inside], own[inside])


def _blocks(n_days: int, n_values: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // max(n_values * 4, 1))
    for start in range(0, n_days, step):
        yield slice(start, min(start + step, n_days))
