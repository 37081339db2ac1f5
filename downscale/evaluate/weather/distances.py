"""What apply has written about each day of a prediction: how far it is from the days that its run has learned from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from downscale.cf.calendar import canonical, decode_days
from downscale.evaluate.context import Context
from downscale.evaluate.predictions import Prediction

log = logging.getLogger(__name__)
SPACES = {"pca": "ood_score", "features": "ood_score_features"}
"""Space of a distance -> name in the files: principal components of the predictors, and the network's narrowest features."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of the days of a prediction.

    Attributes:
        days: (n,) yyyymmdd, sorted.
        scores: space -> (n,) Mahalanobis distance, NaN for a day that could not be read.
        thresholds: space -> distance above which a day is flagged.
    """

    days: np.ndarray
    scores: Mapping[str, np.ndarray]
    thresholds: Mapping[str, float]

    def known(self, space: str) -> np.ndarray:
        """(n,) days that have a distance."""
        return np.isfinite(self.scores[space])

    def flagged(self, space: str) -> np.ndarray:
        """(n,) days that are farther than the threshold."""
        return np.nan_to_num(self.scores[space], nan=-np.inf) > self.thresholds[space]

    @property
    def any_flagged(self) -> np.ndarray:
        """(n,) days that are flagged in one of the spaces."""
        return np.any([self.flagged(space) for space in self.scores], axis=0)


def distances_of(context: Context, prediction: Prediction) -> Distances | None:
    """As read_distances; read once an evaluation."""
    known: dict[str, Distances | None] = context.kept.setdefault("distances", {})
    key = f"{prediction.run} {prediction.case}"
    if key not in known:
        known[key] = read_distances(prediction)
    return known[key]


def read_distances(prediction: Prediction) -> Distances | None:
    """The distances beside a prediction; None where there are none: a baseline or, with a line in the log, one of an earlier version."""
    parts = [part for path in _files(prediction) if (part := _read(path)) is not None]
    if not parts:
        if prediction.role != "baseline":
            log.info("%s on %s: its files say nothing about distances from the training days", prediction.run, prediction.case)
        return None
    days, first = np.unique(np.concatenate([part.days for part in parts]), return_index=True)
    spaces = [space for space in SPACES if all(space in part.scores for part in parts)]
    scores = {space: np.concatenate([part.scores[space] for part in parts])[first] for space in spaces}
    return Distances(days, scores, {space: parts[0].thresholds[space] for space in spaces})


def _files(prediction: Prediction) -> list[Path]:
    """Files that may hold series: those of an archive stand in a folder of their own."""
    beside = sorted(prediction.folder.glob("series/*.nc"))
    return beside or prediction.paths(prediction.variables[0])


def _read(path: Path) -> Distances | None:
    try:
        dataset = xr.open_dataset(path, decode_times=False, engine="zarr" if path.suffix == ".zarr" else "netcdf4")
    except (OSError, ValueError):
        return None
    with dataset:
        found = {space: dataset[name] for space, name in SPACES.items() if name in dataset and "threshold" in dataset[name].attrs}
        if "pca" not in found:
            return None
        time = dataset["time"]
        days = decode_days(np.asarray(time.values), str(time.attrs["units"]), canonical(str(time.attrs.get("calendar", "standard"))))
        scores = {space: np.asarray(series.values, np.float64) for space, series in found.items()}
        return Distances(np.asarray(days), scores, {space: float(np.ravel(one.attrs["threshold"])[0]) for space, one in found.items()})
