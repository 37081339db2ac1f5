"""Scores of predictions with several members against the truth, and against baselines with the climatology of their residuals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import numpy as np
import xarray as xr

from downscale.errors import InputDataError
from downscale.evaluate.blocks import row_blocks
from downscale.evaluate.context import Context
from downscale.evaluate.daily import bounded, test_table
from downscale.evaluate.members.ensemble_rows import RANK_COLUMNS, RELIABILITY_COLUMNS, EnsembleRows
from downscale.evaluate.members.ensemble_sums import EnsembleSums, Threshold
from downscale.evaluate.metrics.probabilistic import dressed_crps, year_folds
from downscale.evaluate.metrics.quantiles import ascending, quantiles
from downscale.evaluate.metrics.season_means import Bins, DayMeans
from downscale.evaluate.predictions import Prediction, PredictionReader, count_members, prediction_days
from downscale.evaluate.publish import write_dataset
from downscale.evaluate.scorecard import Score, map_group
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.transfer.tables import baseline_of
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

log = logging.getLogger(__name__)
MAPS_FILE = "ensembles.nc"
ONE_MEMBER = "a single member"
ONLY_SPREAD = "mean and spread are there, no members"


def diagnose(context: Context) -> None:
    """Probabilistic rows of every ensemble on test days with truth; nothing where no prediction has members."""
    for group in context.store.groups.values():
        mine = context.of_group(group)
        if not (group.has_truth and len(group.split("test"))):
            context.rows += [row for one in mine for row in _spread_rows(context, one)]
            continue
        scorer = Scorer(context, group, Bins.of(test_table(context, group)))
        for one in mine:
            numbers = {name: count_members(one, name) for name in one.variables}
            scored = {name: scorer.score(one, name, number) for name, number in numbers.items() if number > 1}
            for name, number in numbers.items():
                if number == 1 or (not number and (one.folder / "spread").is_dir()):
                    context.rows += scorer.rows(one).reasons(name, ONE_MEMBER if number else ONLY_SPREAD)
            if scored:
                scorer.write_maps(one, scored)


def _spread_rows(context: Context, one: Prediction) -> Iterator[Score]:
    """ensemble_spread of a case without truth, on all of its days."""
    for name in one.variables:
        number = count_members(one, name)
        if number < 2:
            continue
        days, calendar = prediction_days(one)
        bins = Bins.of(TimeTable(days, calendar, context.year_starts, context.options["december"]))
        inside = np.flatnonzero(context.region.area.ravel() > 0)
        variance = DayMeans(bins, context.region.area.ravel()[inside])
        with ExitStack() as stack:
            readers = [stack.enter_context(PredictionReader(one, name, days, calendar, member=m)) for m in range(number)]
            for block in bounded(len(days), 3 * number * context.region.area.size):
                members = np.stack([reader.read(days=block) for reader in readers]).reshape(number, block.stop - block.start, -1)
                values = members[:, :, inside].var(axis=0, ddof=1, dtype=np.float64)
                for segment in np.unique(bins.of_day[block]):
                    variance.add(int(segment), values[bins.of_day[block] == segment])
        yield from EnsembleRows(one.run, one.case, context.region.name, bins).spread(name, variance)


class Scorer:
    """Scores the ensembles of one group."""

    def __init__(self, context: Context, group: PairGroup, bins: Bins) -> None:
        self._context, self._group, self._bins = context, group, bins
        self._inside = np.flatnonzero(context.region.area.ravel() > 0)
        self._area = context.region.area.ravel()[self._inside]
        self._baselines: dict[tuple[str, str, str], DayMeans] = {}

    def rows(self, one: Prediction) -> EnsembleRows:
        """Makes the rows of a prediction."""
        return EnsembleRows(one.run, f"{self._group.name}/{one.kind}", self._context.region.name, self._bins)

    def score(self, one: Prediction, name: str, number: int) -> EnsembleSums:
        """Adds the rows of a variable with ``number`` members to the context."""
        sums = EnsembleSums(self._bins, self._area, number, self._thresholds(name))
        for start, members, reference in self._blocks(one, name, number):
            sums.add(start, members, reference)
        sums.envelope.close()
        maker, context = self.rows(one), self._context
        context.rows += maker.scores(name, sums)
        context.rows += [row for model, theirs in self._dressed(one, name).items() for row in maker.skill(name, model, sums, theirs)]
        context.extend("rank_histogram", RANK_COLUMNS, maker.ranks(name, sums))
        context.extend("reliability", RELIABILITY_COLUMNS, maker.reliability(name, sums))
        return sums

    def _blocks(self, one: Prediction, name: str, number: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(start, members (member, time, cell), truth (time, cell)) in order of time."""
        table, index = self._bins.table, self._group.split("test")
        position, shape = list(self._context.store.targets).index(name), self._context.region.area.shape
        with ExitStack() as stack:
            readers = [stack.enter_context(PredictionReader(one, name, table.days, table.calendar, member=m)) for m in range(number)]
            if readers[0].shape != shape:
                raise InputDataError(
                    f"an ensemble has {readers[0].shape} cells, the truth {shape}",
                    where=str(one.folder),
                    hint="the run belongs to another fine grid: apply one trained on these pairs",
                )
            for days in bounded(len(index), (3 * number + len(self._context.store.targets)) * self._context.region.area.size):
                truth = self._group.target(index[days])[:, position].reshape(days.stop - days.start, -1)[:, self._inside]
                members = np.stack([reader.read(days=days).reshape(len(truth), -1)[:, self._inside] for reader in readers])
                yield days.start, members, truth

    def _thresholds(self, name: str) -> list[Threshold]:
        options, variable = self._context.options["probabilistic"], lookup(name)
        if variable.standard_name == "precipitation_flux":
            return [Threshold(f"{amount:g}mm", amount, variable.units, amount) for amount in options["thresholds"]]
        shape = self._context.region.area.shape
        found = np.full((len(options["quantiles"]), *shape), np.nan)
        for rows, truth in self._truth_rows(name):
            found[:, rows] = quantiles(ascending(truth), options["quantiles"])
        chosen = found.reshape(len(found), -1)[:, self._inside]
        return [Threshold(f"p{100 * q:g}", q, "quantile", values) for q, values in zip(options["quantiles"], chosen, strict=True)]

    def _truth_rows(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        index, position = self._group.split("test"), list(self._context.store.targets).index(name)
        for rows in row_blocks(self._context.region.area.shape, 3 * len(index)):
            yield rows, self._group.target_rows(index, rows)[position]

    def _dressed(self, one: Prediction, name: str) -> dict[str, DayMeans]:
        """Model of each baseline of the case -> CRPS of it with the climatology of its residuals."""
        models = sorted({other.model for other in self._context.predictions if other.role == "baseline"})
        found = {model: baseline_of(one, model, self._context.predictions) for model in models}
        return {model: self._of_baseline(other, name) for model, other in found.items() if other is not None and name in other.variables}

    def _of_baseline(self, other: Prediction, name: str) -> DayMeans:
        key = (other.run, other.kind, name)
        if key not in self._baselines:
            self._baselines[key] = self._dress(other, name)
            self._context.rows += self.rows(other).dressed(name, self._baselines[key])
        return self._baselines[key]

    def _dress(self, other: Prediction, name: str) -> DayMeans:
        table, width = self._bins.table, self._context.region.area.shape[1]
        means, fold, season = DayMeans(self._bins, self._area), year_folds(table.year), table.season
        with other.reader(name, table.days, table.calendar) as reader:
            for rows, truth in self._truth_rows(name):
                first, last = np.searchsorted(self._inside, [rows.start * width, rows.stop * width])
                cells = self._inside[first:last] - rows.start * width
                reference, estimate = (field.reshape(len(truth), -1)[:, cells] for field in (truth, reader.read(rows)))
                crps = dressed_crps(reference, estimate, fold, season, non_negative=lookup(name).non_negative)
                for number, segment in enumerate(table.segments):
                    means.add(number, crps[segment], slice(int(first), int(last)))
        return means

    def write_maps(self, one: Prediction, scored: Mapping[str, EnsembleSums]) -> None:
        """A group of ensembles.nc: maps VARIABLE__crps, VARIABLE__ensemble_spread and VARIABLE__ensemble_rmse of all test days."""
        data, fine = {}, self._context.store.fine
        main = self._bins.table.selections[0]
        for name, sums in scored.items():
            unit = lookup(name).units
            for metric, (quantity, change) in MAPS.items():
                values = np.full(self._context.region.area.size, np.nan, np.float32)
                values[self._inside] = change(sums.means[quantity].map(main))
                data[f"{name}__{metric}"] = xr.DataArray(values.reshape(fine.shape), dims=("y", "x"), attrs={"units": unit})
        about = {"run": one.run, "case": f"{self._group.name}/{one.kind}", "season": main.season}
        places = {"lat": (("y", "x"), fine.lat, {"units": "degrees_north"}), "lon": (("y", "x"), fine.lon, {"units": "degrees_east"})}
        group = map_group(one.run, about["case"])
        write_dataset(self._context.folder / MAPS_FILE, xr.Dataset(data, coords=places, attrs=about), group=group)


MAPS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "crps": ("crps", np.asarray),
    "ensemble_spread": ("variance", np.sqrt),
    "ensemble_rmse": ("squared_error", np.sqrt),
}
