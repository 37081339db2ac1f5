"""What a diagnostic may read, and where it leaves its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from downscale.errors import InputDataError
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import Score, Scorecard
from downscale.evaluate.selection import TimeTable
from downscale.grid.grid import Grid
from downscale.pairs.store import PairGroup, PairStore

Row = dict[str, Any]


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


@dataclass(frozen=True)
class Sources:
    """What the config says of the sources, by name.

    Attributes:
        drivers: truth -> the GCM that drove it, or None.
        roles: "rcm", "gcm", "reanalysis" or "observations".
        facets: driving_source_id, experiment_id, variant_label ... where given.
    """

    drivers: Mapping[str, str | None] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    facets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(eq=False)
class Context:
    """One evaluation, shared by its diagnostics.

    Attributes:
        store: the pairs.
        predictions: all that are judged.
        region: where scores are averaged.
        options: the section ``evaluate`` of the config as plain values.
        year_starts: month in which a year begins.
        train_on: pairs GROUP/KIND that training learns from.
        sources: what the config says of them.
        workspace: with runs/ and predictions/.
        folder: the scores folder that is being written; for what is too large for a table.
        rows: of scores.csv, of the main region.
        regions: (y, x) area weights of the regions of ``evaluate.regions``.
        regional: rows of scores.csv of those.
        tables: name -> columns and rows of NAME.csv.
        kept: what one diagnostic has found and later ones use, by a name of its own.
    """

    store: PairStore
    predictions: Sequence[Prediction]
    region: Region
    options: Mapping[str, Any]
    year_starts: int
    train_on: tuple[str, ...]
    sources: Sources
    workspace: Path
    folder: Path
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    rows: list[Score] = field(default_factory=list)
    regional: list[Score] = field(default_factory=list)
    tables: dict[str, tuple[tuple[str, ...], list[Row]]] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def extend(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add rows to NAME.csv; the first call for a table decides its columns."""
        self.tables.setdefault(table, (tuple(columns), []))[1].extend(rows)

    def of_group(self, group: PairGroup) -> list[Prediction]:
        """The predictions of a group."""
        return [one for one in self.predictions if one.group == group.name]

    def table(self, group: PairGroup, index: np.ndarray) -> TimeTable:
        """The day axis of some days of a group."""
        return TimeTable(group.days[index], group.calendar, self.year_starts, self.options.get("december", "calendar"))

    @property
    def card(self) -> Scorecard:
        """The rows so far as a scorecard of the main season."""
        seasons = {row.season for row in self.rows}
        return Scorecard(self.rows, {"main_season": "ANN" if "ANN" in seasons else next(iter(sorted(seasons)), "ANN")})
