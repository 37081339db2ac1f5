"""A context of evaluate on groups in memory, for diagnostics of what goes into an emulator."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr

from downscale.cf.calendar import encode_days, expected_days
from downscale.config.evaluate import EvaluateConfig
from downscale.evaluate.context import Context, Region, Sources
from downscale.evaluate.predictions import find_predictions
from downscale.grid.grid import lonlat_grid
from downscale.variables import lookup

FINE = (3, 4)


class Group:
    """A pair group of arrays; predictors (time, channel, y, x)."""

    def __init__(self, name, days, fields, *, truth=None, calendar="noleap", splits=None, targets=("tasmax",)):
        self.name, self.days, self.fields, self.calendar, self.targets = name, np.asarray(days), fields, calendar, targets
        self.truth, self.kinds = truth, tuple(fields)
        self.splits = {"train": np.arange(0), "validation": np.arange(0), "test": np.arange(len(days)), **(splits or {})}
        self.attributes = {"notes": []}

    @property
    def has_truth(self):
        return self.truth is not None

    def predictors(self, kind, index):
        return self.fields[kind][index]

    def target(self, index):
        return self.truth[index]

    def split(self, name):
        return self.splits[name]


def years_of(first, last, calendar="noleap"):
    """All days of whole years."""
    return expected_days(first * 10000 + 101, last * 10000 + (1230 if calendar == "360_day" else 1231), calendar)


def make_context(
    folder: Path, groups, *, channels=("zg500",), coarse=(6, 6), train_on=("R/perfect",), predictions=True, area=None, **evaluate
):
    """A context on the groups; predictions are those that lie below the folder."""
    store = SimpleNamespace(
        groups={group.name: group for group in groups},
        coarse=lonlat_grid(np.linspace(40, 40 + coarse[0], coarse[0] + 1), np.linspace(0, coarse[1], coarse[1] + 1)),
        fine=lonlat_grid(np.linspace(41, 44, FINE[0] + 1), np.linspace(1, 5, FINE[1] + 1)),
        channels=list(channels),
        targets=["tasmax"],
        static={},
        recipe={},
    )
    found = find_predictions(folder / "predictions") if (folder / "predictions").exists() else []
    region = Region("all", np.ones(FINE) if area is None else area)
    options = EvaluateConfig.model_validate(evaluate).model_dump()
    (folder / "scores").mkdir(exist_ok=True)
    return Context(store, found, region, options, 1, tuple(train_on), Sources(), folder, folder / "scores")


def rows_of(context, table):
    """Rows of a table; none when it was not made."""
    return context.tables.get(table, ((), []))[1]


def write_prediction(
    folder: Path, run, group, kind, days, values, *, series=None, role="emulator", model="resunet", features=None, name="tasmax"
):
    """A prediction of one variable (time, y, x) with numbers a day: name -> (values, threshold)."""
    name = "tasmax"
    path = folder / "predictions" / run / f"{group.name}_{kind}"
    path.mkdir(parents=True, exist_ok=True)
    time = ("time", encode_days(np.asarray(days), group.calendar), {"units": "days since 1850-01-01", "calendar": group.calendar})
    data = {name: (("time", "y", "x"), np.asarray(values, np.float32), {"units": lookup(name).file_units})}
    for key, (one, threshold) in (series or {}).items():
        data[key] = ("time", np.asarray(one, np.float32), {"units": "1", "threshold": np.float32(threshold)})
    xr.Dataset(data, coords={"time": time}).to_netcdf(path / f"{name}.nc", engine="netcdf4")
    facts = {
        "run": run, "group": group.name, "kind": kind, "variables": [name], "digest": "0", "role": role, "model": model,
        "mode": "pretrain", "trained_on": ["R/perfect"], "recipe": {"model_id": f"{run}-1"}, "feature_files": features or [],
    }  # fmt: skip
    (path / "prediction.json").write_text(json.dumps(facts))
    return path
