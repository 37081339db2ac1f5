"""One network's way through training: from its first weights, or where it was stopped, to the published run."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from downscale.config.schema import ExperimentConfig
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.models.linear import Ridge
from downscale.models.registry import build
from downscale.pairs.store import PairStore
from downscale.training.adaptation import make_ready
from downscale.training.assemble import load_statistics, new_emulator, statistics_summary
from downscale.training.augment import augmenter
from downscale.training.baselines import Ground, calendars_of, fit_backbone, run_card
from downscale.training.checkpoint import CheckpointFolder, write_tensors
from downscale.training.distributed import ALONE, Ranks
from downscale.training.feed import TrainingDays
from downscale.training.folder import clear_state, write_metrics
from downscale.training.loop import Augment, EpochEnd, fit
from downscale.training.loss_fields import training_loss, work_out_weights
from downscale.training.novelty import fit_novelty
from downscale.training.plan import Plan, models_behind
from downscale.training.precision import choose, computed
from downscale.training.run import write_run
from downscale.training.samples import Holes
from downscale.training.scaling import require_scaling
from downscale.training.state import State
from downscale.training.watch import constant_targets, verdict

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
START = "start.safetensors"
SAVE_SECONDS = 2.0
"""Shortest time between two checkpoints that nobody asked for."""
_SAVE_SHARE = 0.02
"""Share of the time that they may take."""


def train_network(
    cfg: ExperimentConfig, store: PairStore, plan: Plan, ground: Ground | None, emulator: Emulator, *, stop: StopFlag,
    ranks: Ranks = ALONE, progress: ProgressCallback | None = None, save_seconds: float = SAVE_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """Train as planned, from the last checkpoint where there is one, and publish the run; a summary.

    Args:
        cfg, store, plan: what is trained on what.
        ground: what pretraining shares with the baselines; None when a run is adapted.
        emulator: from first_weights, on its device.
        stop: looked at after every step.
        ranks: the processes that train together; the first one writes.
        progress: called with (epoch, epochs, scores in words).
        save_seconds: shortest time between two checkpoints.

    Raises:
        Stopped, InputDataError, DownscaleError, EnvironmentMissingError: see run_session.
    """
    device, holes, feeding = emulator.device, Holes.of(plan.spec), plan.feeding
    assert feeding is not None
    days = tuple(feeding.open(store, portions, holes, device) for portions in (plan.train, plan.validation))
    names = make_ready(emulator, plan.method, plan.train)
    state = State(emulator, plan.settings, training_loss(cfg.loss, store, plan.train, device), trainable=names)
    work_out_weights(state.loss, *days)
    ranks.seed(plan.settings.seed)
    augment = augmenter(cfg.train.augment, ground.statistics, device) if ground is not None else None
    stop.begin()
    run_session(
        state, (days[0], days[1]), CheckpointFolder(plan.path / "state"), stop=stop, epoch_end=_teller(plan, state, progress),
        augment=augment, ranks=ranks, save_seconds=save_seconds,
    )  # fmt: skip
    best = state.history[state.best_epoch]
    scores = ", ".join(f"{key.removeprefix('rmse_')} {value:.4g}" for key, value in best.items() if key.startswith("rmse_"))
    warnings = warnings_of(state, days[1])
    if ranks.first:
        _publish(cfg, store, plan, ground, emulator, best)
    kept, judged = ("epoch kept", "RMSE of days learned from") if plan.settings.refit else ("best epoch", "validation RMSE")
    log.info("%s %d of %d, %s: %s", kept, state.best_epoch, state.epoch, judged, scores)
    told = {"warnings": warnings} if warnings else {}
    return {"epochs": state.epoch, kept: state.best_epoch, judged: scores, **told}


def run_session(
    state: State, days: tuple[TrainingDays, TrainingDays], folder: CheckpointFolder, *, stop: StopFlag, epoch_end: EpochEnd,
    augment: Augment | None = None, ranks: Ranks = ALONE, save_seconds: float = SAVE_SECONDS,
) -> None:  # fmt: skip
    """Train to the end, from the last checkpoint where there is one; the best weights are in ``state.emulator`` afterwards.

    Args:
        state: fresh; its emulator on its device.
        days: to train on and to validate on.
        folder: of the checkpoints.
        stop, epoch_end, augment, ranks: see loop.fit.
        save_seconds: shortest time between two checkpoints; a checkpoint that takes long to write is written less often.

    Raises:
        EnvironmentMissingError: the device lacks the precision that the settings want, or there is no compiler.
        Stopped, InputDataError, DownscaleError: see loop.fit.
    """
    device, settings = state.emulator.device, state.settings
    precision = choose(settings.precision, device, compiled=settings.compile)
    state.rank, state.world = ranks.rank, ranks.world
    with computed(state.emulator, precision), deterministic(device):
        checkpoint = folder.load()
        if checkpoint is not None:
            state.restore(checkpoint)
            log.info("going on after epoch %d, step %d", state.epoch, state.step)
        log.info("%d training days, %d validation days, on %s, %s", len(days[0]), len(days[1]), device, precision)
        fit(state, *days, stop=stop, save=_saver(folder, save_seconds), epoch_end=epoch_end, augment=augment, ranks=ranks)


def warnings_of(state: State, validation: TrainingDays) -> list[str]:
    """What speaks against a finished training, logged."""
    found = verdict(state.history, state.best_epoch, state.loss.balance)
    dead = constant_targets(state.emulator, validation)
    if dead:
        found.append(f"{', '.join(dead)} is estimated the same on every validation day: evaluate will refuse the predictions")
    for warning in found:
        log.warning("%s", warning)
    return found


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


def _saver(folder: CheckpointFolder, seconds: float) -> Callable[[State, bool], None]:
    """Writes a checkpoint when it has to be now, or when ``seconds`` and 50 times what the last one took have passed."""
    ended, took = time.monotonic(), 0.0

    def save(state: State, now: bool) -> None:
        nonlocal ended, took
        started = time.monotonic()
        if now or started - ended > (max(seconds, took / _SAVE_SHARE) if seconds else 0.0):
            folder.save(state.checkpoint())
            ended = time.monotonic()
            took = ended - started

    return save


def _teller(plan: Plan, state: State, progress: ProgressCallback | None) -> EpochEnd:
    """Writes metrics.csv after each epoch and says how it stands."""

    def epoch_end(epoch: int, row: dict[str, float]) -> None:
        write_metrics(plan.path, state.history)
        if progress:
            scores = ", ".join(f"{key.removeprefix('rmse_')} {value:.3g}" for key, value in row.items() if key.startswith("rmse_"))
            progress(epoch, plan.settings.epochs, f"{plan.path.name}: validation loss {row['validation_loss']:.4f}, RMSE {scores}")

    return epoch_end


def first_weights(plan: Plan, store: PairStore, ground: Ground | None) -> Emulator:
    """The emulator as it stands before the first step; kept on disk, so that a resumed run starts from the very same."""
    path = plan.path / "state" / START
    torch.manual_seed(plan.settings.seed)  # as below: the training draws on from here
    emulator = build(plan.spec)
    if path.exists():
        try:
            emulator.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError):
            log.warning("%s is damaged: starting anew", path)
            clear_state(plan.path)
        else:
            if ground is not None:
                load_statistics(today := copy.deepcopy(emulator), ground.statistics)
                require_scaling(today, emulator, path)
            return emulator
    torch.manual_seed(plan.settings.seed)
    if plan.source is not None:
        emulator = build(plan.spec)
        emulator.load_state_dict(plan.source.emulator.state_dict())
    else:
        assert ground is not None
        emulator = new_emulator(plan.spec, store, ground.statistics)
        if isinstance(emulator.backbone, Ridge):
            fit_backbone(ground, emulator, emulator.backbone)
    write_tensors(path, emulator.state_dict())
    return emulator


def _publish(cfg: ExperimentConfig, store: PairStore, plan: Plan, ground: Ground | None, emulator: Emulator, best: dict[str, Any]) -> None:
    if ground is not None:
        digest, normaliser = ground.statistics.digest, statistics_summary(plan.spec, ground.statistics)
    else:
        assert plan.source is not None
        digest, normaliser = plan.source.card["statistics_digest"], plan.source.normaliser
    card = run_card(
        cfg,
        mode=plan.mode,
        role="emulator",
        trained_on=plan.trained_on,
        recipe=plan.recipe,
        statistics=digest,
        calendars=calendars_of(store, plan.on, plan.source.card if plan.source is not None else None),
    )
    card["source_run"] = plan.source.path.name if plan.source is not None else None
    card["emulates"] = models_behind(cfg, store, plan.on, plan.source)
    card["best"] = best
    known = fit_novelty(emulator, plan.train, plan.validation)
    if known is not None:
        card["novelty"] = known.write(plan.path)
    write_run(plan.path, emulator, (store.coarse, store.fine), card, normaliser)
    clear_state(plan.path)
