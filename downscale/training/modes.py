"""The three ways to train: pretrain on pairs, fine-tune a run on others, or on a few whole years of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from downscale.config.load import dump_yaml
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError
from downscale.hpc.locks import folder_lock
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.models.registry import build
from downscale.pairs.build import STORE_NAME
from downscale.pairs.normalise import Statistics
from downscale.pairs.statistics import training_statistics
from downscale.pairs.store import PairStore
from downscale.training.assemble import check_channels, model_spec, new_emulator, resolve_device, statistics_summary
from downscale.training.baselines import Ground, fit_backbone, run_card, train_baseline
from downscale.training.checkpoint import CheckpointFolder, write_tensors
from downscale.training.folder import clear_state, log_to, standing, write_metrics, write_start
from downscale.training.loop import fit
from downscale.training.plan import Plan, plan_adaptation, plan_pretrain
from downscale.training.run import find_run, load_run, write_run
from downscale.training.samples import Holes, Samples, load_samples
from downscale.training.state import State
from downscale.training.watch import constant_targets, verdict

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
START = "start.safetensors"
SAVE_SECONDS = 20.0
_GPU_SHARE = 0.6


def train_run(
    cfg: ExperimentConfig,
    *,
    mode: str = "pretrain",
    source_run: str | Path | None = None,
    shots: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Train a network into ``WORKSPACE/runs/NAME``; pretraining also fits the baselines of ``train.baselines``.

    A complete run of the same recipe is left alone, an unfinished one goes on from its last checkpoint.

    Args:
        cfg: the experiment.
        mode: "pretrain", "finetune" or "few-shot".
        source_run: name or path of the run to go on from (finetune and few-shot).
        shots: whole years for few-shot; few_shot.shots when None.
        seed: replaces train.seed.
        name: of the run; made from model, pairs and mode when None.
        device: "auto", "cpu" or "cuda".
        overwrite: replace a run (and baselines of another recipe).
        dry_run: plan and build, write nothing.
        force_unlock: take over a dead job's lock.
        progress: called with (epoch, epochs, scores in words).

    Returns:
        ``artefact`` (the run folder) and a summary.

    Raises:
        ConfigError, InputDataError, OutputExistsError, EnvironmentMissingError: before anything is written, where that can be known.
        Stopped: a signal came; everything is saved.
    """
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    where = resolve_device(device)
    plan = _plan(cfg, store, mode=mode, source_run=source_run, shots=shots, seed=seed, name=name)
    if dry_run:
        parameters = sum(value.numel() for value in build(plan.spec).parameters())
        return {"artefact": None, "would write": str(plan.path), "parameters": parameters, "device": str(where), **plan.days}
    ground: Ground | None = None
    lines = []
    if mode == "pretrain":
        ground = Ground.of(cfg, store, _statistics(cfg, store, plan))
        spec = model_spec(cfg, store, plan.spec["model"], ground.statistics)
        plan = replace(plan, spec=spec, validation=list(ground.validation))
        lines = [train_baseline(ground, baseline, overwrite=overwrite, force_unlock=force_unlock) for baseline in cfg.train.baselines]
    state = standing(plan.path, plan.recipe, overwrite=overwrite)
    if state == "complete":
        log.info("%s is complete and has this recipe: nothing to do", plan.path)
        return {"artefact": plan.path, "unchanged": "the run is complete and has this recipe", "baselines": lines, **plan.days}
    with folder_lock(plan.path, force=force_unlock):
        write_start(plan.path, dump_yaml(cfg), plan.recipe, where)
        with log_to(plan.path):
            summary = _train(cfg, store, plan, ground, device=where, progress=progress)
    return {"artefact": plan.path, **summary, "baselines": lines, **plan.days}


def _plan(
    cfg: ExperimentConfig,
    store: PairStore,
    *,
    mode: str,
    source_run: str | Path | None,
    shots: int | None,
    seed: int | None,
    name: str | None,
) -> Plan:
    if mode == "pretrain":
        if source_run is not None or shots is not None:
            raise ConfigError("--from and --shots belong to --mode finetune and few-shot", hint="leave them out, or give the mode")
        return plan_pretrain(cfg, store, seed=seed, name=name)
    if mode not in ("finetune", "few-shot"):
        raise ConfigError(f"there is no training mode '{mode}'", hint="use pretrain, finetune or few-shot")
    if source_run is None:
        raise ConfigError(f"--mode {mode} needs a run to go on from", hint="give --from RUN")
    if shots is not None and mode != "few-shot":
        raise ConfigError("--shots belongs to --mode few-shot", hint="leave it out, or give the mode")
    source = load_run(find_run(cfg.workspace_path(), source_run), device="cpu")
    return plan_adaptation(cfg, store, source, mode=mode, shots=shots, seed=seed, name=name)


def _statistics(cfg: ExperimentConfig, store: PairStore, plan: Plan) -> Statistics:
    cases = [(name, kind) for name, _, kind in (case.partition("/") for case in cfg.train.on)]
    statistics = training_statistics(store, cases, dict(cfg.normalise.targets))
    spans = [f"{portion.days[0]} to {portion.days[-1]} of {portion.name}" for portion in plan.train]
    check_channels(cfg, store, statistics, f"{statistics.n_days} training days, {'; '.join(spans)}")
    return statistics


def _train(
    cfg: ExperimentConfig, store: PairStore, plan: Plan, ground: Ground | None, *, device: torch.device, progress: ProgressCallback | None
) -> dict[str, Any]:
    torch.manual_seed(plan.settings.seed)
    emulator = _start(plan, store, ground)
    holes = Holes.of(plan.spec)
    train, validation = (_on_device(load_samples(portions, holes), device) for portions in (plan.train, plan.validation))
    state = State(emulator.to(device), plan.settings)
    folder = CheckpointFolder(plan.path / "state")
    checkpoint = folder.load()
    if checkpoint is not None:
        state.restore(checkpoint)
        log.info("going on after epoch %d, step %d", state.epoch, state.step)
    log.info("%s: %d training days, %d validation days, on %s", plan.path.name, len(train), len(validation), device)
    _loop(plan, state, folder, (train, validation), progress)
    best = state.history[state.best_epoch]
    warnings = _warnings(state, validation)
    _publish(cfg, store, plan, ground, emulator, best)
    scores = ", ".join(f"{key.removeprefix('rmse_')} {value:.4g}" for key, value in best.items() if key.startswith("rmse_"))
    log.info("best epoch %d of %d, validation RMSE: %s", state.best_epoch, state.epoch, scores)
    told = {"warnings": warnings} if warnings else {}
    return {"epochs": state.epoch, "best epoch": state.best_epoch, "validation RMSE": scores, **told}


def _warnings(state: State, validation: Samples) -> list[str]:
    """What speaks against the finished run, logged."""
    found = verdict(state.history, state.best_epoch, state.settings.balance)
    dead = constant_targets(state.emulator, validation)
    if dead:
        found.append(f"{', '.join(dead)} is estimated the same on every validation day: evaluate will refuse the predictions")
    for warning in found:
        log.warning("%s", warning)
    return found


def _loop(plan: Plan, state: State, folder: CheckpointFolder, samples: tuple[Samples, Samples], progress: ProgressCallback | None) -> None:
    saved = time.monotonic()

    def save(current: State, now: bool) -> None:
        nonlocal saved
        if now or time.monotonic() - saved > SAVE_SECONDS:
            folder.save(current.checkpoint())
            saved = time.monotonic()

    def epoch_end(epoch: int, row: dict[str, float]) -> None:
        write_metrics(plan.path, state.history)
        if progress:
            scores = ", ".join(f"{key.removeprefix('rmse_')} {value:.3g}" for key, value in row.items() if key.startswith("rmse_"))
            progress(epoch, plan.settings.epochs, f"{plan.path.name}: validation loss {row['validation_loss']:.4f}, RMSE {scores}")

    with StopFlag() as stop, deterministic(state.emulator.device):
        fit(state, samples[0], samples[1], stop=stop, save=save, epoch_end=epoch_end)


def _start(plan: Plan, store: PairStore, ground: Ground | None) -> Emulator:
    """The emulator as it stands before the first step; kept on disk, so that a resumed run starts from the very same."""
    path = plan.path / "state" / START
    emulator = build(plan.spec)
    if path.exists():
        try:
            emulator.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError):
            log.warning("%s is damaged: starting anew", path)
            clear_state(plan.path)
        else:
            return emulator
    torch.manual_seed(plan.settings.seed)
    if plan.source is not None:
        emulator = build(plan.spec)
        emulator.load_state_dict(plan.source.emulator.state_dict())
    else:
        assert ground is not None
        emulator = new_emulator(plan.spec, store, ground.statistics)
        if emulator.backbone is not None:
            fit_backbone(ground, emulator, emulator.backbone)
    write_tensors(path, emulator.state_dict())
    return emulator


def _publish(cfg: ExperimentConfig, store: PairStore, plan: Plan, ground: Ground | None, emulator: Emulator, best: dict[str, Any]) -> None:
    if ground is not None:
        digest, normaliser = ground.statistics.digest, statistics_summary(plan.spec, ground.statistics)
    else:
        assert plan.source is not None
        digest, normaliser = plan.source.card["statistics_digest"], plan.source.normaliser
    card = run_card(cfg, mode=plan.mode, role="emulator", trained_on=plan.trained_on, recipe=plan.recipe, statistics=digest)
    card["source_run"] = plan.source.path.name if plan.source is not None else None
    card["best"] = best
    write_run(plan.path, emulator, (store.coarse, store.fine), card, normaliser)
    clear_state(plan.path)


def _on_device(samples: Samples, device: torch.device) -> Samples:
    """The days on the GPU when they take at most 60 % of what is free there, else in memory; batches then travel one by one."""
    if device.type != "cuda":
        return samples
    size = sum(tensor.numel() * tensor.element_size() for tensor in (samples.inputs.predictors, samples.inputs.scalars, samples.target))
    if size > _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        log.info("the days take %.1f GiB and stay in memory; batches travel to the GPU", size / 2**30)
        return samples
    return samples.to(device)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU: only algorithms whose result is the same each time."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
