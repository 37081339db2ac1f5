"""What downscale explain leaves: one CF file a run and case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from downscale.cf.calendar import encode_days
from downscale.grid.grid import Grid

TIME_UNITS = "days since 1850-01-01"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Of one run on one case; T targets, P perturbations, S seasons, n days.

    Attributes:
        days, calendar: that were looked at, yyyymmdd.
        seasons: names; the last one is "ANN": all days.
        channels, targets, units: names, names, and units of the targets.
        perturbations: name -> what is done.
        attribution: (T, S, C, H, W) mean absolute contribution of each predictor cell to a day's area mean.
        completeness: (T,) error of the integrated gradients, as a share.
        responses: (T, P, S, Y, X) mean change of the fields.
        daily_responses: (T, P, n) area means of a day's change.
        daily_means: (T, n) area means of a day's field.
    """

    days: np.ndarray
    calendar: str
    seasons: Sequence[str]
    channels: Sequence[str]
    targets: Sequence[str]
    units: Sequence[str]
    perturbations: Mapping[str, str]
    attribution: np.ndarray
    completeness: np.ndarray
    responses: np.ndarray
    daily_responses: np.ndarray
    daily_means: np.ndarray

    @property
    def importance(self) -> np.ndarray:
        """(T, S, C) share of each channel in the absolute contributions; NaN where there are none."""
        sums = self.attribution.sum(axis=(3, 4))
        total = sums.sum(axis=2, keepdims=True)
        return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def dataset_of(found: Explanation, coarse: Grid, fine: Grid) -> xr.Dataset:
    """The same as a CF dataset: maps of responses on the fine grid, of contributions on the coarse one."""
    dataset = fine.to_dataset()
    space = (fine.axes.y_name, fine.axes.x_name) if fine.axes is not None else ("y", "x")
    mapping = {"grid_mapping": "crs"} if "crs" in dataset.variables else {}
    dataset = dataset.assign_coords(
        season=("season", np.array(found.seasons, dtype=object), {"long_name": "season; ANN: all days that were looked at"}),
        channel=("channel", np.array(found.channels, dtype=object), {"long_name": "predictor channel"}),
        perturbation=("perturbation", np.array(list(found.perturbations), dtype=object), {"long_name": "change of the predictors"}),
        perturbation_words=("perturbation", np.array(list(found.perturbations.values()), dtype=object), {"long_name": "what is done"}),
        time=("time", encode_days(found.days, found.calendar), {"standard_name": "time", "units": TIME_UNITS, "calendar": found.calendar}),
        coarse_lat=(("coarse_y", "coarse_x"), coarse.lat, {"standard_name": "latitude", "units": "degrees_north"}),
        coarse_lon=(("coarse_y", "coarse_x"), coarse.lon, {"standard_name": "longitude", "units": "degrees_east"}),
    )
    for i, (name, unit) in enumerate(zip(found.targets, found.units, strict=True)):
        about = {
            f"attribution_{name}": (
                ("season", "channel", "coarse_y", "coarse_x"),
                found.attribution[i],
                {
                    "long_name": f"mean absolute contribution (integrated gradient) to the area mean of {name}",
                    "units": unit,
                    "completeness_error": float(found.completeness[i]),
                },
            ),
            f"importance_{name}": (
                ("season", "channel"),
                found.importance[i],
                {"long_name": f"share in the absolute contributions to {name}", "units": "1"},
            ),
            f"response_{name}": (
                ("perturbation", "season", *space),
                found.responses[i],
                {"long_name": f"change of {name} when the predictors are changed", "units": unit, **mapping},
            ),
            f"daily_response_{name}": (
                ("perturbation", "time"),
                found.daily_responses[i],
                {"long_name": f"area mean of the change of {name}", "units": unit},
            ),
            f"daily_mean_{name}": (("time",), found.daily_means[i], {"long_name": f"area mean of {name}", "units": unit}),
        }
        for key, (dims, values, attributes) in about.items():
            dataset[key] = (dims, np.asarray(values, np.float32), attributes)
    return dataset


def write_explanation(path: Path, dataset: xr.Dataset, attributes: Mapping[str, str], recipe: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, with its recipe."""
    dataset = dataset.assign_attrs({"Conventions": "CF-1.11", **attributes, "recipe": json.dumps(recipe, sort_keys=True)})
    plain: dict[Any, dict[str, Any]] = {name: {"_FillValue": None} for name in dataset.coords if dataset[name].dtype.kind == "f"}
    packed: dict[Any, dict[str, Any]] = {name: {"zlib": True, "complevel": 1} for name in dataset.data_vars if dataset[name].ndim > 2}
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.to_netcdf(partial, engine="netcdf4", encoding=plain | packed)
    partial.replace(path)


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The recipe of a file; None where there is none that can be read."""
    try:
        with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
            found = json.loads(str(dataset.attrs["recipe"]))
    except (OSError, ValueError, KeyError):
        return None
    return found if isinstance(found, dict) else None
