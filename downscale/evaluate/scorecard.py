"""The tidy table of scores, and the other tables beside it: writing and reading, no science."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

RECIPE = "recipe.json"
MAPS = "maps.nc"
TRUTH = "truth"


@dataclass(frozen=True)
class Score:
    """One number and where it belongs.

    Attributes:
        prediction: run name, or "truth" for indices of the reference itself.
        case: GROUP/perfect, GROUP/imperfect, or GROUP/truth.
        variable, metric: CMOR name; name in docs/reference/metrics.md.
        region: "all", "land", or a name of ``evaluate.regions``.
        season: "ANN" (all days), "DJF", "MAM", "JJA" or "SON".
        period: "all", first-last years of a contiguous test period, "change" (last minus first) or "training".
        value, lower, upper: area mean and its 95 % interval; NaN when there is none.
        unit: of the value.
        n_days, n_years, n_cells: what it is made of.
        interval: "bootstrap", "jackknife-t", or "none: reason".
    """

    prediction: str
    case: str
    variable: str
    metric: str
    region: str
    season: str
    period: str
    value: float
    lower: float
    upper: float
    unit: str
    n_days: int
    n_years: int
    n_cells: int
    interval: str


_NUMBERS = {"value": float, "lower": float, "upper": float, "n_days": int, "n_years": int, "n_cells": int}
COLUMNS = tuple(item.name for item in fields(Score))


@dataclass
class Scorecard:
    """All scores of a workspace.

    Attributes:
        scores: the rows of the main region.
        recipe: what was evaluated: main_season, periods, cases, runs, grid, regions, digest.
        regional: the rows of the regions of ``evaluate.regions``.
    """

    scores: list[Score]
    recipe: dict[str, Any] = field(default_factory=dict)
    regional: list[Score] = field(default_factory=list)

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str, str, str], Score]:
        return {(row.prediction, row.case, row.variable, row.metric, row.season, row.period): row for row in self.scores}

    @property
    def main_season(self) -> str:
        """ "ANN", or the only season of the data."""
        return str(self.recipe.get("main_season", "ANN"))

    def get(
        self, prediction: str, case: str, variable: str, metric: str, *, season: str | None = None, period: str = "all"
    ) -> Score | None:
        """One row, of the main season and all test days unless said otherwise; None when there is none."""
        return self._index.get((prediction, case, variable, metric, season or self.main_season, period))

    def value(self, prediction: str, case: str, variable: str, metric: str, *, season: str | None = None, period: str = "all") -> float:
        """The value of one row; NaN when there is none."""
        row = self.get(prediction, case, variable, metric, season=season, period=period)
        return row.value if row else math.nan


def write_scores(folder: Path, card: Scorecard) -> None:
    """scores.csv, the same as scores.nc, and the recipe."""
    scores = [*card.scores, *card.regional]
    write_table(folder / "scores.csv", [vars(row) for row in scores], COLUMNS)
    data: dict[str, Any] = {}
    for name in COLUMNS:
        values = [getattr(row, name) for row in scores]
        if name in _NUMBERS:
            data[name] = ("row", np.array(values, dtype=_NUMBERS[name]))
        else:
            labels, codes = np.unique(np.array(values, dtype=str), return_inverse=True)
            data[name] = ("row", codes.astype(np.int16), {"long_name": f"position in {name}_label"})
            data[f"{name}_label"] = (f"{name}_label", labels.astype(object))
    attributes = {"title": "Scores of emulators and baselines", "evaluation_digest": str(card.recipe.get("digest", ""))}
    dataset = xr.Dataset(data, attrs=attributes)
    dataset.to_netcdf(folder / "scores.nc", engine="netcdf4", encoding={name: {"zlib": True, "complevel": 1} for name in COLUMNS})
    write_recipe(folder, card.recipe)


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """recipe.json: what was judged, and how."""
    (folder / RECIPE).write_text(json.dumps(recipe, indent=2, default=str) + "\n")


def read_scores(folder: Path) -> Scorecard:
    """The scorecard of a scores folder; FileNotFoundError when there is none."""
    rows = [Score(**{name: _NUMBERS.get(name, str)(text) for name, text in row.items()}) for row in read_table(folder / "scores.csv")]
    recipe = json.loads((folder / RECIPE).read_text())
    others = set(recipe.get("regions", ()))
    return Scorecard([row for row in rows if row.region not in others], recipe, [row for row in rows if row.region in others])


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A CSV with a header; floats with nine significant digits."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row[name]) for name in columns] for row in rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV as text; none when the file is not there (the diagnostic did not apply)."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def number(text: str) -> float:
    """A number of a table; an empty cell is NaN."""
    return float(text) if text else math.nan


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, (float, np.floating)) else str(value)


def map_group(run: str, case: str) -> str:
    """Group of the maps of a run (or of the truth) for a case in the file of maps."""
    return f"{run}__{case.replace('/', '_')}"


def read_maps(path: Path) -> xr.Dataset:
    """A NetCDF file in memory; an empty dataset when it is not there."""
    if not path.exists():
        return xr.Dataset()
    with xr.open_dataset(path, engine="netcdf4", decode_timedelta=False) as dataset:
        return dataset.load()


class MapsFile:
    """The maps of a scores folder, a group for each run (or the truth) and case; opened once, because that reads what all groups hold.

    Scores of earlier versions have a file for each in the folder ``maps``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = netCDF4.Dataset(folder / MAPS) if (folder / MAPS).exists() else None

    def read(self, run: str, case: str) -> xr.Dataset:
        """Maps VARIABLE__METRIC__SEASON__PERIOD (y, x) with lat and lon; an empty dataset when there are none."""
        name = map_group(run, case)
        if self._file is None:
            return read_maps(self._folder / "maps" / f"{name}.nc")
        if name not in self._file.groups:
            return xr.Dataset()
        group = self._file[name]
        group.set_auto_mask(False)
        arrays = {
            key: (
                one.dimensions,
                one[:],
                {about: one.getncattr(about) for about in one.ncattrs() if about not in ("_FillValue", "coordinates")},
            )
            for key, one in group.variables.items()
        }
        return xr.Dataset(arrays, attrs={key: group.getncattr(key) for key in group.ncattrs()}).set_coords(["lat", "lon"])
