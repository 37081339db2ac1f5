"""The benchmark's diagnostics on the training years that were held out: what can be known before the organisers' own evaluation."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, InputDataError, OutputExistsError
from downscale.evaluate.mlbench.maps import SEASONS, Diagnostic, diagnose
from downscale.mlbench.pack import Emulated
from downscale.mlbench.plan import CONFIG
from downscale.mlbench.run import prediction_folder, run_experiments
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairGroup, PairStore
from downscale.profiles.mlbench import TARGETS

log = logging.getLogger(__name__)
TABLE = "scores.csv"
_COLUMNS = ("domain", "experiment", "variable", "season", "metric", "value", "days", "members")
HEADLINE = (("tasmax", "rmse_time"), ("tasmax", "bias_mean"), ("tasmax", "bias_q98"), ("tasmax", "bias_txx"), ("pr", "rmse_time"),
            ("pr", "bias_mean"), ("pr", "bias_sdii"), ("pr", "bias_rx1day"))  # fmt: skip
"""Figures on the screen: RMSE, and spatial means of absolute biases."""


@dataclass(frozen=True)
class _Case:
    """A domain and training experiment with its held-out days."""

    domain: str
    experiment: str
    folder: Path
    group: PairGroup
    shape: tuple[int, int]


def score_benchmark(
    workspace: Path, output: Path | None = None, *, seasons: Sequence[str] = tuple(SEASONS), overwrite: bool = False
) -> dict[str, Any]:
    """Score every emulator of a workspace of ``mlbench run`` on its test years.

    Args:
        workspace: with a folder for each domain.
        output: folder of the scores; ``workspace/scores`` when None.
        seasons: of SEASONS.
        overwrite: replace scores.

    Returns:
        ``artefact`` (the folder) and a line for each domain and experiment.

    Raises:
        ConfigError: a season that there is not.
        InputDataError: not such a workspace, or a prediction is missing.
        OutputExistsError: scores are there already.
    """
    unknown = [name for name in seasons if name not in SEASONS]
    if unknown:
        raise ConfigError(f"there is no '{unknown[0]}'", where="--season", hint=f"have {', '.join(SEASONS)}")
    folder = output or workspace / "scores"
    table = folder / TABLE
    if table.exists() and not overwrite:
        raise OutputExistsError("there are scores already", where=str(table), hint="--overwrite, or another -o")
    cases = _cases(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    lines = {}
    for case in cases:
        own, values = _score(case, folder, seasons)
        rows += own
        lines[f"{case.domain}, {case.experiment}"] = values
    partial = table.with_name(f"{TABLE}.partial")
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(table)
    return {"artefact": folder, "scores": len(rows), **lines}


def _cases(workspace: Path) -> list[_Case]:
    configs = sorted(workspace.glob(f"*/{CONFIG}"))
    if not configs:
        raise InputDataError("no domain of ML-Bench is here", where=str(workspace), hint="give NAME-work of downscale mlbench run")
    cases = []
    for path in configs:
        cfg = load_config(path)
        store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
        cases += [_case(path.parent.name, cfg, store, name) for name in run_experiments(cfg)]
    return cases


def _case(domain: str, cfg: ExperimentConfig, store: PairStore, experiment: str) -> _Case:
    return _Case(domain, experiment, prediction_folder(cfg, experiment, experiment), store.group(experiment), store.fine.shape)


def _score(case: _Case, folder: Path, seasons: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the table and the headline; the maps go to a file of their own."""
    index = case.group.split("test")
    days = case.group.days[index]
    with Emulated.at(case.folder) as emulated:
        place = np.searchsorted(emulated.days, days)
        if not len(days) or place.max(initial=0) >= len(emulated.days) or not np.array_equal(emulated.days[place], days):
            raise InputDataError(
                f"the prediction does not hold the {len(days)} test days", where=str(case.folder), hint="run downscale mlbench run again"
            )
        members = emulated.members
        prediction = {name: _one_field(emulated.read(name, int(place[0]), int(place[-1]) + 1)[place - place[0]]) for name in TARGETS}
    truth = dict(zip(case.group.targets, np.moveaxis(case.group.target(index), 1, 0), strict=True))
    whole = np.all([np.isfinite(field).reshape(len(days), -1).any(axis=1) for field in prediction.values()], axis=0)
    if not whole.all():
        log.warning("%s, %s: %d day(s) without a prediction do not count", case.domain, case.experiment, int((~whole).sum()))
    found = list(diagnose({n: truth[n][whole] for n in TARGETS}, {n: f[whole] for n, f in prediction.items()}, days[whole], tuple(seasons)))
    _write_maps(folder / f"maps_{case.domain}_{case.experiment}.nc", found, case)
    rows = [
        {
            "domain": case.domain,
            "experiment": case.experiment,
            "variable": one.variable,
            "season": one.season,
            "metric": one.name,
            "value": f"{one.scalar:.7g}",
            "days": int(whole.sum()),
            "members": members,
        }
        for one in found
        if one.scalar is not None
    ]
    values = {(one.variable, one.name): one.scalar for one in found if one.season == "all"}
    return rows, ", ".join(f"{variable} {name} {values[variable, name]:.3g}" for variable, name in HEADLINE if (variable, name) in values)


def _one_field(fields: np.ndarray) -> np.ndarray:
    """A day's field: the first member where there are several, as a mean of members is smoother than any weather."""
    return fields[:, 0] if fields.ndim == 4 else fields


def _write_maps(path: Path, found: Sequence[Diagnostic], case: _Case) -> None:
    """Maps and spectra, named METRIC__VARIABLE__SEASON."""
    partial = path.with_name(f"{path.name}.partial")
    with netCDF4.Dataset(partial, "w", format="NETCDF4") as file:
        file.title = f"ML-Bench diagnostics of {case.domain}, {case.experiment} on held-out days"
        for name, length in zip(("y", "x"), case.shape, strict=True):
            file.createDimension(name, length)
        for one in found:
            if one.values.ndim == 0:
                continue
            dims = ("y", "x") if one.values.ndim == 2 else ("ring",)
            if "ring" in dims and "ring" not in file.dimensions:
                file.createDimension("ring", len(one.values))
            field = file.createVariable(
                f"{one.name}__{one.variable}__{one.season}", "f4" if len(dims) == 2 else "f8", dims, fill_value=np.nan, zlib=True
            )
            field[:] = one.values
    partial.replace(path)
