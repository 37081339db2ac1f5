"""The run folder: everything that applying an emulator takes, and nothing that has to be unpickled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from downscale.config.load import differences
from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.grid.cells import Edges
from downscale.grid.grid import Grid, same_grid
from downscale.models.emulator import Emulator
from downscale.models.registry import build
from downscale.training.assemble import resolve_device
from downscale.training.card import MODEL_CARD, model_card
from downscale.training.checkpoint import sha256, write_json, write_tensors, write_text
from downscale.training.scaling import check_scaling, scaling_digest
from downscale.variables import TABLE, Channel

SCHEMA_VERSION = 1
WEIGHTS, CARD, GRIDS, DONE = "model.safetensors", "model.json", "grids.nc", "DONE"
_MAY_BE_NAN = ("target.mean", "target.std")


@dataclass(frozen=True)
class Run:
    """A finished run, loaded.

    Attributes:
        path: the folder.
        spec: what the emulator was built from: channels, targets, scalars, shapes, units, transforms, model.
        emulator: on ``device``, in evaluation mode.
        coarse, fine: the grids of input and output.
        card: model.json.
    """

    path: Path
    spec: dict[str, Any]
    emulator: Emulator
    coarse: Grid
    fine: Grid
    card: dict[str, Any]
    device: torch.device

    @cached_property
    def channels(self) -> list[Channel]:
        """Input channels in order."""
        levels = {name: self.spec["levels_hpa"].get(name) for name in self.spec["channels"]}
        return [Channel(name.removesuffix(str(level or "")), level) for name, level in levels.items()]

    @property
    def targets(self) -> list[str]:
        """Names of the emulated fields."""
        return list(self.spec["targets"])

    @property
    def forcing_columns(self) -> list[str]:
        """Columns of the forcing CSV that the run reads."""
        return [name for name in self.spec["scalars"] if not name.startswith("season_")]

    @property
    def needs_surface(self) -> bool:
        """Whether the coarse same-name fields are read (bilinear only)."""
        return bool(self.spec["model"]["name"] == "bilinear")

    @property
    def smooth(self) -> int:
        """Smoothing of the coarse fields in training: 1 none, 3 a 3 x 3 moving average."""
        return int(self.card["smooth"])

    @property
    def min_valid_fraction(self) -> float:
        """Valid share below which an upscaled coarse cell is missing."""
        return float(self.card["min_valid_fraction"])

    @property
    def edges(self) -> Edges:
        """What the edges of cells were taken for when training fields were upscaled."""
        found: Edges = self.card["edges"]
        return found

    @property
    def model_id(self) -> str:
        """Name and the first 12 digits of the weights' sha256."""
        return f"{self.path.name}-{self.card['weights_sha256'][:12]}"

    @property
    def config_digest(self) -> str:
        """sha256 of the training config."""
        return str(self.card["config_sha256"])

    @property
    def normaliser(self) -> dict[str, Any]:
        """normaliser.json: training statistics by channel."""
        return dict(json.loads((self.path / "normaliser.json").read_text()))

    @property
    def facts(self) -> dict[str, Any]:
        """What predictions say about the run: model, role ("emulator" or "baseline"), mode, trained_on, from, shots (years)."""
        years = [year for chosen in self.card["recipe"].get("years", {}).values() for year in chosen]
        names = {key: self.card[key] for key in ("role", "mode", "trained_on")}
        return {"model": self.spec["model"]["name"], **names, "from": self.card.get("source_run"), "shots": len(years) or None}

    def check_inputs(
        self, channels: Sequence[str], coarse: Grid | None = None, scalars: Sequence[str] | None = None, *,
        units: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Nothing when an input fits the run.

        Args:
            channels: names in order, e.g. zg500.
            coarse: grid of the maps; not compared when None.
            scalars: names in order; not compared when None.
            units: of each channel; not compared when None.

        Raises:
            InputDataError: with a line for each difference.
        """
        findings = _names_apart("channel", self.spec["channels"], list(channels))
        if scalars is not None:
            findings += _names_apart("number", self.spec["scalars"], list(scalars))
        for name, unit in (units or {}).items():
            if name in self.spec["units"] and unit != self.spec["units"][name]:
                findings.append(f"units of {name}: run {self.spec['units'][name]}, input {unit}")
        if coarse is not None and not same_grid(self.coarse, coarse):
            findings.append(f"coarse grid: run {self.coarse.summary}; input {coarse.summary}")
        if findings:
            raise InputDataError(
                "the run was trained on other inputs than these",
                where=str(self.path),
                hint="give the channels and levels below, or use a run trained on yours",
                findings=findings,
            )


def load_run(path: Path, *, device: str = "auto") -> Run:
    """Load a finished run folder.

    Raises:
        InputDataError: not a finished run, or its files are damaged, foreign or do not fit together.
        EnvironmentMissingError: it was written by a newer version.
    """
    card = read_card(path)
    try:
        spec = card["spec"]
        _require_variables(spec, path)
        emulator = build(spec)
        load_weights(emulator, path / WEIGHTS)
        check_scaling(emulator, card, path)
        coarse, fine = (Grid.from_dataset(_open_group(path / GRIDS, name)) for name in ("coarse", "fine"))
        if [list(coarse.shape), list(fine.shape)] != [spec["coarse_shape"], spec["fine_shape"]]:
            raise InputDataError("the grids do not fit the model", where=str(path / GRIDS), hint="copy the run folder again")
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise InputDataError(
            f"the run folder is damaged: {type(error).__name__}: {error}", where=str(path), hint="copy it again, or train again"
        ) from None
    where = resolve_device(device)
    emulator.to(where).eval()
    return Run(path, spec, emulator, coarse, fine, card, where)


def _require_variables(spec: Mapping[str, Any], path: Path) -> None:
    """Targets become file names: only those of the variable table."""
    unknown = [name for name in spec["targets"] if name not in TABLE]
    if unknown:
        raise InputDataError(
            f"the run's targets are not in the variable table: {', '.join(map(repr, unknown[:3]))}",
            where=str(path / CARD),
            hint="copy the run folder again, or update downscale-rcm",
        )


def read_card(path: Path) -> dict[str, Any]:
    """model.json of a finished run.

    Raises:
        InputDataError: there is none, or the run is not finished.
        EnvironmentMissingError: written by a newer version.
    """
    if not (path / CARD).is_file() or not (path / DONE).is_file():
        state = "is not finished: run the same train command again" if (path / "state").is_dir() else "has no model.json and DONE"
        raise InputDataError(f"this is not a finished run: it {state}", where=str(path), hint="give a folder WORKSPACE/runs/NAME")
    try:
        card = json.loads((path / CARD).read_text())
        version = int(card["schema_version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputDataError("model.json cannot be read", where=str(path / CARD), hint="copy the run folder again") from None
    if version > SCHEMA_VERSION:
        raise EnvironmentMissingError(
            f"the run has format {version}, this version reads up to {SCHEMA_VERSION}",
            where=str(path),
            hint=f"update downscale-rcm (the run was written by {card.get('downscale_version', 'a newer version')})",
        )
    return dict(card)


def load_weights(emulator: Emulator, path: Path) -> None:
    """Fill an emulator from a safetensors file; anything else is refused, nothing is ever unpickled.

    Raises:
        InputDataError: another format, or the first tensor whose name, shape, type or values do not fit.
    """
    hint = "the file belongs to another model or is damaged: copy the run folder again"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputDataError(
            f"not a safetensors file: {str(error).splitlines()[0]}",
            where=str(path),
            hint="weights are read from safetensors only; pickled checkpoints are refused",
        ) from None
    wanted = emulator.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        problem = _misfit(name, wanted.get(name), tensors.get(name))
        if problem:
            raise InputDataError(problem, where=str(path), hint=hint)
    emulator.load_state_dict(tensors)


def write_run(path: Path, emulator: Emulator, grids: tuple[Grid, Grid], card: Mapping[str, Any], normaliser: Mapping[str, Any]) -> None:
    """Publish a finished run: weights, grids, model card, normaliser, model.json, and DONE last of all."""
    digest = write_tensors(path / WEIGHTS, emulator.state_dict())
    partial = path / f"{GRIDS}.partial"
    grids[0].to_dataset().to_netcdf(partial, group="coarse", mode="w", engine="netcdf4")
    grids[1].to_dataset().to_netcdf(partial, group="fine", mode="a", engine="netcdf4")
    partial.replace(path / GRIDS)
    facts = {"schema_version": SCHEMA_VERSION, "spec": emulator.spec, "weights_sha256": digest, "scaling_sha256": scaling_digest(emulator)}
    missing = int(torch.isnan(emulator.target.mean).all(0).sum())
    write_text(path / MODEL_CARD, model_card(path.name, {**facts, **card}, normaliser, missing_cells=missing))
    write_json(path / "normaliser.json", dict(normaliser))
    write_json(path / CARD, {**facts, **card})
    write_json(path / DONE, {"weights_sha256": sha256(path / WEIGHTS)})


def find_run(workspace: Path, run: str | Path) -> Path:
    """A run by its name in the workspace or by its path.

    Raises:
        InputDataError: there is none.
    """
    inside = workspace / "runs" / str(run)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(run)) and inside.is_dir():
        return inside
    if Path(run).is_dir():
        return Path(os.path.abspath(run))  # noqa: PTH100 - a name of its own for '..', without following links
    raise InputDataError(
        f"there is no run '{run}'",
        where=f"runs here: {', '.join(path.name for path in list_runs(workspace)) or 'none'}",
        hint="give a name in the workspace or the path of a run folder",
    )


def list_runs(workspace: Path, runs: Sequence[str] = ()) -> list[Path]:
    """Folders of the named runs (names or paths), or of all finished runs of a workspace, sorted."""
    if runs:
        return [find_run(workspace, run) for run in runs]
    return sorted(path.parent for path in (workspace / "runs").glob(f"*/{DONE}"))


def same_weights_space(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Differences between two specs that keep one's weights from the other's data (names, shapes, units)."""
    keys = ("channels", "targets", "scalars", "coarse_shape", "fine_shape", "units")
    return differences({key: first[key] for key in keys}, {key: second[key] for key in keys})


def _open_group(path: Path, name: str) -> xr.Dataset:
    with xr.open_dataset(path, group=name, engine="netcdf4") as dataset:
        return dataset.load()


def _names_apart(what: str, wanted: list[str], given: list[str]) -> list[str]:
    if wanted == given:
        return []
    findings = [f"{what} {name}: the run needs it, the input lacks it" for name in wanted if name not in given]
    findings += [f"{what} {name}: the run does not know it" for name in given if name not in wanted]
    return findings or [f"order of {what}s: run {', '.join(wanted)}; input {', '.join(given)}"]


def _misfit(name: str, wanted: Tensor | None, given: Tensor | None) -> str:
    if wanted is None or given is None:
        return f"tensor '{name}' is {'not part of this model' if wanted is None else 'missing'}"
    if wanted.shape != given.shape or wanted.dtype != given.dtype:
        return f"tensor '{name}' is {given.dtype} {tuple(given.shape)}, the model needs {wanted.dtype} {tuple(wanted.shape)}"
    if name not in _MAY_BE_NAN and given.is_floating_point() and not bool(torch.isfinite(given).all()):
        return f"tensor '{name}' holds {int((~torch.isfinite(given)).sum())} values that are not finite"
    return ""
