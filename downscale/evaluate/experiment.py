"""All diagnostics of a workspace, one after the other, group by group."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from downscale.errors import InputDataError
from downscale.evaluate.climate import TRAINING, ClimateTable, context_case, training_context
from downscale.evaluate.diagnostics import SIGNAL_COLUMNS, SPLIT_COLUMNS, change_maps, error_split_rows, shift_rows, signal_rows
from downscale.evaluate.passes import GroupPass, GroupScores
from downscale.evaluate.predictions import Prediction, prediction_days
from downscale.evaluate.publish import grid_dataset, write_dataset, write_maps
from downscale.evaluate.quantiles import QQ_PROBABILITIES
from downscale.evaluate.scorecard import TRUTH, Score, Scorecard, write_scores, write_table
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.shift import COLUMNS as SHIFT_COLUMNS
from downscale.evaluate.spectra import spacing_km
from downscale.evaluate.spectral_pass import SpectralPass
from downscale.evaluate.table import GroupTable
from downscale.evaluate.transfer import MATRIX_COLUMNS, RECOVERY_COLUMNS, recovery, transfer_matrix
from downscale.grid.grid import Grid
from downscale.pairs.store import PairGroup, PairStore

log = logging.getLogger(__name__)
RUN_COLUMNS = ("run", "role", "model", "mode", "trained_on", "adapted_to", "from", "shots")
QQ_COLUMNS = ("run", "case", "variable", "season", "probability", "value")
CASE_COLUMNS = ("case", "group", "kind", "truth", "calendar", "first", "last", "n_days", "periods", "seasons")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Region:
    """Where scores are averaged.

    Attributes:
        name: "all" or "land".
        area: (y, x) cell areas, zero outside.
    """

    name: str
    area: np.ndarray

    @classmethod
    def of(cls, store: PairStore, name: str, *, land_percent: float) -> Region:
        """The region by name; InputDataError when land is asked for and there is no sftlf, or no land."""
        area = cell_areas(store.fine)
        if name == "land":
            if "sftlf" not in store.static:
                raise InputDataError(
                    "evaluate.region is land, but the pairs have no land fraction",
                    where="evaluate.region",
                    hint="add sftlf to static and prepare again, or use region: all",
                )
            area = np.where(np.asarray(store.static["sftlf"]) >= land_percent, area, 0.0)
        if not (area > 0).any():
            raise InputDataError(f"the region '{name}' holds no cell", where="evaluate.region", hint="use region: all")
        return cls(name, area)


def cell_areas(grid: Grid) -> np.ndarray:
    """Areas (y, x): exact where corners are known, else proportional to the cosine of latitude on lat/lon grids and equal on others."""
    if grid.lat_corners is not None:
        return np.asarray(grid.areas(), dtype=np.float64)
    return np.cos(np.deg2rad(grid.lat)) if grid.is_latlon else np.ones(grid.shape)


@dataclass(eq=False)
class Experiment:
    """One evaluation: ``score`` computes and writes what is large, ``write`` the tables."""

    store: PairStore
    predictions: Sequence[Prediction]
    region: Region
    wet_day_mm: float
    year_starts: int
    train_on: tuple[str, ...]
    tables: dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    _rows: list[Score] = field(default_factory=list)

    def score(self, folder: Path, progress: Progress) -> Scorecard:
        """Everything of every group; maps and spectra go to ``folder`` at once."""
        for name, columns in (
            ("quantiles", QQ_COLUMNS),
            ("error_split", SPLIT_COLUMNS),
            ("signal", SIGNAL_COLUMNS),
            ("predictor_shift", SHIFT_COLUMNS),
            ("cases", CASE_COLUMNS),
        ):
            self.tables[name] = (columns, [])
        spectra = SpectralPass(self.store.fine.shape, spacing_km(self.store.fine.lat, self.store.fine.lon))
        groups = [group for group in self.store.groups.values() if any(one.group == group.name for one in self.predictions)]
        for number, group in enumerate(groups):
            mine = [one for one in self.predictions if one.group == group.name]
            progress(2 * number, 2 * len(groups), group.name)
            if group.has_truth and len(group.split("test")):
                self._score_group(folder, group, mine, spectra)
                progress(2 * number + 1, 2 * len(groups), group.name)
            else:
                self._describe_group(folder, group, mine)
            self._extend("predictor_shift", shift_rows(self.store, group, cell_areas(self.store.coarse), self.year_starts, self.train_on))
        progress(2 * len(groups), 2 * len(groups), "tables")
        write_dataset(folder / "spectra.nc", spectra.dataset())
        grid = grid_dataset(self.store.fine, self.store.static, self.region.area, spectra.spacing)
        write_dataset(folder / "grid.nc", grid)
        self._rows += spectra.scores()
        return Scorecard(self._rows, self._recipe())

    def _score_group(self, folder: Path, group: PairGroup, mine: Sequence[Prediction], spectra: SpectralPass) -> None:
        index = group.split("test")
        table = TimeTable(group.days[index], group.calendar, self.year_starts)
        scores = GroupPass(group, self.store.targets, table, index, self.region.area, self.wet_day_mm).run(mine)
        maker = GroupTable(group.name, table, self.region.area, self.region.name, self.wet_day_mm)
        self._rows += maker.rows(scores, mine)
        self._quantile_rows(group, table, scores)
        self._extend("error_split", error_split_rows(group.name, maker, scores, mine))
        self._extend("signal", signal_rows(self.store, group, index, maker, scores))
        write_maps(folder, (TRUTH, context_case(group)), scores.truth, change_maps(maker, scores.truth), self.store.fine)
        for one in mine:
            fields = {name: scores.predictions[one.run, one.kind, name] for name in one.variables}
            write_maps(folder, (one.run, one.case), fields, change_maps(maker, fields), self.store.fine)
        spectra.add_group(group, self.store.targets, index, table, mine)
        self._cases(group, table, mine)

    def _describe_group(self, folder: Path, group: PairGroup, mine: Sequence[Prediction]) -> None:
        climate = ClimateTable(self.region.area, self.region.name, self.wet_day_mm)
        for one in mine:
            days, calendar = prediction_days(one)
            table = TimeTable(days, calendar, self.year_starts)
            fields = climate.of_prediction(one, table)
            self._rows += climate.rows(one.run, one.case, fields, table)
            write_maps(folder, (one.run, one.case), fields, {}, self.store.fine)
            self._cases(group, table, [one])
        context = training_context(
            [self.store.groups[pair.partition("/")[0]] for pair in self.train_on if pair.partition("/")[0] in self.store.groups],
            self.year_starts,
        )
        if context is not None:
            reference, index, table = context
            fields = climate.of_truth(reference, index, table)
            self._rows += climate.rows(TRUTH, context_case(reference), fields, table, period=TRAINING)
            write_maps(folder, (TRUTH, f"{reference.name}/{TRAINING}"), fields, {}, self.store.fine)

    def _quantile_rows(self, group: PairGroup, table: TimeTable, scores: GroupScores) -> None:
        found = {(TRUTH, context_case(group), name): truth for name, truth in scores.truth.items()}
        found |= {(run, f"{group.name}/{kind}", name): series for (run, kind, name), series in scores.predictions.items()}
        self._extend(
            "quantiles",
            [
                {"run": run, "case": case, "variable": name, "season": table.seasons[0], "probability": probability, "value": mean.value}
                for (run, case, name), series in found.items()
                for probability, mean in zip(QQ_PROBABILITIES, series.qq, strict=True)
            ],
        )

    def _cases(self, group: PairGroup, table: TimeTable, mine: Sequence[Prediction]) -> None:
        known = {row["case"] for row in self.tables["cases"][1]}
        self._extend(
            "cases",
            [
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
            ],
        )

    def _recipe(self) -> dict[str, Any]:
        tables = self.tables["cases"][1]
        seasons = [season for row in tables for season in str(row["seasons"]).split()]
        return {
            "main_season": "ANN" if "ANN" in seasons else (seasons or ["ANN"])[0],
            "targets": list(self.store.targets),
            "channels": list(self.store.channels),
            "region": self.region.name,
            "wet_day_mm": self.wet_day_mm,
            "train_on": list(self.train_on),
            "fine_grid": self.store.fine.summary,
            "coarse_grid": self.store.coarse.summary,
            "notes": {name: group.notes for name, group in self.store.groups.items()},
        }

    def _extend(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        self.tables[name][1].extend(rows)

    def write(self, folder: Path, card: Scorecard) -> None:
        """All tables and the recipe."""
        runs = {one.run: one.facts() for one in self.predictions}
        self.tables["runs"] = (RUN_COLUMNS, list(runs.values()))
        self.tables["transfer"] = (MATRIX_COLUMNS, transfer_matrix(card, self.predictions))
        self.tables["recovery"] = (RECOVERY_COLUMNS, recovery(card, self.predictions))
        for name, (columns, rows) in self.tables.items():
            write_table(folder / f"{name}.csv", rows, columns)
        shift = self.tables["predictor_shift"][1]
        numeric = {
            name: (
                "row",
                np.array([row[name] for row in shift], dtype=float if name not in ("case", "against", "channel", "season") else object),
            )
            for name in SHIFT_COLUMNS
        }
        xr.Dataset(numeric).to_netcdf(folder / "predictor_shift.nc", engine="netcdf4")
        write_scores(folder, card)
