"""The climate of an emulation without a truth to compare with: a GCM whose region no RCM has simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from downscale.errors import InputDataError
from downscale.evaluate.blocks import FieldScores, row_blocks
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.series import SeriesBlock, reference_indices
from downscale.evaluate.passes import read_targets
from downscale.evaluate.predictions import Prediction, PredictionReader
from downscale.evaluate.scorecard import TRUTH, Score
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.table import unit_of
from downscale.pairs.store import PairGroup
from downscale.variables import lookup

TRAINING = "training"


@dataclass(frozen=True, eq=False)
class ClimateTable:
    """Makes climatological maps and rows: mean, standard deviation, P98, P99, wet-day frequency ... of a series itself.

    Attributes:
        area: (y, x) weights, zero outside the region.
        region: "all" or "land".
        wet_day_mm: wet-day threshold.
        regions: area weights of other regions.
    """

    area: np.ndarray
    region: str
    wet_day_mm: float
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of_prediction(self, prediction: Prediction, table: TimeTable) -> dict[str, FieldScores]:
        """Variable -> climate of an emulation on the days of the table, by blocks of rows."""
        result = {}
        for name in prediction.variables:
            with PredictionReader(prediction, name, table.days, table.calendar) as reader:
                if reader.shape != self.area.shape:
                    raise InputDataError(
                        f"a prediction has {reader.shape} cells, the pair store {self.area.shape}",
                        where=str(prediction.folder),
                        hint="the run belongs to another fine grid: apply one trained on these pairs",
                    )
                result[name] = FieldScores((self.area.shape[0], self.area.shape[1]))
                for rows in row_blocks(self.area.shape, len(table.days)):
                    self._add(result[name], name, reader.read(rows), table, rows)
        return result

    def of_truth(self, group: PairGroup, index: np.ndarray, table: TimeTable) -> dict[str, FieldScores]:
        """Variable -> climate of a group's truth on some of its days."""
        result = {name: FieldScores((self.area.shape[0], self.area.shape[1])) for name in group.targets}
        for rows in row_blocks(self.area.shape, len(index)):
            truth = read_targets(group, index, rows)
            for position, name in enumerate(group.targets):
                self._add(result[name], name, truth[position], table, rows)
        return result

    def _add(self, into: FieldScores, name: str, values: np.ndarray, table: TimeTable, rows: slice) -> None:
        block = SeriesBlock(values, table, IndexSet.of(lookup(name), self.wet_day_mm))
        found, others = FieldScores(values.shape[1:]), {region: area[rows] for region, area in self.regions.items()}
        for selection in table.selections:
            if selection.period == ALL_PERIODS:
                for metric, field_map in reference_indices(block, selection).items():
                    found.add((metric, selection.season, selection.period), field_map, self.area[rows], others)
        into.merge(found, rows)

    def rows(self, run: str, case: str, fields: dict[str, FieldScores], table: TimeTable, *, period: str = ALL_PERIODS) -> list[Score]:
        """Rows of the scorecard; run "truth" for the context."""
        sizes = {
            selection.season: (len(selection.rows), len(selection.years))
            for selection in table.selections
            if selection.period == ALL_PERIODS
        }
        return [
            Score(
                run,
                case,
                name,
                metric,
                self.region,
                season,
                period,
                mean.value,
                np.nan,
                np.nan,
                unit_of(metric, name),
                *sizes[season],
                mean.cells,
                "none: a description, not a score",
            )
            for name, found in fields.items()
            for (metric, season, _), mean in found.means.items()
        ]

    def regional_rows(
        self, run: str, case: str, fields: dict[str, FieldScores], table: TimeTable, *, period: str = ALL_PERIODS
    ) -> list[Score]:
        """The same rows for the other regions."""
        nobody = np.zeros(0, bool)
        return [
            row
            for region in self.regions
            for row in replace(self, region=region).rows(
                run, case, {name: found.of_region(region, nobody) for name, found in fields.items()}, table, period=period
            )
        ]


def training_context(
    groups: Sequence[PairGroup], year_starts: int, december: str = "calendar"
) -> tuple[PairGroup, np.ndarray, TimeTable] | None:
    """The truth that runs learned from: the first group with training days; None when there is none."""
    for group in groups:
        index = group.split("train")
        if group.has_truth and len(index):
            return group, index, TimeTable(group.days[index], group.calendar, year_starts, december)
    return None


def context_case(group: PairGroup) -> str:
    """Case name of a group's truth."""
    return f"{group.name}/{TRUTH}"
