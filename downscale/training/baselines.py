"""The mandatory baselines as runs of their own: fitted once, used again while their recipe is the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from downscale import __version__
from downscale.config.load import digest, dump_yaml
from downscale.config.schema import ExperimentConfig
from downscale.errors import OutputExistsError
from downscale.hpc.locks import folder_lock
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.models.kernel_ridge import KernelRidge
from downscale.models.linear import Climatology, Ridge
from downscale.models.registry import input_channels
from downscale.pairs.normalise import Statistics
from downscale.pairs.store import PairStore
from downscale.training.assemble import input_days, map_names, model_spec, new_emulator, statistics_summary
from downscale.training.folder import log_to, standing, write_start
from downscale.training.kernel_ridge import check_days, fit_kernel_ridge, kernel_sizes
from downscale.training.novelty import fit_novelty
from downscale.training.plan import models_behind, pairs_facts, tag
from downscale.training.ridge import Days, fit_climatology, fit_ridge
from downscale.training.run import load_run, write_run
from downscale.training.samples import Holes, Portion, choosing_portions, split_portions, stream_samples, whole_portions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ground:
    """What everything that is learned from the same pairs shares: config, store, days and their statistics.

    ``choosing`` are the training days from which candidates are fitted that the validation days judge: all of them, or with
    ``split.refit`` those that are not validation days too.
    """

    cfg: ExperimentConfig
    store: PairStore
    train: Sequence[Portion]
    choosing: Sequence[Portion]
    validation: Sequence[Portion]
    statistics: Statistics

    @classmethod
    def of(cls, cfg: ExperimentConfig, store: PairStore, statistics: Statistics) -> Ground:
        """The ground of ``train.on``; validation days that the models cannot read are left out where the policy allows it.

        Raises:
            ConfigError: too many days for kernel_ridge.
        """
        train, validation = (split_portions(store, cfg.train.on, split) for split in ("train", "validation"))
        if "kernel_ridge" in cfg.train.baselines:
            check_days(sum(len(portion.index) for portion in train))
        holes = Holes.of(model_spec(cfg, store, {"name": "ridge"}, statistics))
        choose = choosing_portions(train, validation, cfg.split.gap_days) if cfg.split.refit else train
        return cls(cfg, store, train, choose, whole_portions(validation, holes, policy=cfg.missing.nan_days), statistics)

    @property
    def refit(self) -> Sequence[Portion] | None:
        """The days to fit to once the choice is made, where they are others than ``choosing``."""
        return self.train if self.cfg.split.refit else None

    def card(self, *, mode: str, role: str, trained_on: Sequence[str], recipe: dict[str, Any]) -> dict[str, Any]:
        """The part of model.json that says where the run comes from."""
        card = run_card(
            self.cfg,
            mode=mode,
            role=role,
            trained_on=trained_on,
            recipe=recipe,
            statistics=self.statistics.digest,
            calendars=calendars_of(self.store, self.cfg.train.on),
        )
        return {**card, "emulates": models_behind(self.cfg, self.store, self.cfg.train.on)}


def calendars_of(store: PairStore, on: Sequence[str], source: Mapping[str, Any] | None = None) -> list[str]:
    """Calendars of the pairs that are learned from, and of those of the run that is gone on from, where its model.json says so."""
    return sorted({store.group(case.partition("/")[0]).calendar for case in on} | set((source or {}).get("calendars", ())))


def run_card(
    cfg: ExperimentConfig,
    *,
    mode: str,
    role: str,
    trained_on: Sequence[str],
    recipe: dict[str, Any],
    statistics: str,
    calendars: Sequence[str],
) -> dict[str, Any]:
    """Provenance for model.json; ``statistics`` is the digest of the training statistics in the weights."""
    return {
        "mode": mode,
        "role": role,
        "trained_on": list(trained_on),
        "calendars": list(calendars),
        "recipe": recipe,
        "statistics_digest": statistics,
        "config_sha256": digest(cfg),
        "split": {name: list(getattr(cfg.split, name)) for name in ("train", "validation", "test")},
        "smooth": cfg.upscale.smooth,
        "min_valid_fraction": cfg.upscale.min_valid_fraction,
        "edges": cfg.upscale.edges,
        "downscale_version": __version__,
    }


def baseline_path(cfg: ExperimentConfig, name: str) -> Path:
    """Run folder of a baseline of ``train.on``."""
    return cfg.workspace_path() / "runs" / f"{name}-{tag(cfg.train.on)}"


def baseline_recipe(cfg: ExperimentConfig, store: PairStore, name: str) -> dict[str, Any]:
    """All that decides a baseline."""
    recipe: dict[str, Any] = {"mode": "baseline", "model": name, **input_days(cfg, {"name": name}), **pairs_facts(store, cfg.train.on)}
    if name != "bilinear":
        recipe["targets"] = cfg.normalise.model_dump()["targets"]
    if name == "ridge":
        recipe["alphas"] = cfg.ridge.alphas
    if name in ("ridge", "kernel_ridge") and cfg.normalise.detrend:
        recipe["detrend"] = cfg.normalise.detrend
    if name == "kernel_ridge":
        recipe["kernel_ridge"] = cfg.kernel_ridge.model_dump()
    if cfg.split.refit:
        recipe["refit"] = True
    return recipe


def train_baseline(ground: Ground, name: str, *, overwrite: bool = False, force_unlock: bool = False) -> str:
    """Fit one baseline into its run folder, unless it is there already.

    Args:
        ground: days and statistics.
        name: "bilinear", "climatology", "ridge" or "kernel_ridge".
        overwrite: replace one of another recipe (one of the same is kept).
        force_unlock: take over a dead job's lock.

    Returns:
        a line for the summary.

    Raises:
        OutputExistsError: a baseline of another recipe is there.
    """
    path, recipe = baseline_path(ground.cfg, name), baseline_recipe(ground.cfg, ground.store, name)
    if _complete(path, recipe):
        return f"{path.name}: complete already"
    standing(path, recipe, overwrite=overwrite)
    with folder_lock(path, force=force_unlock):
        write_start(path, dump_yaml(ground.cfg), recipe, torch.device("cpu"))
        with log_to(path):
            spec = _spec(ground, name)
            emulator = new_emulator(spec, ground.store, ground.statistics)
            notes: dict[str, Any] = {}
            if isinstance(emulator.net, Climatology):
                fit_climatology(emulator.net, _days(emulator, ground.train))
            elif isinstance(emulator.backbone, KernelRidge):
                notes = {"kernel_ridge": _fit_kernel_ridge(ground, emulator, emulator.backbone)}
            elif emulator.backbone is not None:
                notes = {"ridge": fit_backbone(ground, emulator, emulator.backbone)}
            card = ground.card(mode="baseline", role="baseline", trained_on=ground.cfg.train.on, recipe=recipe)
            known = fit_novelty(emulator, ground.train, ground.validation) if emulator.backbone is not None else None
            if known is not None:
                card["novelty"] = known.write(path)
            write_run(
                path, emulator, (ground.store.coarse, ground.store.fine), {**card, **notes}, statistics_summary(spec, ground.statistics)
            )
            log.info("%s: fitted", path.name)
    return f"{path.name}: fitted"


def fit_backbone(ground: Ground, emulator: Emulator, ridge: Ridge) -> dict[str, Any]:
    """Fit the ridge inside an emulator, or take it from the ridge baseline when that has the same recipe; what was chosen by target."""
    path = baseline_path(ground.cfg, "ridge")
    if _complete(path, baseline_recipe(ground.cfg, ground.store, "ridge")):
        run = load_run(path, device="cpu")
        if isinstance(run.emulator.backbone, Ridge) and run.card["statistics_digest"] == ground.statistics.digest:
            ridge.load_state_dict(run.emulator.backbone.state_dict())
            return dict(run.card["ridge"])
    days, refit = _days_to_fit(ground, emulator)
    names = {"targets": emulator.spec["targets"], "channels": map_names(emulator.spec)}
    return fit_ridge(ridge, *days, alphas=ground.cfg.ridge.alphas, refit=refit, **names)


def _spec(ground: Ground, name: str) -> dict[str, Any]:
    spec = model_spec(ground.cfg, ground.store, {"name": name}, ground.statistics)
    if name == "kernel_ridge":
        days = sum(len(portion.index) for portion in ground.train)
        features = input_channels(spec) * math.prod(spec["coarse_shape"]) + len(spec["scalars"])
        names = {"targets": spec["targets"], "channels": map_names(spec)}
        spec["kernel"] = kernel_sizes(days, ground.cfg.kernel_ridge.components, features, numbers=len(spec["scalars"]), **names)
    return spec


def _fit_kernel_ridge(ground: Ground, emulator: Emulator, model: KernelRidge) -> dict[str, Any]:
    days, refit = _days_to_fit(ground, emulator)
    names = {"targets": emulator.spec["targets"], "channels": map_names(emulator.spec)}
    return fit_kernel_ridge(model, *days, candidates=ground.cfg.kernel_ridge.model_dump(), refit=refit, **names)


def _days_to_fit(ground: Ground, emulator: Emulator) -> tuple[tuple[Days, Days], Days | None]:
    """The days to choose from and by, and those to fit again to."""
    days = _days(emulator, ground.choosing), _days(emulator, ground.validation)
    return days, None if ground.refit is None else _days(emulator, ground.refit)


def _days(emulator: Emulator, portions: Sequence[Portion]) -> Days:
    def stream() -> Iterator[tuple[Inputs, Tensor]]:
        for inputs, target in stream_samples(portions, Holes.of(emulator.spec)):
            yield inputs, emulator.to_loss_space(target, inputs)

    return stream


def _complete(path: Path, recipe: dict[str, Any]) -> bool:
    try:
        return standing(path, recipe, overwrite=False) == "complete"
    except OutputExistsError:
        return False
