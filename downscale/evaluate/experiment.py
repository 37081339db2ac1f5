"""An evaluation: scores group by group, then the diagnostics, then the tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from downscale.evaluate.blocks import GroupScores, Spread, one_by_one
from downscale.evaluate.climate import TRAINING, ClimateTable, context_case, training_context
from downscale.evaluate.context import Context
from downscale.evaluate.diagnoses import DIAGNOSES, Diagnosis
from downscale.evaluate.metrics.quantiles import QQ_PROBABILITIES
from downscale.evaluate.metrics.significance import significance_maps
from downscale.evaluate.metrics.spectra import spacing_km
from downscale.evaluate.passes import GroupPass
from downscale.evaluate.predictions import Prediction, prediction_days
from downscale.evaluate.publish import grid_dataset, maps_file, write_dataset, write_maps
from downscale.evaluate.scorecard import TRUTH, Scorecard, write_scores, write_table
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.spectral_pass import SpectralPass
from downscale.evaluate.table import GroupTable
from downscale.evaluate.transfer.kinship import Kinship
from downscale.evaluate.transfer.rows import SIGNAL_COLUMNS, SPLIT_COLUMNS, change_maps, error_split_rows, signal_rows
from downscale.evaluate.transfer.shift import COLUMNS as SHIFT_COLUMNS
from downscale.evaluate.transfer.tables import MATRIX_COLUMNS, RECOVERY_COLUMNS, recovery, transfer_matrix
from downscale.pairs.store import PairGroup

log = logging.getLogger(__name__)
RUN_COLUMNS = ("run", "role", "model", "mode", "trained_on", "adapted_to", "from", "shots")
QQ_COLUMNS = ("run", "case", "variable", "season", "probability", "value")
CASE_COLUMNS = ("case", "group", "kind", "truth", "calendar", "first", "last", "n_days", "periods", "seasons")
Progress = Callable[[int, int, str], None]


@dataclass(eq=False)
class Experiment:
    """``score`` computes and writes what is large, ``write`` the tables.

    Attributes:
        context: what is judged, and where the results go.
        diagnoses: made beside the scores.
        spread: who does the blocks of rows.
        block_bytes: of a block of one series; None: see blocks.row_blocks.
    """

    context: Context
    diagnoses: Sequence[tuple[str, Diagnosis]] = DIAGNOSES
    spread: Spread = one_by_one
    block_bytes: int | None = None

    def score(self, progress: Progress) -> Scorecard:
        """Everything of every group, then the diagnostics; maps and spectra go to the folder at once."""
        context, store = self.context, self.context.store
        for name, columns in (
            ("quantiles", QQ_COLUMNS),
            ("error_split", SPLIT_COLUMNS),
            ("signal", SIGNAL_COLUMNS),
            ("predictor_shift", SHIFT_COLUMNS),
            ("cases", CASE_COLUMNS),
        ):
            context.extend(name, columns, [])
        spectra = SpectralPass(store.fine.shape, spacing_km(store.fine.lat, store.fine.lon))
        groups = [group for group in store.groups.values() if context.of_group(group)]
        steps = 2 * len(groups) + len(self.diagnoses)
        for number, group in enumerate(groups):
            progress(2 * number, steps, group.name)
            if group.has_truth and len(group.split("test")):
                self._score_group(group, spectra)
                progress(2 * number + 1, steps, group.name)
            else:
                self._describe_group(group)
        write_dataset(context.folder / "spectra.nc", spectra.dataset())
        grid = grid_dataset(store.fine, store.static, context.region.area, spectra.spacing)
        write_dataset(context.folder / "grid.nc", grid)
        context.rows += spectra.scores()
        for number, (name, diagnose) in enumerate(self.diagnoses):
            progress(2 * len(groups) + number, steps, name)
            diagnose(context)
        progress(steps, steps, "tables")
        return Scorecard(context.rows, self._recipe(), context.regional)

    def _score_group(self, group: PairGroup, spectra: SpectralPass) -> None:
        context, mine = self.context, self.context.of_group(group)
        index, region, wet_day_mm = group.split("test"), context.region, context.options["wet_day_mm"]
        table = context.table(group, index)
        work = GroupPass(
            group, context.store.targets, table, index, region.area, wet_day_mm, context.regions, block_bytes=self.block_bytes
        )  # fmt: skip
        scores = work.run(mine, self.spread)
        maker = GroupTable(group.name, table, region.area, region.name, wet_day_mm)
        context.rows += maker.rows(scores.of_region(""), mine, context.kept.setdefault("draws", {}))
        for name, area in context.regions.items():
            context.regional += replace(maker, region=name, area=area).rows(scores.of_region(name), mine)
        context.extend("quantiles", QQ_COLUMNS, _quantile_rows(group, table, scores))
        context.extend("error_split", SPLIT_COLUMNS, error_split_rows(group.name, maker, scores, mine))
        context.extend("signal", SIGNAL_COLUMNS, signal_rows(context.store, group, index, maker, scores))
        with maps_file(context.folder) as maps:
            write_maps(maps, (TRUTH, context_case(group)), scores.truth, change_maps(maker, scores.truth), context.store.fine)
            for one in mine:
                fields = {name: scores.predictions[one.run, one.kind, name] for name in one.variables}
                extra = change_maps(maker, fields) | significance_maps(fields, region.area)
                write_maps(maps, (one.run, one.case), fields, extra, context.store.fine)
        spectra.add_group(group, context.store.targets, index, table, mine)
        self._cases(group, table, mine)

    def _describe_group(self, group: PairGroup) -> None:
        context = self.context
        climate = ClimateTable(context.region.area, context.region.name, context.options["wet_day_mm"], context.regions)
        for one in context.of_group(group):
            days, calendar = prediction_days(one)
            table = TimeTable(days, calendar, context.year_starts, context.options["december"])
            fields = climate.of_prediction(one, table)
            context.rows += climate.rows(one.run, one.case, fields, table)
            context.regional += climate.regional_rows(one.run, one.case, fields, table)
            with maps_file(context.folder) as maps:
                write_maps(maps, (one.run, one.case), fields, {}, context.store.fine)
            self._cases(group, table, [one])
        learned = [name for name in (pair.partition("/")[0] for pair in context.train_on) if name in context.store.groups]
        training = training_context([context.store.groups[name] for name in learned], context.year_starts, context.options["december"])
        if training is not None:
            reference, index, table = training
            fields = climate.of_truth(reference, index, table)
            context.rows += climate.rows(TRUTH, context_case(reference), fields, table, period=TRAINING)
            context.regional += climate.regional_rows(TRUTH, context_case(reference), fields, table, period=TRAINING)
            with maps_file(context.folder) as maps:
                write_maps(maps, (TRUTH, f"{reference.name}/{TRAINING}"), fields, {}, context.store.fine)

    def _cases(self, group: PairGroup, table: TimeTable, mine: Sequence[Prediction]) -> None:
        known = {row["case"] for row in self.context.tables["cases"][1]}
        rows = [
            {
                "case": case,
                "group": group.name,
                "kind": case.partition("/")[2],
                "truth": int(group.has_truth),
                "calendar": table.calendar,
                "first": int(table.days[0]),
                "last": int(table.days[-1]),
                "n_days": len(table.days),
                "periods": " ".join(table.periods),
                "seasons": " ".join(table.seasons),
            }
            for case in sorted({one.case for one in mine} - known)
        ]
        self.context.extend("cases", CASE_COLUMNS, rows)

    def _recipe(self) -> dict[str, Any]:
        context, store = self.context, self.context.store
        seasons = [season for row in context.tables["cases"][1] for season in str(row["seasons"]).split()]
        return {
            "main_season": "ANN" if "ANN" in seasons else (seasons or ["ANN"])[0],
            "targets": list(store.targets),
            "channels": list(store.channels),
            "region": context.region.name,
            "regions": list(context.regions),
            "december": context.options["december"],
            "wet_day_mm": context.options["wet_day_mm"],
            "train_on": list(context.train_on),
            "fine_grid": store.fine.summary,
            "coarse_grid": store.coarse.summary,
            "notes": {name: group.notes for name, group in store.groups.items()},
            "drivers": dict(context.sources.drivers),
            "roles": dict(context.sources.roles),
        }

    def write(self, card: Scorecard) -> None:
        """All tables and the recipe."""
        context = self.context
        runs = {one.run: one.facts() for one in context.predictions}
        context.extend("runs", RUN_COLUMNS, runs.values())
        labels, draws = Kinship(context).labels(), context.kept.get("draws", {})
        context.extend("transfer", MATRIX_COLUMNS, transfer_matrix(card, context.predictions, labels, draws))
        context.extend("transfer_periods", MATRIX_COLUMNS, transfer_matrix(card, context.predictions, labels, draws, by_period=True))
        context.extend("recovery", RECOVERY_COLUMNS, recovery(card, context.predictions))
        for name, (columns, rows) in context.tables.items():
            write_table(context.folder / f"{name}.csv", rows, columns)
        shift = context.tables["predictor_shift"][1]
        words = ("case", "against", "channel", "season")
        numeric = {
            name: ("row", np.array([row[name] for row in shift], dtype=object if name in words else float)) for name in SHIFT_COLUMNS
        }
        xr.Dataset(numeric).to_netcdf(context.folder / "predictor_shift.nc", engine="netcdf4")
        write_scores(context.folder, card)


def _quantile_rows(group: PairGroup, table: TimeTable, scores: GroupScores) -> list[dict[str, Any]]:
    found = {(TRUTH, context_case(group), name): truth for name, truth in scores.truth.items()}
    found |= {(run, f"{group.name}/{kind}", name): series for (run, kind, name), series in scores.predictions.items()}
    return [
        {"run": run, "case": case, "variable": name, "season": table.seasons[0], "probability": probability, "value": mean.value}
        for (run, case, name), series in found.items()
        for probability, mean in zip(QQ_PROBABILITIES, series.qq, strict=True)
    ]
