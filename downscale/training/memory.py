"""A training in memory, without a run folder: what a grid of many small trainings needs."""

from __future__ import annotations

from pathlib import Path

from downscale.config.schema import ExperimentConfig
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.pairs.store import PairStore
from downscale.training.adaptation import make_ready
from downscale.training.checkpoint import CheckpointFolder
from downscale.training.days import Feeding
from downscale.training.loss_fields import training_loss, work_out_weights
from downscale.training.plan import Plan
from downscale.training.samples import Holes
from downscale.training.session import run_session
from downscale.training.state import State


def train_in_memory(cfg: ExperimentConfig, store: PairStore, plan: Plan, emulator: Emulator, folder: Path, stop: StopFlag) -> int:
    """Train an emulator as its plan says; it ends with the best weights.

    Args:
        cfg: its ``loss``.
        store: the pairs.
        plan: days, settings and method; the source is not looked at.
        emulator: as it begins, on its device.
        folder: of the checkpoints; a training that began there goes on.
        stop: looked at after every step.

    Returns:
        the number of weights that moved (for calibration: of the numbers that were fitted).

    Raises:
        Stopped: the flag rose; the state is saved.
    """
    names, device = make_ready(emulator, plan.method, plan.train), emulator.device
    if plan.method == "calibration":
        return 2 * emulator.target.mean.numel()
    feeding, holes = plan.feeding or Feeding(), Holes.of(plan.spec)
    train, validation = (feeding.open(store, portions, holes, device) for portions in (plan.train, plan.validation))
    state = State(emulator, plan.settings, training_loss(cfg.loss, store, plan.train, device), trainable=names)
    work_out_weights(state.loss, train, validation)
    run_session(state, (train, validation), CheckpointFolder(folder), stop=stop, epoch_end=lambda epoch, row: None)
    return sum(value.numel() for value in state.parameters.values())
