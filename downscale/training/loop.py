"""The training loop: one function that fits on a screen, and a state that makes every stop exact."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from downscale.errors import Stopped
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training import watch
from downscale.training.distributed import ALONE, Ranks
from downscale.training.losses import Loss
from downscale.training.optimiser import gradient_norm, guarded_step
from downscale.training.state import State

if TYPE_CHECKING:  # the loop itself needs torch alone
    from downscale.training.feed import Batch, TrainingDays

log = logging.getLogger(__name__)
EVALUATION_DAYS = 256
CHECK_STEPS = 16
"""Steps after which losses that wait on a GPU are looked at, and after which ``save`` is asked within an epoch."""
EpochEnd = Callable[[int, dict[str, float]], None]
Save = Callable[[State, bool], None]
Augment = Callable[[Inputs], Inputs]


def fit(
    state: State, train: TrainingDays, validation: TrainingDays, *, stop: StopFlag, save: Save, epoch_end: EpochEnd,
    augment: Augment | None = None, ranks: Ranks = ALONE,
) -> None:  # fmt: skip
    """Train until the epochs are over or validation no longer improves; leaves the best weights in ``state.emulator`` (refit: the last).

    Going on from a saved state gives, on the CPU, the same bits as a run that was never interrupted. A step whose loss or gradient is
    not finite changes nothing and is told, on a GPU some steps later; a validation loss that explodes ends the training.

    Args:
        state: fresh or restored.
        train, validation: the days; the same on all processes.
        stop: looked at after every step.
        save: ``save(state, now)`` writes the state; called every 16 steps and after every epoch, where it may wait for a later one, and
            before stopping. All processes call it, the first one writes.
        epoch_end: called with the epoch and its metrics.
        augment: changes the inputs of every training batch; it draws from torch's global generators alone.
        ranks: the processes that train together.

    Raises:
        Stopped: the flag rose on any process; the state is saved.
        InputDataError, DownscaleError: three steps in a row are not finite, by the data or by the training; their days are listed. What
            ``save`` wrote before stays.
    """
    settings = state.settings
    if state.epoch == 0 and not state.history:
        _validate(state, validation, epoch_end, ranks, seconds=0.0)
    while state.epoch < settings.epochs and state.improving and not watch.exploded(state.history, state.loss.balance):
        started = time.monotonic()
        for stopped in _epoch(state, train, stop, augment, ranks):
            _save(state, save, ranks, now=stopped)
            if stopped:
                reason = f"stopped by {stop.name or 'another process'} in epoch {state.epoch + 1}, everything saved"
                raise Stopped(reason, hint="run the command again to go on")
        state.epoch, state.step = state.epoch + 1, 0
        _validate(state, validation, epoch_end, ranks, seconds=time.monotonic() - started)
        _save(state, save, ranks, now=False)
    state.restore_best()
    state.emulator.eval()


def _epoch(state: State, train: TrainingDays, stop: StopFlag, augment: Augment | None, ranks: Ranks) -> Iterator[bool]:
    """The steps of an epoch that are left. Yields where the state may be saved within it, and whether it has to be: the flag rose."""
    batches = state.batches(train.order)
    left = batches[state.step :]
    feed = train.epoch([ranks.share(index) for index in left], state.emulator.device)
    every = _every(state.emulator.device)
    waiting: list[tuple[Tensor, Tensor]] = []
    state.emulator.train()
    for index, batch in zip(left, feed, strict=True):
        state.set_learning_rate(len(batches))
        waiting.append((index, _step(state, batch, len(index), augment, ranks)))
        stopped, done = ranks.any(stop.set), state.step + len(waiting)
        if stopped or done % every == 0 or done == len(batches):
            _settle(state, train, waiting)
            waiting = []
        if stopped or (done % CHECK_STEPS == 0 and done < len(batches)):
            yield stopped


def _every(device: torch.device) -> int:
    """Steps after which losses are looked at: at once where nothing has to be waited for."""
    return 1 if device.type == "cpu" else CHECK_STEPS


def _step(state: State, batch: Batch, days: int, augment: Augment | None, ranks: Ranks) -> Tensor:
    """One optimiser step, in ``accumulate`` parts one after the other; nothing in it waits for a GPU.

    Args:
        batch: this process's share of a batch, inputs and truth.
        days: of the whole batch.

    Returns:
        loss (in front of the step, without the pull of L2-SP) and norm of the gradient, on the device. Where one of them is not finite
        the step was left out.
    """
    inputs, truth = batch
    running, losses = state.running_copy(), []
    state.optimiser.zero_grad(set_to_none=True)
    parts = ranks.parts(days, state.settings.accumulate)
    for span, counted, weight in parts:
        part, known = (inputs[span], truth[span]) if len(parts) > 1 else batch
        known = known if counted == len(known) else torch.cat([known[:counted], torch.full_like(known[counted:], torch.nan)])
        sums = state.loss.totals(state.emulator, augment(part) if augment else part, known)
        loss = state.loss.combine(*(ranks.total(value) for value in sums)) * weight
        (loss + state.anchor_penalty() / (len(parts) * ranks.world)).backward()
        losses.append(loss.detach())
    ranks.add_gradients(state.parameters.values())
    whole, norm = torch.stack(losses).sum(), gradient_norm(state.parameters.values())
    state.moved(guarded_step(state.optimiser, whole, norm, state.settings.clip), running)
    return torch.stack([whole, norm])


def _settle(state: State, train: TrainingDays, waiting: list[tuple[Tensor, Tensor]]) -> None:
    """Count the steps whose losses waited on the device; tell those that were left out, and raise at the third in a row."""
    for (index, _), (loss, norm) in zip(waiting, torch.stack([found for _, found in waiting]).tolist(), strict=True):
        good = watch.finite(loss, norm)
        if not good:
            days = train.labels(index)
            (batch,) = train.epoch([index], state.emulator.device)
            state.bad_days += days
            state.bad_data += watch.absurd_days(state.emulator, *batch, days)
            watch.bad_step(state.epoch + 1, state.bad_steps + 1, days, loss, norm)
            if state.bad_steps + 1 >= watch.BAD_STEPS:
                raise watch.too_many_bad_steps(state.epoch + 1, state.bad_days, data=state.bad_data)
        state.count(loss if good else None, len(index))


def _save(state: State, save: Save, ranks: Ranks, *, now: bool) -> None:
    """Bring the random numbers of all processes together and let the first one write; when it has to be now, the others wait for it."""
    if ranks.world > 1:
        state.randomness = ranks.gather(state.random_numbers())
    if ranks.first:
        save(state, now)
    if now:
        ranks.wait()


def _validate(state: State, validation: TrainingDays, epoch_end: EpochEnd, ranks: Ranks, *, seconds: float) -> None:
    """Score the weights that would be kept, remember the best, count the bad epochs, tell the caller. Epoch 0 is the start itself."""
    with state.averaged_weights():
        scores = evaluate(state.emulator, validation, state.loss, ranks)
        state.judge(scores["validation_loss"])
    seen = state.samples_seen
    train_loss = state.loss_sum / seen if seen else float("nan")
    state.loss_sum, state.samples_seen = 0.0, 0
    losses = {"train_loss": train_loss, "validation_loss": scores.pop("validation_loss")}
    row: dict[str, Any] = {"epoch": state.epoch, **losses, "lr": state.learning_rate, "seconds": round(seconds, 3), **scores}
    state.history.append(row)
    if ranks.first:
        epoch_end(state.epoch, row)


def evaluate(emulator: Emulator, days: TrainingDays, loss: Loss, ranks: Ranks = ALONE) -> dict[str, float]:
    """Loss in loss space and RMSE of each target in working units, over all valid cells and days; each process takes some of the days."""
    emulator.eval()
    sums = torch.zeros(4, len(emulator.spec["targets"]), dtype=torch.float64, device=emulator.device)
    with torch.inference_mode():
        for number, (inputs, truth) in enumerate(days.blocks(EVALUATION_DAYS, emulator.device)):
            if number % ranks.world == ranks.rank:
                total, valid, estimate = loss.judge(emulator, inputs, truth)
                error = estimate - truth
                squares = torch.nan_to_num(error.square()).double().sum((0, 2, 3))
                sums += torch.stack([total.double(), valid.double(), squares, torch.isfinite(error).sum((0, 2, 3)).double()])
    total, valid, squares, counts = ranks.total(sums).cpu()
    rmse = (squares / counts.clamp(min=1)).sqrt().tolist()
    named = {f"rmse_{name}": value for name, value in zip(emulator.spec["targets"], rmse, strict=True)}
    return {"validation_loss": float(loss.combine(total, valid)), **named}
