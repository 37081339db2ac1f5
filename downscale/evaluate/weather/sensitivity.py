"""What drives an emulator (T9), from the files of downscale explain: responses to perturbed predictors, importance of each channel."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from downscale.cf.calendar import canonical, decode_days
from downscale.evaluate.context import Context
from downscale.evaluate.metrics.bootstrap import no_interval, resampling, why_not
from downscale.evaluate.metrics.change import is_relative
from downscale.evaluate.predictions import MANIFEST, Prediction
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.variables import lookup

log = logging.getLogger(__name__)
FOLDER = "explain"
COLUMNS = ("run", "case", "perturbation", "variable", "season", "response", "lower", "upper", "unit", "n_days", "n_years", "relative")
CHANNEL_COLUMNS = ("run", "case", "variable", "channel", "importance", "rank", "n_days")
RANK_COLUMNS = ("run", "variable", "case", "other", "spearman", "n_channels")


@dataclass(frozen=True, eq=False)
class Explained:
    """What downscale explain found for one run on one case.

    Attributes:
        table: the days that were looked at.
        perturbations, channels, variables: names.
        responses: variable -> (perturbation, n) area mean of the change of a day's field.
        base: variable -> (n,) area mean of the field itself.
        importance: variable -> (channel,) shares that add up to 1.
        units: variable -> unit.
    """

    table: TimeTable
    perturbations: list[str]
    channels: list[str]
    responses: Mapping[str, np.ndarray]
    base: Mapping[str, np.ndarray]
    importance: Mapping[str, np.ndarray]
    units: Mapping[str, str]


def explain_file(workspace: Path, prediction: Prediction) -> Path:
    """Where downscale explain leaves its file for a run and a case."""
    return workspace / FOLDER / prediction.run / f"{prediction.group}_{prediction.kind}.nc"


def explained_inputs(workspace: Path, predictions: Sequence[Prediction]) -> dict[str, dict[str, str]]:
    """What the recipe of the scores says about the files of downscale explain: their checksums; nothing where there are none."""
    paths = {f"{one.run}/{one.group}_{one.kind}": explain_file(workspace, one) for one in predictions}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items() if path.exists()}
    return {"explained": found} if found else {}


def read_explained(context: Context, prediction: Prediction) -> Explained | None:
    """The file of a prediction's run and case; None, with a line in the log, where it is of another training of that name."""
    path = explain_file(context.workspace, prediction)
    if not path.exists():
        return None
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
        explained, predicted = str(dataset.attrs.get("downscale_model_id", "")), _model_id(prediction)
        if predicted and explained != predicted:
            log.warning("%s is of %s, the prediction of %s: run downscale explain again", path, explained, predicted)
            return None
        calendar = canonical(str(dataset["time"].attrs["calendar"]))
        days = np.asarray(decode_days(np.asarray(dataset["time"].values), str(dataset["time"].attrs["units"]), calendar))
        names = [name for name in prediction.variables if f"importance_{name}" in dataset]
        return Explained(
            TimeTable(days, calendar, context.year_starts),
            [str(name) for name in dataset["perturbation"].values],
            [str(name) for name in dataset["channel"].values],
            {name: np.asarray(dataset[f"daily_response_{name}"].values, np.float64) for name in names},
            {name: np.asarray(dataset[f"daily_mean_{name}"].values, np.float64) for name in names},
            {name: np.asarray(dataset[f"importance_{name}"].sel(season="ANN").values, np.float64) for name in names},
            {name: str(dataset[f"daily_response_{name}"].attrs["units"]) for name in names},
        )


def _model_id(prediction: Prediction) -> str:
    try:
        return str(json.loads((prediction.folder / MANIFEST).read_text())["recipe"]["model_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def diagnose(context: Context) -> None:
    """Tables sensitivity, attribution and attribution_rank, of the runs and cases that downscale explain has looked at."""
    found = {(one.run, one.case): explained for one in context.predictions if (explained := read_explained(context, one)) is not None}
    for (run, case), explained in found.items():
        whose = {"run": run, "case": case}
        context.extend("sensitivity", COLUMNS, [whose | row for row in response_rows(explained)])
        context.extend("attribution", CHANNEL_COLUMNS, [whose | row for row in channel_rows(explained)])
    for run in dict.fromkeys(run for run, _ in found):
        cases = {case: explained for (one, case), explained in found.items() if one == run}
        context.extend("attribution_rank", RANK_COLUMNS, [{"run": run} | row for row in rank_rows(cases)])


def response_rows(explained: Explained) -> Iterator[dict[str, Any]]:
    """Mean response of each variable to each perturbation by season, with a 95 % interval from whole years."""
    for selection in explained.table.selections:
        if selection.period != ALL_PERIODS:
            continue
        for name, responses in explained.responses.items():
            base = float(np.nanmean(explained.base[name][selection.rows]))
            for perturbation, daily in zip(explained.perturbations, responses, strict=True):
                response, lower, upper = _mean(daily, explained.table, selection)
                yield {
                    "perturbation": perturbation,
                    "variable": name,
                    "season": selection.season,
                    "response": response,
                    "lower": lower,
                    "upper": upper,
                    "unit": explained.units[name],
                    "n_days": len(selection.rows),
                    "n_years": len(selection.years),
                    "relative": response / base if is_relative(lookup(name)) and base > 0 else np.nan,
                }


def _mean(daily: np.ndarray, table: TimeTable, selection: Selection) -> tuple[float, float, float]:
    values, year = daily[selection.rows], table.year_of(selection)
    known = np.isfinite(values)
    sums, days = (np.array([one[year == some].sum() for some in selection.years]) for one in (np.where(known, values, 0.0), known))
    if not days.sum():
        return np.nan, np.nan, np.nan
    reason = why_not(selection.strata)
    if reason:
        bounds = no_interval(reason)
    else:
        weights = resampling(selection.strata).weights
        bounds = resampling(selection.strata).interval((weights @ sums) / np.maximum(weights @ days, 1e-12))
    return float(sums.sum() / days.sum()), bounds.lower, bounds.upper


def channel_rows(explained: Explained) -> Iterator[dict[str, Any]]:
    """Importance of each channel, and its rank (1: the most important)."""
    for name, importance in explained.importance.items():
        rank = np.argsort(np.argsort(-np.nan_to_num(importance), kind="stable"), kind="stable") + 1
        for channel, value, place in zip(explained.channels, importance.tolist(), rank.tolist(), strict=True):
            yield {"variable": name, "channel": channel, "importance": value, "rank": place, "n_days": len(explained.table.days)}


def rank_rows(cases: Mapping[str, Explained]) -> Iterator[dict[str, Any]]:
    """Spearman correlation of the channels' importances between each two cases of a run; NaN with fewer than three channels."""
    for (case, one), (other, two) in combinations(cases.items(), 2):
        for name in one.importance:
            if name in two.importance and one.channels == two.channels:
                value = _spearman(one.importance[name], two.importance[name])
                yield {"variable": name, "case": case, "other": other, "spearman": value, "n_channels": len(one.channels)}


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 3 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return float("nan")
    return float(spearmanr(one[known], other[known]).statistic)
