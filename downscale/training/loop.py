"""The training loop: one function that fits on a screen, and a state that makes every stop exact."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from downscale.errors import Stopped
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training import watch
from downscale.training.losses import combine, totals
from downscale.training.samples import Samples
from downscale.training.state import State

log = logging.getLogger(__name__)
EVALUATION_DAYS = 256
EpochEnd = Callable[[int, dict[str, float]], None]
Save = Callable[[State, bool], None]


def fit(state: State, train: Samples, validation: Samples, *, stop: StopFlag, save: Save, epoch_end: EpochEnd) -> None:
    """Train until the epochs are over or validation no longer improves; leaves the best weights in ``state.emulator``.

    Going on from a saved state gives, on the CPU, the same bits as a run that was never interrupted. A step whose loss or gradient is
    not finite changes nothing and is told; a validation loss that explodes ends the training.

    Args:
        state: fresh or restored.
        train, validation: on the device of the emulator, or on the CPU when they are too large for it.
        stop: looked at after every step.
        save: ``save(state, now)`` writes the state; called after every epoch, where it may wait for a later one, and before stopping.
        epoch_end: called with the epoch and its metrics.

    Raises:
        Stopped: the flag rose; the state is saved.
        InputDataError, DownscaleError: three steps in a row are not finite, by the data or by the training; their days are listed. What
            ``save`` wrote before stays.
    """
    emulator, settings = state.emulator, state.settings
    if state.epoch == 0 and not state.history:
        _validate(state, validation, epoch_end, seconds=0.0)
    while state.epoch < settings.epochs and state.bad_epochs < settings.patience and not watch.exploded(state.history, settings.balance):
        started, batches = time.monotonic(), state.batches(len(train))
        emulator.train()
        for index in batches[state.step :]:
            state.set_learning_rate(len(batches))
            loss = _step(state, train, index)
            state.count(loss, len(index))
            if stop.set:
                save(state, True)
                raise Stopped(f"stopped by {stop.name} in epoch {state.epoch + 1}, everything saved", hint="run the command again to go on")
        state.epoch, state.step = state.epoch + 1, 0
        _validate(state, validation, epoch_end, seconds=time.monotonic() - started)
        save(state, False)
    state.restore_best()
    emulator.eval()


def _step(state: State, train: Samples, index: Tensor) -> float | None:
    """One optimiser step; the loss of the batch in front of it, without the pull of L2-SP, or None for a step that was left out."""
    device = state.emulator.device
    inputs, truth = train.inputs[index].to(device), train.target[index].to(device)
    running = state.running_copy()
    parts = totals(state.settings.loss, state.emulator.transformed(inputs), state.emulator.target(truth))
    loss = combine(*parts, state.settings.balance)
    state.optimiser.zero_grad(set_to_none=True)
    (loss + state.anchor_penalty()).backward()
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), state.settings.clip)
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
        state.put_back(running)
        state.optimiser.zero_grad(set_to_none=True)
        _left_out(state, [train.labels[i] for i in index.tolist()], (inputs, truth), float(loss.detach()), float(norm))
        return None
    state.optimiser.step()
    state.update_average()
    return float(loss.detach())


def _left_out(state: State, days: list[str], batch: tuple[Inputs, Tensor], loss: float, norm: float) -> None:
    """Count and tell a bad step; raise at the third in a row."""
    state.bad_days += days
    state.bad_data += watch.absurd_days(state.emulator, *batch, days)
    watch.bad_step(state.epoch + 1, state.bad_steps + 1, days, loss, norm)
    if state.bad_steps + 1 >= watch.BAD_STEPS:
        raise watch.too_many_bad_steps(state.epoch + 1, state.bad_days, data=state.bad_data)


def _validate(state: State, validation: Samples, epoch_end: EpochEnd, *, seconds: float) -> None:
    """Score the weights that would be kept, remember the best, count the bad epochs, tell the caller. Epoch 0 is the start itself."""
    with state.averaged_weights():
        scores = evaluate(state.emulator, validation, state.settings.loss, state.settings.balance)
        state.judge(scores["validation_loss"])
    seen = state.samples_seen
    train_loss = state.loss_sum / seen if seen else float("nan")
    state.loss_sum, state.samples_seen = 0.0, 0
    losses = {"train_loss": train_loss, "validation_loss": scores.pop("validation_loss")}
    row: dict[str, Any] = {"epoch": state.epoch, **losses, "lr": state.learning_rate, "seconds": round(seconds, 3), **scores}
    state.history.append(row)
    epoch_end(state.epoch, row)


def evaluate(emulator: Emulator, samples: Samples, loss: str, balance: str) -> dict[str, float]:
    """Loss in loss space and RMSE of each target in working units, over all valid cells and days."""
    emulator.eval()
    total, valid, squares, counts = (torch.zeros(len(emulator.spec["targets"]), dtype=torch.float64) for _ in range(4))
    with torch.inference_mode():
        for start in range(0, len(samples), EVALUATION_DAYS):
            window = slice(start, start + EVALUATION_DAYS)
            inputs, truth = samples.inputs[window].to(emulator.device), samples.target[window].to(emulator.device)
            estimate = emulator.transformed(inputs)
            parts = totals(loss, estimate, emulator.target(truth))
            total += parts[0].double().cpu()
            valid += parts[1].cpu()
            error = emulator.target.inverse(estimate) - truth
            squares += torch.nan_to_num(error.square()).double().sum((0, 2, 3)).cpu()
            counts += torch.isfinite(error).sum((0, 2, 3)).cpu()
    rmse = (squares / counts.clamp(min=1)).sqrt().tolist()
    named = {f"rmse_{name}": value for name, value in zip(emulator.spec["targets"], rmse, strict=True)}
    return {"validation_loss": float(combine(total, valid, balance)), **named}
